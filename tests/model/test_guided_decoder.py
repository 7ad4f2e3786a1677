import pytest
import torch

from multispace.model.beam_search import Marks, beam
from multispace.model.decoder import Decoder
from multispace.model.guided_decoder import GuidedDecoder
from multispace.model.sampling import sample

MARKS = Marks()
WORDS, CONDITION = 9, 3


def make(cell: str = "lstm", layers: int = 1) -> tuple[Decoder, torch.Tensor, torch.Tensor]:
    """Return a decoder whose captions vary, and two conditions of each of seven images."""
    torch.manual_seed(1)
    decoder = Decoder(
        words=WORDS, condition=CONDITION, embedding=4, hidden=6, cell=cell, layers=layers
    ).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_()
        decoder.output.weight.mul_(2)
        decoder.output.bias.zero_()
    return decoder, torch.randn(7, CONDITION), torch.randn(7, CONDITION)


@pytest.mark.parametrize(("cell", "layers"), [("lstm", 1), ("gru", 2)])
@torch.no_grad()
def test_logits_lie_on_the_line_through_those_of_both_conditions(cell, layers):
    decoder, given, without = make(cell, layers)
    guided = GuidedDecoder(decoder, 0.75)
    states = [decoder.start(given), decoder.start(without)]
    state = guided.start(torch.cat((given, without), dim=1))
    for words in torch.randint(WORDS, (3, len(given))):
        state, logits = guided.step(state, words)
        (states[0], one), (states[1], zero) = (decoder.step(s, words) for s in states)
        torch.testing.assert_close(logits, 0.75 * one + 0.25 * zero)


@pytest.mark.parametrize("width", [1, 3])
def test_at_1_and_at_0_captions_are_those_with_and_without_latents(width):
    decoder, given, without = make()
    both = torch.cat((given, without), dim=1)
    for guidance, condition in ((1.0, given), (0.0, without)):
        guided = GuidedDecoder(decoder, guidance)
        found = beam(guided, both, marks=MARKS, width=width)
        assert torch.equal(found, beam(decoder, condition, marks=MARKS, width=width))
        uniforms = torch.rand(len(given), 8)
        drawn = sample(guided, both, uniforms, marks=MARKS)
        assert torch.equal(drawn, sample(decoder, condition, uniforms, marks=MARKS))
    ends = [beam(decoder, c, marks=MARKS, width=width).tolist() for c in (given, without)]
    assert beam(GuidedDecoder(decoder, 0.5), both, marks=MARKS, width=width).tolist() not in ends
