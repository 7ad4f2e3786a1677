"""Curves of runs at equal diversity. The evaluations are written by hand."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.evaluations import add, place, write

from multispace.cli import main
from multispace.errors import PipelineError
from multispace.pipeline.compare import CompareOptions, compare
from multispace.pipeline.metrics.samples.diversity_curve import QUALITIES
from multispace.pipeline.runs.evaluation_reader import find_evaluation

SAMPLED = {"samples": 4}
# By temperature: self-CIDEr, then oracle, mean and consensus CIDEr.
BASE = {0.2: [0.3, 4, 4, 4], 0.4: [0.7, 6, 2, 3], 0.8: [0.9, 6, 1, 2]}
# At self-CIDEr 0.7, halfway between its points: 8, 3 and 4.
BETTER = {0.0: [0.6, 7, 4, 5], 0.4: [0.8, 9, 2, 3]}


def ask(*runs: Path, **other) -> CompareOptions:
    return CompareOptions(runs, **{"resamples": 200, **other})


def base(folder: Path, seed: int = 0, curve=BASE, **other) -> Path:
    return write(folder, seed=seed, curve=curve, record={**SAMPLED, "temperature": 0.4}, **other)


def joint(folder: Path, curve=BETTER, seed: int = 0, **other) -> Path:
    return write(folder, system="joint", seed=seed, curve=curve, record=SAMPLED, **other)


def test_a_constant_difference_has_an_interval_of_no_width(tmp_path):
    found = compare(ask(base(tmp_path / "b"), joint(tmp_path / "j"))).curves
    assert found.count == 4
    section = found.section
    # The noise of an image is the same in all measures: a resample moves both curves alike.
    assert section.title == "at the self-CIDEr of base sampled at temperature 0.4 (0.700)"
    assert section.columns == QUALITIES
    assert list(section.groups) == ["base", "joint"]
    ((first, second, differences),) = section.differences
    assert (first, second) == ("base", "joint")
    for quality, expected in zip(QUALITIES, (2, 1, 1), strict=True):
        cell = differences[quality]
        assert (cell.mean, cell.low, cell.high) == pytest.approx((expected,) * 3, abs=1e-6)
    (verdict,) = found.verdicts
    assert verdict.startswith("joint beats temperature sampling: at the self-CIDEr of base ")
    assert verdict.endswith(
        "oracle CIDEr +2.000 [+2.000, +2.000], mean CIDEr +1.000 [+1.000, +1.000], "
        "consensus CIDEr +1.000 [+1.000, +1.000]"
    )


@pytest.mark.parametrize(
    ("curve", "verdict"),
    [
        (BETTER, "joint beats temperature sampling: "),
        ({0.0: [0.6, 7, 1, 5], 0.4: [0.8, 9, 1, 3]}, "joint does not beat temperature sampling: "),
        (BASE, "joint does not beat temperature sampling: "),
    ],
)
def test_a_sentence_says_who_wins(tmp_path, curve, verdict):
    found = compare(ask(base(tmp_path / "b"), joint(tmp_path / "j", curve))).curves
    assert [line[: len(verdict)] for line in found.verdicts] == [verdict]


def test_seeds_that_disagree_leave_it_undecided(tmp_path):
    worse = {t: [x, *(value - 4 for value in values)] for t, (x, *values) in BETTER.items()}
    runs = [base(tmp_path / f"b{seed}", seed) for seed in (0, 1)]
    runs += [joint(tmp_path / "j0", BETTER, 0), joint(tmp_path / "j1", worse, 1)]
    found = compare(ask(*runs)).curves
    (verdict,) = found.verdicts
    assert verdict.startswith("undecided whether joint beats temperature sampling: ")
    cell = found.section.differences[0][2]["oracle CIDEr"]
    assert cell.mean == pytest.approx(0, abs=1e-6)
    # Two seeds of +2 and -2, drawn twice with replacement.
    assert (cell.low, cell.high) == pytest.approx((-2, 2), abs=1e-6)
    assert found.section.groups["joint"]["oracle CIDEr"].std == pytest.approx(8**0.5)


def test_a_curve_is_not_extrapolated(tmp_path):
    low = {0.0: [0.1, 9, 9, 9], 0.4: [0.5, 9, 9, 9]}
    edge = {0.0: [0.1, 9, 9, 9], 0.4: [0.7001, 9, 9, 9]}
    found = compare(ask(base(tmp_path / "b"), joint(tmp_path / "j", low)))
    assert list(found.curves.section.groups) == ["base"]
    assert found.curves.verdicts == ()
    assert any(
        note.startswith("joint: its curve is between self-CIDEr 0.1") for note in found.notes
    )
    random = write_noise(joint(tmp_path / "e", edge))
    found = compare(ask(base(tmp_path / "b"), random))
    assert found.curves.verdicts == ()
    assert any("joint: its curve ends too close to self-CIDEr 0.7" in note for note in found.notes)


def write_noise(run: Path) -> Path:
    """Let the self-CIDEr of half the images rise, and that of the others fall."""
    folder = find_evaluation(run, "test", "best")
    file = folder / "diversity_curve.json"
    content = json.loads(file.read_text())
    for number, entry in enumerate(content["per_image"]):
        for values in entry["values"]:
            values[0] += 0.3 if number % 2 else -0.3
    add(folder, diversity_curve=content)
    return run


def test_the_reference_can_be_another_point(tmp_path):
    runs = base(tmp_path / "b"), joint(tmp_path / "j")
    found = compare(ask(*runs, reference="joint", reference_temperature=0.0)).curves
    assert list(found.section.groups) == ["joint", "base"]
    ((_, _, differences),) = found.section.differences
    # base at self-CIDEr 0.6: three quarters of the way from 0.3 to 0.7.
    values = {name: cell.mean for name, cell in differences.items()}
    assert values == pytest.approx(dict(zip(QUALITIES, (-1.5, -1.5, -1.75), strict=True)), abs=1e-6)
    assert found.verdicts[0].startswith("base does not beat joint: ")


@pytest.mark.parametrize(
    ("asked", "note"),
    [
        (
            {"reference": "latent"},
            "no group with a curve has the name or system 'latent'; choose one with --reference: "
            "base; joint",
        ),
        (
            {"reference_temperature": 0.5},
            "base has no point at temperature 0.5; choose one with "
            "--reference-temperature: 0.2, 0.4, 0.8",
        ),
    ],
)
def test_a_reference_that_is_not_there_is_said_to_be_none(tmp_path, asked, note):
    found = compare(ask(base(tmp_path / "b"), joint(tmp_path / "j"), **asked))
    assert f"no comparison at equal diversity: {note}" in found.notes
    assert found.curves.section is None
    assert len(found.curves.tables()) == 1


def test_two_groups_of_the_system_of_reference_are_not_mixed(tmp_path):
    runs = [base(tmp_path / "b"), base(tmp_path / "c", hidden=64), joint(tmp_path / "j")]
    found = compare(ask(*runs))
    assert any("several groups have the name or system 'base'" in note for note in found.notes)
    name = next(iter(found.runs))
    assert compare(ask(*runs, reference=name)).curves.section is not None


def test_curves_that_do_not_compare_are_said_to_be_so(tmp_path):
    runs = base(tmp_path / "b"), joint(tmp_path / "j"), write(tmp_path / "l", system="latent")
    found = compare(ask(*runs))
    assert "latent: no diversity curve; evaluate all its runs with --curve" in found.notes
    assert list(found.curves.curves) == ["base", "joint"]
    other = write(tmp_path / "o", system="joint", curve=BETTER, record={"samples": 9})
    found = compare(ask(runs[0], other))
    note = "samples per image of the curves are [4, 9]: the curves do not compare"
    assert note in found.notes
    assert found.curves.tables() == []
    mixed = base(tmp_path / "m", seed=1, curve={0.9: [0.9, 1, 1, 1]})
    found = compare(ask(runs[0], mixed, runs[1]))
    note = "base: the curves of its runs have no temperature in common"
    assert note in found.notes


def test_what_changes_a_whole_curve_is_part_of_the_name(tmp_path):
    narrow = {**SAMPLED, "latent_temperature": 0.5}
    runs = [
        base(tmp_path / "b"),
        write(tmp_path / "j", system="joint", curve=BETTER, record=narrow),
    ]
    found = compare(ask(*runs))
    name = "joint sampling latents at temperature 0.5"
    assert list(found.curves.curves) == ["base", name]
    assert f"samples of {name}: latents at temperature 0.5" in found.notes
    guided = {**SAMPLED, "guidance": 0.6}
    other = write(tmp_path / "g", system="joint", seed=1, curve=BETTER, record=guided)
    assert list(compare(ask(runs[0], other)).curves.curves) == [
        "base",
        "joint sampling guidance 0.6",
    ]


def test_curves_over_words_and_over_latents_are_not_averaged(tmp_path):
    over_latents = {**SAMPLED, "curve_of": "latents"}
    runs = [
        joint(tmp_path / "words", seed=0),
        write(tmp_path / "latents", system="joint", seed=1, curve=BETTER, record=over_latents),
    ]
    found = compare(ask(*runs))
    assert list(found.curves.curves) == ["joint --curve-of words", "joint --curve-of latents"]


def test_seeds_are_averaged_over_the_temperatures_that_all_have(tmp_path):
    other = {0.4: [0.9, 8, 4, 5], 0.8: [0.9, 8, 3, 4]}
    found = compare(ask(base(tmp_path / "a"), base(tmp_path / "b", 1, other))).curves
    (points,) = found.curves.values()
    assert [point["temperature"] for point in points] == [0.4, 0.8]
    single = compare(ask(tmp_path / "a")).curves.curves["base"]
    assert points[0]["oracle CIDEr"] == pytest.approx(single[1]["oracle CIDEr"] + 1)
    assert points[0]["self-CIDEr"] == pytest.approx(single[1]["self-CIDEr"] + 0.1)


def test_the_command_prints_the_tables_and_the_sentences(tmp_path):
    runs = [str(base(tmp_path / "b")), str(joint(tmp_path / "j"))]

    def call(*words: str) -> str:
        result = CliRunner().invoke(main, ["compare", *runs, "--resamples", "50", *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    text = call()
    assert "curves of 4 samples per image" in text
    assert "base, temperature 0.8" in text
    assert text.splitlines()[-1].startswith("joint beats temperature sampling: ")
    printed = json.loads(call("--json"))["curves"]
    assert printed["verdicts"][0] == text.splitlines()[-1]
    assert printed["n"] == 4
    assert [point["temperature"] for point in printed["points"]["joint"]] == [0, 0.4]
    cells = printed["equal_diversity"]["differences"][0]["scores"]
    assert cells["oracle CIDEr"]["low"] == pytest.approx(2)
    for form, start in (("--markdown", ""), ("--latex", "% ")):
        sentence = f"{start}joint beats temperature sampling"
        assert any(line.startswith(sentence) for line in call(form).splitlines())


def test_a_curve_that_does_not_fit_is_refused(tmp_path):
    run = joint(tmp_path / "j")
    folder = place(run)
    good = json.loads((folder / "diversity_curve.json").read_text())
    for change, message in (
        ({"n": 9}, r"diversity_curve\.json: it has 9 samples of 40 images"),
        ({"per_image": good["per_image"][1:]}, r"it has 4 samples of 39 images"),
        ({"points": good["points"][:1]}, r"temperatures .*which is not what evaluation\.json says"),
        (
            {"points": [{**p, "mean CIDEr": 0} for p in good["points"]]},
            r"mean CIDEr is 0, but 4\.0*",
        ),
    ):
        add(folder, diversity_curve={**good, **change})
        with pytest.raises(PipelineError, match=message):
            compare(ask(run))
