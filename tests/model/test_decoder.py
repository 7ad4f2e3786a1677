import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from multispace.model.decoder import Decoder
from multispace.model.recurrent import CELLS

WORDS, CONDITION, EMBEDDING, HIDDEN = 11, 4, 3, 5
LENGTHS = [6, 6, 4, 1]
BOS, UNKNOWN = 1, 3

NETWORKS = pytest.mark.parametrize(
    ("cell", "layers"), [("lstm", 1), ("gru", 1), ("lstm", 3), ("gru", 2)]
)


def make(**values) -> Decoder:
    torch.manual_seed(0)
    sizes = {"words": WORDS, "condition": CONDITION, "embedding": EMBEDDING, "hidden": HIDDEN}
    return Decoder(**{**sizes, **values}).double()


def drawn(**values) -> Decoder:
    """Return a decoder none of whose parameters is left at 0 or 1."""
    decoder = make(**values)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(std=0.5)
    return decoder


def batch() -> tuple[Tensor, Tensor, PackedSequence]:
    """Return conditions (B, C), words (B, T) and the words packed step by step."""
    torch.manual_seed(1)
    condition = torch.randn(len(LENGTHS), CONDITION, dtype=torch.float64)
    words = torch.randint(WORDS, (len(LENGTHS), max(LENGTHS)))
    return condition, words, pack_padded_sequence(words, torch.tensor(LENGTHS), batch_first=True)


def by_torch(decoder: Decoder, cell: str, condition: Tensor, words: Tensor) -> Tensor:
    """Run torch's network over [condition ; embedding] with the decoder's weights. (N, V)"""
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
    inputs = (decoder.word_gates, *decoder.upper_gates)
    recurrent = (decoder.recurrent_gates, *decoder.upper_recurrent_gates)
    network = kind(CONDITION + EMBEDDING, HIDDEN, len(inputs), batch_first=True).double()
    with torch.no_grad():
        for layer, (read, own) in enumerate(zip(inputs, recurrent, strict=True)):
            parts = (read.weight,) if layer else (decoder.condition_gates.weight, read.weight)
            getattr(network, f"weight_ih_l{layer}").copy_(torch.cat(parts, dim=1))
            getattr(network, f"bias_ih_l{layer}").copy_(read.bias)
            getattr(network, f"weight_hh_l{layer}").copy_(own.weight)
            getattr(network, f"bias_hh_l{layer}").copy_(0 if own.bias is None else own.bias)
    embedded = decoder.embedding(words)
    repeated = condition[:, None].expand(-1, words.shape[1], -1)
    packed = pack_padded_sequence(
        torch.cat((repeated, embedded), dim=2), torch.tensor(LENGTHS), batch_first=True
    )
    return decoder.output(network(packed)[0].data)


@NETWORKS
def test_the_split_product_is_the_network_over_the_concatenation(cell, layers):
    decoder = drawn(cell=cell, layers=layers)
    condition, words, packed = batch()
    logits = decoder(condition, packed.data, packed.batch_sizes.tolist())
    torch.testing.assert_close(logits, by_torch(decoder, cell, condition, words))


@NETWORKS
def test_the_condition_gets_the_gradient_of_the_concatenation(cell, layers):
    decoder = drawn(cell=cell, layers=layers)
    condition, words, packed = batch()
    ours, theirs = (condition.clone().requires_grad_() for _ in range(2))
    decoder(ours, packed.data, packed.batch_sizes.tolist()).square().sum().backward()
    by_torch(decoder, cell, theirs, words).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@NETWORKS
def test_steps_one_by_one_are_forward(cell, layers):
    decoder = drawn(cell=cell, layers=layers, dropout=0.5, word_dropout=0.5).eval()
    condition, words, packed = batch()
    expected = iter(decoder(condition, packed.data, packed.batch_sizes.tolist()))
    state = decoder.start(condition)
    for step, batch_sizes in enumerate(packed.batch_sizes.tolist()):
        state, logits = decoder.step(state, words[:, step])
        for row in logits[:batch_sizes]:
            torch.testing.assert_close(row, next(expected))
    assert next(expected, None) is None


@NETWORKS
def test_selected_states_go_on_as_they_would_have(cell, layers):
    decoder = drawn(cell=cell, layers=layers)
    condition, words, _ = batch()
    state, _ = decoder.step(decoder.start(condition), words[:, 0])
    rows = torch.tensor([2, 0, 2])
    _, logits = decoder.step(state, words[:, 1])
    _, selected = decoder.step(state.select(rows), words[rows, 1])
    torch.testing.assert_close(selected, logits[rows])


def test_dropout_is_for_training_alone():
    decoder = make(dropout=0.5)
    condition, _, packed = batch()
    arguments = condition, packed.data, packed.batch_sizes.tolist()
    assert not torch.equal(decoder(*arguments), decoder(*arguments))
    decoder.eval()
    assert torch.equal(decoder(*arguments), decoder(*arguments))


def test_dropout_falls_on_words_and_on_the_outputs_of_each_layer():
    decoder = make(dropout=0.5, layers=2)
    condition, _, packed = batch()
    sizes = []
    decoder.dropout.register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
    decoder(condition, packed.data, packed.batch_sizes.tolist())
    assert sizes == [EMBEDDING, HIDDEN, HIDDEN]


def test_word_dropout_replaces_a_share_of_the_words_but_never_bos():
    captions, share = 4000, 0.3
    decoder = drawn(word_dropout=share)
    condition = torch.zeros(1, CONDITION, dtype=torch.float64).expand(captions, -1)
    first, word, unknown = (torch.full((captions,), word) for word in (BOS, 7, UNKNOWN))
    batch_sizes = [captions, captions]
    torch.manual_seed(2)
    read = decoder(condition, torch.cat((first, word)), batch_sizes)
    decoder.eval()
    kept = decoder(condition, torch.cat((first, word)), batch_sizes)
    replaced = decoder(condition, torch.cat((first, unknown)), batch_sizes)
    torch.testing.assert_close(read[:captions], kept[:captions])
    dropped = (read - kept)[captions:].abs().amax(1) > 1e-9
    torch.testing.assert_close(read[captions:][dropped], replaced[captions:][dropped])
    error = dropped.double().mean().item() - share
    assert abs(error) < 4 * math.sqrt(share * (1 - share) / captions)


def test_word_dropout_is_drawn_from_torchs_generator():
    decoder = drawn(word_dropout=0.5)
    condition, _, packed = batch()

    def logits(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return decoder(condition, packed.data, packed.batch_sizes.tolist())

    assert torch.equal(logits(0), logits(0))
    assert not torch.equal(logits(0), logits(1))


def test_tied_logits_are_products_with_the_word_vectors():
    decoder = drawn(embedding=HIDDEN, tie=True)
    plain = drawn(embedding=HIDDEN)
    weights = {**decoder.state_dict(), "output.weight": decoder.embedding.weight}
    plain.load_state_dict(weights)
    condition, _, packed = batch()
    arguments = condition, packed.data, packed.batch_sizes.tolist()
    ours, theirs = decoder(*arguments), plain(*arguments)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(
        decoder.embedding.weight.grad, plain.embedding.weight.grad + plain.output.weight.grad
    )
    assert "output.weight" not in dict(decoder.named_parameters())


@pytest.mark.parametrize("layers", [1, 2])
def test_gates_begin_by_remembering(layers):
    decoder = make(layers=layers)
    for inputs in (decoder.word_gates, *decoder.upper_gates):
        bias = inputs.bias.view(4, HIDDEN)  # in, forget, new, out
        assert bias.tolist() == [[0] * HIDDEN, [1] * HIDDEN, [0] * HIDDEN, [0] * HIDDEN]


def test_a_gru_begins_without_biases():
    decoder = make(cell="gru")
    assert not decoder.word_gates.bias.any()
    assert not decoder.recurrent_gates.bias.any()


def test_the_names_of_the_weights_are_those_of_earlier_checkpoints():
    assert list(make().state_dict()) == [
        "embedding.weight",
        "word_gates.weight",
        "word_gates.bias",
        "condition_gates.weight",
        "recurrent_gates.weight",
        "output.weight",
        "output.bias",
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_have_the_type_of_the_weights(dtype):
    condition, _, packed = batch()
    logits = make().to(dtype)(condition.to(dtype), packed.data, packed.batch_sizes.tolist())
    assert logits.dtype == dtype
    assert logits.shape == (sum(LENGTHS), WORDS)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_a_gpus_way_to_the_outputs_gives_the_same(cell, layers, precision, monkeypatch):
    torch.manual_seed(0)
    decoder = Decoder(words=11, condition=3, embedding=4, hidden=6, cell=cell, layers=layers)
    condition = torch.randn(4, 3, requires_grad=True)
    batch_sizes = (4, 4, 2, 1)
    inputs = torch.randint(11, (sum(batch_sizes),))
    factors = torch.randn(sum(batch_sizes), 6)
    leaves = [condition, *(p for n, p in decoder.named_parameters() if not n.startswith("output"))]
    found = []
    for on_gpu in (False, True):
        monkeypatch.setattr("multispace.model.decoder.is_gpu", lambda device, it=on_gpu: it)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            outputs = decoder.outputs(condition, inputs, batch_sizes)
        gradients = torch.autograd.grad((outputs * factors).sum(), leaves)
        found.append((outputs, *gradients))
    tolerance = 1e-5 if precision == torch.float32 else 0.05
    torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)


def test_a_gpus_dropout_is_the_same_for_each_occurrence_of_a_word(monkeypatch):
    monkeypatch.setattr("multispace.model.decoder.is_gpu", lambda device: True)
    torch.manual_seed(0)
    decoder = Decoder(words=11, condition=3, embedding=4, hidden=6, dropout=0.5)
    monkeypatch.setattr(decoder.cell, "run_fused", lambda inputs, *rest: inputs)
    outputs = decoder._first_outputs_fused(torch.ones(4, 3), torch.tensor([1, 5, 5, 5]), (4,))
    torch.testing.assert_close(outputs[2:], outputs[1:2].expand(2, -1))
    assert (outputs[:, :4] == 0).any()
