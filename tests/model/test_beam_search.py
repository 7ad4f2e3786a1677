import math

import pytest
import torch
from torch import Tensor

from multispace.model.beam_search import Marks, beam
from multispace.model.decoder import Decoder, State

MARKS = Marks()
PAD, BOS, EOS, UNK = 0, 1, 2, 3
WORDS = 8
CONDITION = 3


@pytest.fixture(autouse=True, params=["as on a CPU", "as on a GPU"])
def way(request, monkeypatch):
    """Run each test with both ways to search."""
    on_gpu = request.param == "as on a GPU"
    monkeypatch.setattr("multispace.model.beam_search.is_gpu", lambda device: on_gpu)


def make(seed: int = 0, marks: Marks = MARKS) -> tuple[Decoder, Tensor]:
    """Return a decoder whose captions vary, and the conditions of six images."""
    torch.manual_seed(seed)
    decoder = Decoder(words=WORDS, condition=CONDITION, embedding=4, hidden=6, dropout=0.0).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_()
        decoder.output.weight.mul_(2)
        decoder.output.bias.zero_()
        # Whoever forgets to forbid the marks produces them at once.
        decoder.output.bias[[marks.pad, marks.bos, marks.unk]] += 50
    return decoder, torch.randn(6, CONDITION)


def allowed(logits: Tensor) -> Tensor:
    """Return log probabilities over the words that may be produced. (V) -> (V)"""
    kept = logits.clone()
    kept[[PAD, BOS, UNK]] = -math.inf
    return kept.log_softmax(0)


@torch.no_grad()
def log_probabilities(decoder: Decoder, condition: Tensor, words: list[int]) -> Tensor:
    """Return those of the word after ``words``, by one step after the other. (V)"""
    state = decoder.start(condition[None])
    for word in [BOS, *words]:
        state, logits = decoder.step(state, torch.tensor([word]))
    return allowed(logits[0])


def naive_greedy(decoder: Decoder, condition: Tensor, max_words: int) -> list[int]:
    words: list[int] = []
    while len(words) < max_words and EOS not in words:
        words.append(int(log_probabilities(decoder, condition, words).argmax()))
    return words


def every_caption(
    decoder: Decoder, condition: Tensor, max_words: int, start: tuple[int, ...] = ()
) -> dict[tuple[int, ...], float]:
    """Return all that can be said, ended by EOS or cut at ``max_words``, and how probably."""
    if len(start) == max_words or EOS in start:
        return {start: 0.0}
    steps = log_probabilities(decoder, condition, list(start))
    return {
        caption: steps[word].item() + rest
        for word in range(WORDS)
        if word not in (PAD, BOS, UNK)
        for caption, rest in every_caption(decoder, condition, max_words, (*start, word)).items()
    }


def strip(row: Tensor) -> list[int]:
    """Return a row without the padding, and check that nothing follows EOS but padding."""
    words = row.tolist()
    if EOS in words:
        end = words.index(EOS) + 1
        assert set(words[end:]) <= {PAD}
        words = words[:end]
    assert not {PAD, BOS, UNK} & set(words)
    return words


class Chain:
    """A decoder whose next word depends on the last one alone, by a table of probabilities."""

    def __init__(self, table: dict[int, dict[int, float]]) -> None:
        self.logits = torch.full((WORDS, WORDS), -1e9)
        for last, following in table.items():
            for word, probability in following.items():
                self.logits[last, word] = math.log(probability)

    def start(self, condition: Tensor) -> State:
        return State(((condition, condition),), condition)

    def step(self, state: State, words: Tensor) -> tuple[State, Tensor]:
        return state, self.logits[words]


A, B, C = 4, 5, 6
# EOS at once is worth 0.4; saying A for ever is worth 0.6 * 0.9 ** n.
HESITANT = Chain({BOS: {EOS: 0.4, A: 0.6}, A: {A: 0.9, EOS: 0.1}})
ONE_IMAGE = torch.zeros(1, 1)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_width_one_is_a_naive_greedy_loop(seed):
    decoder, conditions = make(seed)
    expected = [naive_greedy(decoder, condition, 10) for condition in conditions]
    found = beam(decoder, conditions, marks=MARKS, width=1, max_words=10)
    assert [strip(row) for row in found] == expected


@pytest.mark.parametrize("seed", [0, 3])
def test_a_beam_wide_enough_is_exact(seed):
    decoder, conditions = make(seed)
    best = set()
    for condition in conditions[:4]:
        worth = every_caption(decoder, condition, max_words=3)
        assert len(worth) == 1 + 4 + 4**2 + 4**3
        assert math.fsum(math.exp(w) for w in worth.values()) == pytest.approx(1, abs=1e-5)
        for penalty in (0.0, 0.7, 2.0):
            found = beam(
                decoder,
                condition[None],
                marks=MARKS,
                width=len(worth),  # room for every hypothesis
                max_words=3,
                length_penalty=penalty,
            )
            expected = max(worth, key=lambda c: worth[c] / len(c) ** penalty)
            assert strip(found[0]) == list(expected)
            best.add(expected)
    assert len(best) > 3


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_images_do_not_change_each_other(width, length_penalty):
    decoder, conditions = make(3)
    options = {"marks": MARKS, "width": width, "length_penalty": length_penalty}
    together = beam(decoder, conditions, **options)
    alone = [beam(decoder, one[None], **options)[0] for one in conditions]
    assert [strip(row) for row in together] == [strip(row) for row in alone]
    assert len({tuple(strip(row)) for row in together}) > 3


def test_a_wider_beam_finds_what_greed_misses():
    chain = Chain({BOS: {A: 0.6, B: 0.4}, A: {A: 0.4, B: 0.3, EOS: 0.3}, B: {EOS: 1.0}})
    assert strip(beam(chain, ONE_IMAGE, marks=MARKS, width=1, max_words=2)[0]) == [A, A]
    assert strip(beam(chain, ONE_IMAGE, marks=MARKS, width=2, max_words=2)[0]) == [B, EOS]


@pytest.mark.parametrize(("max_words", "caption"), [(4, [A] * 4), (5, [EOS])])
def test_ended_hypotheses_compete_with_those_that_go_on(max_words, caption):
    # 0.6 * 0.9 ** 3 = 0.437 > 0.4 > 0.6 * 0.9 ** 4 = 0.394
    found = beam(HESITANT, ONE_IMAGE, marks=MARKS, width=2, max_words=max_words)
    assert strip(found[0]) == caption


@pytest.mark.parametrize(
    ("length_penalty", "caption"), [(0.0, [B, EOS]), (0.34, [B, EOS]), (0.36, [A, C, EOS])]
)
def test_the_length_penalty_ranks_by_its_formula(length_penalty, caption):
    # log 0.5 / 2 ** p meets log 0.45 / 3 ** p at p = log(log 0.45 / log 0.5) / log 1.5 = 0.349.
    table = {BOS: {A: 0.5, B: 0.5}, A: {C: 0.9, EOS: 0.1}, B: {EOS: 1.0}, C: {EOS: 1.0}}
    options = {"marks": MARKS, "width": 3, "max_words": 4, "length_penalty": length_penalty}
    assert strip(beam(Chain(table), ONE_IMAGE, **options)[0]) == caption


@pytest.mark.parametrize("marks", [MARKS, Marks(pad=7, bos=6, eos=5, unk=4)])
def test_marks_are_never_produced(marks):
    decoder, conditions = make(marks=marks)
    never = {marks.pad, marks.bos, marks.unk}
    torch.manual_seed(0)
    for found in (
        beam(decoder, conditions, marks=marks, width=1),
        beam(decoder, conditions, marks=marks, width=4),
        beam(decoder, conditions, marks=marks, width=4, length_penalty=1.0),
    ):
        for row in found.tolist():
            words = row[: row.index(marks.eos)] if marks.eos in row else row
            assert not never & set(words)
            assert set(row[len(words) + 1 :]) <= {marks.pad}


@pytest.mark.parametrize("max_words", [1, 3])
def test_captions_keep_to_the_limit(max_words):
    endless = Chain({BOS: {A: 1.0}, A: {B: 1.0}, B: {A: 1.0}})
    for found in (
        beam(endless, ONE_IMAGE, marks=MARKS, width=1, max_words=max_words),
        beam(endless, ONE_IMAGE, marks=MARKS, width=3, max_words=max_words),
    ):
        assert found.tolist() == [[A, B, A][:max_words]]


def test_the_search_stops_when_all_have_ended():
    brief = Chain({BOS: {A: 1.0}, A: {EOS: 1.0}})
    assert beam(brief, ONE_IMAGE, marks=MARKS, width=3).tolist() == [[A, EOS]]


@pytest.mark.parametrize("length_penalty", [0.0, 0.7])
def test_every_hypothesis_comes_back_the_best_first(length_penalty):
    decoder, conditions = make(0)
    worth = every_caption(decoder, conditions[0], max_words=3)
    options = {"marks": MARKS, "max_words": 3, "length_penalty": length_penalty}
    found = beam(decoder, conditions[:1], width=len(worth), every=True, **options)
    ranked = sorted(worth, key=lambda c: -worth[c] / len(c) ** length_penalty)
    assert found.shape[:2] == (1, len(worth))
    assert [tuple(strip(row)) for row in found[0]][:20] == ranked[:20]
    assert len({tuple(strip(row)) for row in found[0]}) == len(worth)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7])
def test_the_first_of_every_hypothesis_is_the_best_alone(length_penalty):
    decoder, conditions = make(3)
    options = {"marks": MARKS, "width": 3, "length_penalty": length_penalty}
    alone = beam(decoder, conditions, **options)
    every = beam(decoder, conditions, every=True, **options)
    assert [strip(row) for row in every[:, 0]] == [strip(row) for row in alone]
