import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from model.decoder import Decoder

WORDS, CONDITION, EMBEDDING, HIDDEN = 11, 4, 3, 5
LENGTHS = [6, 6, 4, 1]


def make(dropout: float = 0.0) -> Decoder:
    torch.manual_seed(0)
    return Decoder(
        words=WORDS, condition=CONDITION, embedding=EMBEDDING, hidden=HIDDEN, dropout=dropout
    ).double()


def batch() -> tuple[Tensor, Tensor, PackedSequence]:
    """Return conditions (B, C), words (B, T) and the words packed step by step."""
    torch.manual_seed(1)
    condition = torch.randn(len(LENGTHS), CONDITION, dtype=torch.float64)
    words = torch.randint(WORDS, (len(LENGTHS), max(LENGTHS)))
    return condition, words, pack_padded_sequence(words, torch.tensor(LENGTHS), batch_first=True)


def by_torch(decoder: Decoder, condition: Tensor, words: Tensor) -> Tensor:
    """Run torch's LSTM over [condition ; embedding] with the decoder's weights. (N, V)"""
    lstm = nn.LSTM(CONDITION + EMBEDDING, HIDDEN, batch_first=True).double()
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(
            torch.cat((decoder.condition_gates.weight, decoder.word_gates.weight), dim=1)
        )
        lstm.weight_hh_l0.copy_(decoder.recurrent_gates.weight)
        lstm.bias_ih_l0.copy_(decoder.word_gates.bias)
        lstm.bias_hh_l0.zero_()
    embedded = decoder.embedding(words)
    repeated = condition[:, None].expand(-1, words.shape[1], -1)
    inputs = torch.cat((repeated, embedded), dim=2)
    packed = pack_padded_sequence(inputs, torch.tensor(LENGTHS), batch_first=True)
    return decoder.output(lstm(packed)[0].data)


def test_the_split_product_is_the_lstm_over_the_concatenation():
    decoder = make()
    condition, words, packed = batch()
    logits = decoder(condition, packed.data, packed.batch_sizes.tolist())
    torch.testing.assert_close(logits, by_torch(decoder, condition, words))


def test_the_condition_gets_the_gradient_of_the_concatenation():
    decoder = make()
    condition, words, packed = batch()
    ours, theirs = (condition.clone().requires_grad_() for _ in range(2))
    decoder(ours, packed.data, packed.batch_sizes.tolist()).square().sum().backward()
    by_torch(decoder, theirs, words).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_steps_one_by_one_are_forward():
    decoder = make(dropout=0.5).eval()
    condition, words, packed = batch()
    expected = iter(decoder(condition, packed.data, packed.batch_sizes.tolist()))
    state = decoder.start(condition)
    for step, active in enumerate(packed.batch_sizes.tolist()):
        state, logits = decoder.step(state, words[:, step])
        for row in logits[:active]:
            torch.testing.assert_close(row, next(expected))
    assert next(expected, None) is None


def test_selected_states_go_on_as_they_would_have():
    decoder = make()
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


def test_dropout_falls_on_words_and_on_outputs():
    decoder = make(dropout=0.5)
    condition, _, packed = batch()
    sizes = []
    decoder.dropout.register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
    decoder(condition, packed.data, packed.batch_sizes.tolist())
    assert sizes == [EMBEDDING, HIDDEN]


def test_gates_begin_by_remembering():
    bias = make().word_gates.bias.view(4, HIDDEN)  # in, forget, new, out
    assert bias.tolist() == [[0] * HIDDEN, [1] * HIDDEN, [0] * HIDDEN, [0] * HIDDEN]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_have_the_type_of_the_weights(dtype):
    condition, _, packed = batch()
    logits = make().to(dtype)(condition.to(dtype), packed.data, packed.batch_sizes.tolist())
    assert logits.dtype == dtype
    assert logits.shape == (sum(LENGTHS), WORDS)
