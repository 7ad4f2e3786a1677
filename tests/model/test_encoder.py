import pytest
import torch
from torch import nn

from multispace.model.encoder import Encoder, Words
from multispace.model.recurrent import CELLS

BATCH_SIZES = (3, 2, 2, 1)  # captions of 4, 3 and 1 tokens


@pytest.fixture
def words():
    return Words(torch.tensor([1, 1, 1, 5, 6, 7, 8, 9]), BATCH_SIZES)


def test_tokens_know_their_caption_and_captions_their_end(words):
    assert words.captions().tolist() == [0, 1, 2, 0, 1, 0, 1, 0]
    assert words.ends().tolist() == [7, 6, 2]


def test_a_caption_is_read_as_torchs_lstm_reads_it_alone(words):
    torch.manual_seed(0)
    embedding, encoder = nn.Embedding(10, 4), Encoder(embedding=4, hidden=5)
    lstm = nn.LSTM(4, 5)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(encoder.gates.weight)
        lstm.bias_ih_l0.copy_(encoder.gates.bias)
        lstm.weight_hh_l0.copy_(encoder.recurrent_gates.weight)
        lstm.bias_hh_l0.zero_()
    read = encoder(embedding, words)
    for row, caption in enumerate(([1, 5, 7, 9], [1, 6, 8], [1])):
        alone = lstm(embedding(torch.tensor(caption)))[0][-1]
        torch.testing.assert_close(read[row], alone)


def test_the_gru_reads_too(words):
    torch.manual_seed(0)
    encoder = Encoder(embedding=4, hidden=5, cell="gru")
    read = encoder(nn.Embedding(10, 4), words)
    assert read.shape == (3, 5)
    assert len(set(read[:, 0].tolist())) == 3


@pytest.mark.parametrize("cell", CELLS)
def test_a_gpus_way_to_the_vectors_gives_the_same(cell, monkeypatch):
    torch.manual_seed(0)
    embedding, encoder = nn.Embedding(11, 4), Encoder(embedding=4, hidden=6, cell=cell)
    words = Words(torch.randint(11, (10,)), (4, 3, 2, 1))
    found = []
    for on_gpu in (False, True):
        monkeypatch.setattr("multispace.model.encoder.is_gpu", lambda device, it=on_gpu: it)
        vectors = encoder(embedding, words)
        leaves = [*embedding.parameters(), *encoder.parameters()]
        found.append((vectors, *torch.autograd.grad(vectors.square().sum(), leaves)))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
