import numpy as np
import pytest

from multispace.pipeline.reporting.contestants import SampleScores, SingleScores
from multispace.pipeline.reporting.winners import (
    NO_WINNER,
    Row,
    above_curve,
    answers,
    contest,
    equal_quality,
    latent_use,
    use_in_words,
    weighted_mean,
    weighted_ratio,
)

IMAGES = 50
NOISE = np.random.default_rng(0).normal(size=IMAGES)
ONES = np.ones((1, IMAGES))


def row(system: str, values) -> Row:
    return Row(system, weighted_mean(np.array(values, float)))


def single(system: str, cider: float, right: int = 1, **shuffled: float):
    colours = np.tile([right, 2], (IMAGES, 1)).astype(float)
    return SingleScores(system, system, np.full(IMAGES, cider) + NOISE, colours, shuffled)


def drawn(system: str, self_cider: float, mean: float, best: float = 1.0, name: str = ""):
    values = (np.full(IMAGES, value) for value in (self_cider, mean, best, mean))
    return SampleScores(system, name or system, *values)


BASE = [
    drawn("base", 0.2, 1.0, 1.2, "base at 0.3"),
    drawn("base", 0.6, 0.8, 1.5, "base at 0.5"),
    drawn("base", 0.8, 0.4, 1.4, "base at 1"),
]


def test_a_constant_lead_wins_and_is_stated():
    answer = contest("q", {"a": row("a", NOISE), "b": row("b", NOISE + 0.25)}, IMAGES)
    assert answer.answer == "b"
    assert answer.evidence == "b minus a: +0.250 [+0.250, +0.250]"


def test_a_difference_within_noise_has_no_winner():
    # The mean of the difference is 0.1, its standard error 1 / sqrt(50) = 0.14.
    centered = (NOISE - NOISE.mean()) / NOISE.std()
    answer = contest("q", {"a": row("a", 0 * NOISE), "b": row("b", centered + 0.1)}, IMAGES)
    assert answer.answer == NO_WINNER
    assert answer.evidence.startswith("b minus a: +0.100 [-0.1")
    wide = contest("q", {"a": row("a", 0 * NOISE), "b": row("b", centered + 0.5)}, IMAGES)
    assert wide.answer == "b"


def test_equal_systems_have_no_winner():
    assert contest("q", {"a": row("a", NOISE), "b": row("b", NOISE)}, IMAGES).answer == NO_WINNER


def test_the_winner_leads_every_other_system_not_only_the_second():
    noisy = 0.2 + 5 * (NOISE - NOISE.mean())  # third by its mean, but not clearly behind
    rows = {"a": row("a", 0 * NOISE + 1), "b": row("b", 0 * NOISE + 0.5), "c": row("c", noisy)}
    answer = contest("q", rows, IMAGES)
    assert answer.answer == NO_WINNER
    assert answer.evidence.startswith("a minus c: +0.800 [")


def test_a_system_competes_by_its_best_row_and_not_with_itself():
    rows = {
        "base at 1": row("base", NOISE + 1),
        "base at 2": row("base", NOISE + 1),
        "joint": row("joint", NOISE),
    }
    answer = contest("q", rows, IMAGES)
    assert answer.answer == "base"
    assert answer.evidence == "base at 1 minus joint: +1.000 [+1.000, +1.000]"


def test_a_row_without_a_score_does_not_take_part():
    silent = Row("silent", weighted_ratio(np.zeros((IMAGES, 2))))
    rows = {"a": row("a", NOISE), "silent": silent, "b": row("b", NOISE - 1)}
    assert contest("q", rows, IMAGES).answer == "a"
    alone = contest("q", {"a": row("a", NOISE), "silent": silent}, IMAGES, "; why")
    assert (alone.answer, alone.evidence) == (
        NO_WINNER,
        "fewer than two systems have a score; why",
    )


def test_precision_is_of_all_colors_that_the_captions_name():
    # Two images: one of one, and one of three. A mean over images would be 2/3.
    ratio = weighted_ratio(np.array([[1.0, 1], [1, 3]]))
    assert ratio(np.array([[1.0, 1], [2, 0]])).tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("mean", "self_cider", "above"),
    [
        (0.9, 0.5, 0.1),  # half way from (1.0, 0.2) to (0.8, 0.6): 0.4
        (0.8, 0.5, -0.1),
        (0.5, 0.9, 0.15),  # three quarters of the way from (0.8, 0.6) to (0.4, 0.8): 0.75
    ],
)
def test_diversity_is_compared_at_the_same_quality(mean, self_cider, above):
    found = above_curve(drawn("joint", self_cider, mean), BASE)(ONES)
    assert found.tolist() == pytest.approx([above])
    in_another_order = above_curve(drawn("joint", self_cider, mean), BASE[::-1])(ONES)
    assert in_another_order.tolist() == pytest.approx([above])


def test_the_most_diverse_at_equal_quality_is_the_farthest_above_the_curve_of_base():
    # latent has the higher self-CIDEr, but base has more at its quality.
    rows = [*BASE, drawn("joint", 0.5, 0.9), drawn("latent", 0.7, 0.5)]
    answer = equal_quality(rows)
    assert answer.answer == "joint"
    assert answer.evidence == "joint minus base: +0.100 [+0.100, +0.100]"
    assert equal_quality([*BASE, drawn("latent", 0.7, 0.5)]).answer == "base"


def test_samples_of_a_quality_that_base_never_has_are_not_compared():
    rows = [*BASE, drawn("joint", 0.5, 0.9), drawn("bad", 0.95, 0.3), drawn("good", 0.1, 1.1)]
    answer = equal_quality(rows)
    assert answer.answer == "joint"
    assert answer.evidence.endswith("; no temperature of base has the quality of bad, good")


@pytest.mark.parametrize(
    ("shuffled", "words"),
    [
        ({"z": 0.05}, "z ignored"),
        ({"z": 0.5}, "z hardly used"),
        ({"z": 3.9, "c": 4.4}, "z used, c used"),
        ({"z": 4.2, "c": 0.06}, "z used, c ignored"),
    ],
)
def test_the_use_of_latents_in_words(shuffled, words):
    assert use_in_words(shuffled) == words


def test_every_question_has_an_answer_from_the_numbers():
    single_captions = [
        single("joint", 1.0, 2, z=3.9, c=4.4),
        single("latent", 0.5, z=3.0),
        single("base", 1.5),
    ]
    samples = [*BASE, drawn("joint", 0.5, 0.9, 1.6), drawn("latent", 0.1, 0.8, 0.9)]
    found = answers(single_captions, samples)
    assert {each.question: each.answer for each in found} == {
        "best single caption (CIDEr)": "base",
        "best of the samples (CIDEr)": "joint",
        "most diverse samples at equal quality (self-CIDEr)": "joint",
        "names colors right (precision)": "joint",
    }
    by = {each.question: each.evidence for each in found}
    assert by["best single caption (CIDEr)"] == "base minus joint: +0.500 [+0.500, +0.500]"
    assert by["best of the samples (CIDEr)"].startswith("joint minus base at 0.5: +0.100")
    assert by["names colors right (precision)"] == "joint minus latent: +0.500 [+0.500, +0.500]"
    assert found[0].to_json() == {
        "question": "best single caption (CIDEr)",
        "answer": "base",
        "evidence": "base minus joint: +0.500 [+0.500, +0.500]",
    }


def test_the_consensus_of_samples_may_be_the_best_single_caption():
    better = SampleScores("joint", "joint", *(np.full(IMAGES, value) for value in (1, 1, 4, 3)))
    found = answers([single("joint", 1.0), single("base", 1.5)], [*BASE, better])
    assert found[0].answer == "joint"
    assert found[0].evidence.startswith("joint, consensus minus base: +1.")


def test_the_use_of_latents_has_a_row_for_each_system_that_has_some():
    rows = [single("joint", 1.0, z=3.9, c=4.4), single("base", 1.0), single("latent", 1.0, z=0.01)]
    assert [(each.question, each.answer, each.evidence) for each in latent_use(rows)] == [
        ("latents of joint", "z used, c used", "nats per caption when shuffled: z +3.90, c +4.40"),
        ("latents of latent", "z ignored", "nats per caption when shuffled: z +0.01"),
    ]
