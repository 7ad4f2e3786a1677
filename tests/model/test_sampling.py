import math

import pytest
import torch
from scipy.stats import chisquare

from multispace.model.beam_search import Marks, beam
from multispace.model.decoder import Decoder, State
from multispace.model.sampling import next_words, sample

MARKS = Marks()
PAD, BOS, EOS, UNK = 0, 1, 2, 3
WORDS = 8
PROBABILITIES = torch.tensor([0.05, 0.4, 0.15, 0.3, 0.1])


class Chain:
    """A decoder whose next word depends on the last one alone, by a table of probabilities."""

    def __init__(self, table: dict[int, dict[int, float]]) -> None:
        self.logits = torch.full((WORDS, WORDS), -1e9)
        for last, following in table.items():
            for word, probability in following.items():
                self.logits[last, word] = math.log(probability)

    def start(self, condition):
        return State(((condition, condition),), condition)

    def step(self, state, words):
        return state, self.logits[words]


def make(seed: int):
    """Return a decoder whose captions vary, and the conditions of forty images."""
    torch.manual_seed(seed)
    decoder = Decoder(words=WORDS, condition=3, embedding=4, hidden=6).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_()
        decoder.output.bias.zero_()
        decoder.output.bias[[PAD, BOS, UNK]] += 50  # very likely, and never allowed
    return decoder, torch.randn(40, 3)


def grid(count: int) -> torch.Tensor:
    """Return the middles of ``count`` equal parts of [0, 1)."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def masses(temperature: float, top_p: float) -> list[float]:
    """Return how much of [0, 1) leads to each word, to four digits."""
    count = 10_000
    logits = PROBABILITIES.log().expand(count, -1)
    words = next_words(logits, grid(count), temperature, top_p)
    return (words.bincount(minlength=5) / count).tolist()


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_sampling_at_temperature_0_is_greedy_search(seed):
    decoder, conditions = make(seed)
    uniforms = torch.rand(40, 10, dtype=torch.float64)
    greedy = beam(decoder, conditions, marks=MARKS, width=1, max_words=10)
    assert torch.equal(sample(decoder, conditions, uniforms, marks=MARKS, temperature=0.0), greedy)
    # The nucleus of next to no probability is the most probable word.
    nucleus = sample(decoder, conditions, uniforms, marks=MARKS, top_p=1e-9)
    assert torch.equal(nucleus, greedy)
    assert not torch.equal(sample(decoder, conditions, uniforms, marks=MARKS)[:, :1], greedy[:, :1])


def test_the_whole_distribution_is_drawn_from():
    assert masses(1.0, 1.0) == pytest.approx(PROBABILITIES.tolist(), abs=2e-4)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.4, {1: 1.0}),
        (0.5, {1: 4 / 7, 3: 3 / 7}),
        (0.7, {1: 4 / 7, 3: 3 / 7}),  # reached exactly: the third word is not needed
        (0.71, {1: 0.4 / 0.85, 3: 0.3 / 0.85, 2: 0.15 / 0.85}),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, kept):
    # The probabilities are float32, so a sum that should be reached exactly may fall short.
    expected = [kept.get(word, 0.0) for word in range(5)]
    assert masses(1.0, top_p - 1e-6) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_temperature_is_a_power_of_the_probabilities(temperature):
    power = PROBABILITIES ** (1 / temperature)
    assert masses(temperature, 1.0) == pytest.approx((power / power.sum()).tolist(), abs=2e-4)


def test_the_limits_of_the_unit_interval_lead_to_allowed_words():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).expand(2, -1)
    ends = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    for top_p in (1.0, 0.9):
        assert next_words(logits, ends, 1.0, top_p).tolist() == [1, 3]


def test_frequencies_of_captions_are_their_probabilities():
    # A ends at once or is followed by B, which ends: 0.6 * 0.25, 0.6 * 0.75, 0.4.
    chain = Chain({BOS: {4: 0.6, 5: 0.4}, 4: {EOS: 0.25, 5: 0.75}, 5: {EOS: 1.0}})
    count = 4000
    uniforms = torch.rand(count, 4, dtype=torch.float64, generator=torch.manual_seed(0))
    found = sample(chain, torch.zeros(count, 1), uniforms, marks=MARKS)
    assert found.shape == (count, 3)
    captions = [tuple(row) for row in found.tolist()]
    expected = {(4, EOS, PAD): 0.15, (4, 5, EOS): 0.45, (5, EOS, PAD): 0.4}
    assert set(captions) == set(expected)
    counts = [captions.count(caption) for caption in expected]
    assert chisquare(counts, [count * p for p in expected.values()]).pvalue > 0.001


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_images_do_not_change_each_other(top_p):
    decoder, conditions = make(3)
    uniforms = torch.rand(40, 10, dtype=torch.float64, generator=torch.manual_seed(1))
    options = {"marks": MARKS, "temperature": 1.3, "top_p": top_p}
    together = sample(decoder, conditions, uniforms, **options)
    for row in range(40):
        alone = sample(decoder, conditions[row : row + 1], uniforms[row : row + 1], **options)
        said = together[row].tolist()
        assert said[: alone.shape[1]] == alone[0].tolist()
        assert set(said[alone.shape[1] :]) <= {PAD}
    assert not set(together.flatten().tolist()) & {BOS, UNK}
    assert len({tuple(row) for row in together.tolist()}) > 10


def test_captions_keep_to_the_limit():
    endless = Chain({BOS: {4: 1.0}, 4: {4: 1.0}})
    assert sample(endless, torch.zeros(1, 1), torch.rand(1, 3), marks=MARKS).tolist() == [[4] * 3]
