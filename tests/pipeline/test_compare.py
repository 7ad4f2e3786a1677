"""`compare`: evaluated runs in one table. No networks: the evaluations are written by hand."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.evaluations import add, place, write

from multispace.cli import main
from multispace.errors import OptionError, PipelineError
from multispace.pipeline.compare import CompareOptions, compare
from multispace.pipeline.comparison.sections import EXCLUDES_ZERO
from multispace.pipeline.metrics.captions.registry import NAMES
from multispace.pipeline.runs.evaluation_folder import digest_references


def ask(*runs: Path, **other) -> CompareOptions:
    return CompareOptions(runs, **{"resamples": 300, **other})


def test_seeds_are_grouped_and_averaged(tmp_path):
    base = [write(tmp_path / f"b{n}", seed=n, good=n / 10) for n in range(3)]
    multi = [write(tmp_path / f"m{n}", system="multispace", seed=n, good=1 + n / 10)
             for n in range(3)]  # fmt: skip
    found = compare(ask(*base, *multi))
    assert found.runs["base"] == {str(run): n for n, run in enumerate(base)}
    (section,) = found.sections
    assert section.columns == NAMES
    single = compare(ask(base[0])).sections[0].groups["base"]
    assert single["CIDEr"].std is None
    cell = section.groups["base"]["CIDEr"]
    assert cell.mean == pytest.approx(single["CIDEr"].mean + 0.1)
    assert cell.std == pytest.approx(0.1)
    assert cell.low < cell.mean < cell.high
    ((first, second, differences),) = section.differences
    assert (first, second) == ("base", "multispace")
    # the same images and seeds on both sides, one better throughout: no doubt is left
    cider = differences["CIDEr"]
    assert (cider.mean, cider.low, cider.high) == pytest.approx((1, 1, 1))
    bleu = differences["Bleu_4"]
    assert (bleu.mean, bleu.low, bleu.high) == (0, 0, 0)
    assert found.captions["base"]["words"] == (90, 0)


def test_scores_are_those_that_evaluate_wrote(tmp_path):
    run = write(tmp_path / "b", noise=3)
    written = json.loads((run / "evaluation" / "test" / "scores.json").read_text())
    del written["signature"]
    cells = compare(ask(run)).sections[0].groups["base"]
    assert {name: cell.mean for name, cell in cells.items()} == pytest.approx(written)


def test_variants_are_named_by_what_sets_them_apart(tmp_path):
    runs = [
        write(tmp_path / "a", system="multispace", epochs=7, gamma_z=0.1),
        write(tmp_path / "b", system="multispace", epochs=7, batch_size=64),
        write(tmp_path / "c", system="multispace", epochs=7, record={"beam": 1}),
        # What base does not use is no part of what it is.
        write(tmp_path / "d", epochs=7, tie_embeddings=True, gamma_z=0.7, z_size=9),
    ]
    found = compare(ask(*runs))
    assert list(found.runs) == [
        "multispace --gamma-z 0.1 --batch-size 128 --beam 5",
        "multispace --gamma-z 0.02 --batch-size 64 --beam 5",
        "multispace --gamma-z 0.02 --batch-size 128 --beam 1",
        "base --tie-embeddings",
    ]
    assert "all with --epochs 7" in found.notes


def test_ways_to_make_captions_set_groups_apart(tmp_path):
    runs = [
        write(tmp_path / "a", system="joint"),
        write(tmp_path / "b", system="joint", record={"captions_from": "left-out"}),
        write(tmp_path / "c", record={"samples": 3, "temperature": 0.4, "top_p": 0.9}),
        write(tmp_path / "d", record={"samples": 3, "temperature": 0.6}),
    ]
    assert list(compare(ask(*runs)).runs) == [
        "joint --single-caption mode",
        "joint --single-caption left-out",
        "base sampling words at temperature 0.4, top-p 0.9",
        "base sampling words at temperature 0.6",
    ]


def test_other_features_make_another_group(tmp_path):
    runs = write(tmp_path / "a"), write(tmp_path / "b", record={"fingerprint": "5" * 64})
    assert list(compare(ask(*runs)).runs) == [
        "base features 444444444444",
        "base features 555555555555",
    ]


def test_best_and_last_stand_side_by_side(tmp_path):
    run = write(tmp_path / "b")
    write(run, good=0.5, record={"checkpoint": "last"})
    assert (run / "evaluation" / "test-last" / "scores.json").is_file()
    found = compare(ask(run, checkpoint="both"))
    assert list(found.runs) == ["base --checkpoint best", "base --checkpoint last"]
    assert found.sections[0].differences[0][2]["CIDEr"].mean == pytest.approx(0.5)
    assert list(compare(ask(run, checkpoint="last")).runs) == ["base"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"pictures_digest": "a" * 64}, "test images"),
        ({"references_digest": "a" * 64}, "references"),
        ({"vocabulary_digest": "a" * 64}, "vocabulary"),
    ],
)
def test_what_does_not_compare_is_refused_by_name(tmp_path, change, what):
    runs = write(tmp_path / "a"), write(tmp_path / "b", system="latent", record=change)
    with pytest.raises(PipelineError, match=rf"a/evaluation.* and .*b/evaluation.* {what} .*aaaa"):
        compare(ask(*runs))


def test_one_run_a_seed(tmp_path):
    runs = write(tmp_path / "a", seed=3), write(tmp_path / "b", seed=3)
    with pytest.raises(PipelineError, match=r"a and .*b: both are base of seed 3"):
        compare(ask(*runs))
    with pytest.raises(OptionError, match="given twice"):
        compare(ask(runs[0], runs[0].parent / "b" / ".." / "a"))


def test_samples_are_compared_where_there_are_any(tmp_path):
    runs = [
        write(tmp_path / "b"),
        write(tmp_path / "l", system="latent", record={"samples": 5}),
        write(tmp_path / "m", system="multispace", good=0.5, record={"samples": 5}),
    ]
    found = compare(ask(*runs)).sections[1]
    assert found.title == "diversity of 5 samples per image"
    assert list(found.groups) == ["latent", "multispace"]
    assert found.differences[0][2]["Div-1"].mean == pytest.approx(0.5)
    write(runs[2], system="multispace", record={"samples": 9})
    other = compare(ask(*runs))
    assert len(other.sections) == 1
    assert "samples per image are [5, 9]: diversity does not compare" in other.notes


def test_what_is_missing_or_damaged_is_said_with_the_hint(tmp_path):
    run = write(tmp_path / "a")
    with pytest.raises(PipelineError, match=r"test-last: is not there; run `.* --checkpoint last"):
        compare(ask(run, checkpoint="last"))
    scores = json.loads((place(run) / "scores.json").read_text())
    add(place(run), scores={**scores, "CIDEr": scores["CIDEr"] + 1})
    with pytest.raises(PipelineError, match=r"scores\.json: CIDEr is 1\.\d+, but 0"):
        compare(ask(run))
    add(place(run), scores=b"{")
    with pytest.raises(PipelineError, match=r"scores\.json: not JSON .*; run `multispace evaluate"):
        compare(ask(run))
    sampled = write(tmp_path / "l", system="latent", record={"samples": 5})
    add(place(sampled), diversity={"captions": {}})
    with pytest.raises(PipelineError, match=r"diversity\.json: captions lacks .distinct_share"):
        compare(ask(sampled))


def test_a_changed_file_does_not_match_its_digest(tmp_path):
    run = write(tmp_path / "a")
    scores = place(run) / "scores.json"
    scores.write_text(scores.read_text().replace("0", "1", 1))
    with pytest.raises(PipelineError, match=r"scores\.json: does not match its digest"):
        compare(ask(run))


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_scores_that_are_no_numbers_are_refused(tmp_path, value):
    run = write(tmp_path / "a")
    text = (place(run) / "per_image.json").read_text()
    text = re.sub(r'"CIDEr": [\d.]+', f'"CIDEr": {value}', text, count=1)
    add(place(run), per_image=text.encode())
    with pytest.raises(
        PipelineError, match=r"per_image\.json: .*CIDEr is (nan|inf), expected a finite"
    ):
        compare(ask(run))
    run = write(tmp_path / "b")
    text = (place(run) / "scores.json").read_text()
    add(place(run), scores=re.sub(r'"CIDEr": [\d.]+', f'"CIDEr": {value}', text).encode())
    with pytest.raises(PipelineError, match=r"scores\.json: CIDEr is (nan|inf), expected a finite"):
        compare(ask(run))


def test_the_fullest_evaluation_of_the_default_search_is_read(tmp_path):
    run = write(tmp_path / "a", system="latent", record={"beam": 1, "samples": 9})
    assert "all with --beam 1" in compare(ask(run)).notes
    write(run, system="latent", record={"seed": 4})
    found = compare(ask(run))
    assert "all with --beam 1" not in found.notes
    assert len(found.sections) == 1
    write(run, system="latent", good=0.5, record={"samples": 5})
    found = compare(ask(run))
    assert found.sections[1].title == "diversity of 5 samples per image"
    write(run, system="latent", good=0.9, record={"samples": 20, "metrics": ("rouge", "cider")})
    assert compare(ask(run)).sections == found.sections


def test_an_evaluation_can_be_named_in_place_of_its_run(tmp_path):
    run = write(tmp_path / "a")
    for beam in (1, 3):
        write(run, record={"beam": beam})
    one, three = (run / "evaluation" / f"test,beam={beam}" for beam in (1, 3))
    found = compare(ask(run, one, three))
    assert list(found.runs) == ["base --beam 5", "base --beam 1", "base --beam 3"]
    assert list(found.runs["base --beam 1"]) == [str(run)]
    with pytest.raises(OptionError, match="of split 'test'.* give --split test"):
        compare(ask(one, split="val"))
    shutil.rmtree(place(run))
    with pytest.raises(PipelineError, match="of 2 searches; name one .*: .*beam=1"):
        compare(ask(run))


def test_evaluations_of_earlier_versions_are_read(tmp_path):
    run = write(tmp_path / "a", system="latent", record={"samples": 5})
    old = place(run)
    record = json.loads((old / "evaluation.json").read_text())
    for name in ("files", "sample_meteor", "importance_samples"):
        del record[name]
    (old / "evaluation.json").write_text(json.dumps(record))
    assert len(compare(ask(run)).sections) == 2


def test_references_have_a_digest_whatever_their_order():
    one = digest_references({3: ["a dog", "dogs"], 10: ["cats"]})
    assert digest_references({10: ["cats"], 3: ["a dog", "dogs"]}) == one
    other = digest_references({3: ["a dog"], 10: ["cats"]})
    assert (other[0] == one[0], other[1] == one[1]) == (True, False)
    assert digest_references({3: ["a dog", "dogs"]})[0] != one[0]


def test_the_command_prints_text_json_markdown_and_latex(tmp_path):
    runs = [str(write(tmp_path / f"b{n}", seed=n, noise=n)) for n in range(2)]
    runs.append(str(write(tmp_path / "m", system="multispace", noise=9)))

    def call(*arguments: str, status: int = 0):
        result = CliRunner().invoke(main, ["compare", *runs, "--resamples", "50", *arguments])
        assert result.exit_code == status, result.output
        return result

    text = call().stdout.splitlines()
    result = compare(CompareOptions(tuple(map(Path, runs)), resamples=50))
    assert result.render().splitlines() == text
    assert result.render("latex") == call("--latex").stdout[:-1]
    assert text[0].split() == [
        *("test,", "40", "images"),
        *("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr"),
    ]
    assert text[1].startswith("base")
    assert text[2].split()[::2] == ["±"] * 7
    assert max(map(len, text)) <= 100
    minus = next(line for line in text if line.startswith("multispace minus base"))
    assert minus.count("+") + minus.count("-") == 7
    assert EXCLUDES_ZERO in text
    printed = json.loads(call("--json").stdout)
    assert printed["sections"][0]["groups"]["base"]["CIDEr"]["std"] > 0
    assert "| base | 0." in call("--markdown").stdout
    latex = call("--latex").stdout
    assert r"BLEU-4 & METEOR & ROUGE-L & CIDEr" in latex
    assert f"% {EXCLUDES_ZERO}".replace("%", r"\%")[1:] in latex
    assert r" $\pm$ " in latex
    assert "choose one" in call("--latex", "--json", status=2).stderr


def named(counts: dict[int, dict[str, list[int]]], images: int = 40) -> dict:
    """Return the content of ``attributes.json`` with counts of some images."""
    tally = {"mentioned": 0, "precision": None, "recall": None}
    return {
        "against": "references",
        "objects": {**tally, "captions_with_hallucination": None},
        "attributes": {},
        "all": tally,
        "per_image": [
            {"image_id": image, "counts": counts.get(image, {})} for image in range(images)
        ],
    }


def test_named_objects_are_compared_by_the_sums_of_their_counts(tmp_path):
    # mentioned, right, agreed, found
    few = {image: {"objects": [2, 1, 4, 1]} for image in range(40)}
    many = {image: {"objects": [4, 3, 4, 2], "colour": [1, 1, 2, 1]} for image in range(40)}
    runs = [write(tmp_path / "b"), write(tmp_path / "m", system="multispace")]
    for run, counts in zip(runs, (few, many), strict=True):
        add(place(run), attributes=named(counts))
    *_, section = compare(ask(*runs)).sections
    assert section.title == "objects and attributes"
    ((_, _, difference),) = section.differences
    expected = {"objects precision": (0.5, 0.75), "objects recall": (0.25, 0.5),
                "colour precision": (0, 1), "colour recall": (0, 0.5)}  # fmt: skip
    for column, (base, multi) in expected.items():
        assert section.groups["base"][column].mean == base
        assert section.groups["multispace"][column].mean == multi
        cell = difference[column]  # the same in each image: no doubt is left
        assert (cell.mean, cell.low, cell.high) == pytest.approx((multi - base,) * 3)


def test_rates_of_named_objects_weight_images_by_their_counts(tmp_path):
    run = write(tmp_path / "b")
    counts = {0: {"objects": [9, 0, 0, 0]}, 1: {"objects": [1, 1, 0, 0]}}
    add(place(run), attributes=named(counts))
    *_, section = compare(ask(run)).sections
    assert section.groups["base"]["objects precision"].mean == pytest.approx(0.1)


def test_evaluations_without_counts_of_images_have_no_section_of_objects(tmp_path):
    run = write(tmp_path / "b")
    content = named({})
    del content["per_image"]
    add(place(run), attributes=content)
    assert [section.title for section in compare(ask(run)).sections] == ["test, 40 images"]


def test_differences_that_exclude_zero_are_marked(tmp_path):
    better = write(tmp_path / "m", system="multispace", good=1)
    _, table, single = compare(ask(write(tmp_path / "b"), better)).tables()
    cells = dict(zip(table.head[1:], table.rows[0][1:], strict=True))
    assert cells["CIDEr"] == "+1.000*\n[+1.000,\n+1.000]"
    assert cells["BLEU-4"] == "+0.000\n[+0.000,\n+0.000]"
    assert single.head[2:] == ("distinct captions", "novel captions", "different words")
    assert single.rows[0][2:] == ["50.0%", "25.0%", "90"]


def test_tables_fit_100_columns_whatever_the_groups_are_called(tmp_path):
    runs = [
        write(tmp_path / f"{n}{seed}", system="multispace", seed=seed, noise=n, good=n,
              epochs=7 + n, gamma_z=0.125 * n, batch_size=64 + n, record={"samples": 5})
        for n in range(3) for seed in range(2)
    ]  # fmt: skip
    text = compare(ask(*runs)).render()
    assert max(map(len, text.splitlines())) <= 100
    assert "--gamma-z 0.125" in text


def test_rows_have_the_names_that_are_given(tmp_path):
    base = [write(tmp_path / f"base-{n}", seed=n, noise=n) for n in range(2)]
    multi = write(tmp_path / "multi", system="multispace", gamma_z=0.5)
    both = (*base, multi)
    names = [f"B={tmp_path}/base-*", f"ours ={multi}/"]
    found = compare(ask(*both, names=names))
    assert list(found.runs) == list(found.sections[0].groups) == ["B", "ours"]
    assert list(found.runs["B"]) == [str(run) for run in base]
    some = compare(ask(*both, names=[f"X={base[1]}"])).runs
    assert list(some) == ["X", "multispace --gamma-z 0.5"]
    for run in both:
        seed = 1 if run == base[1] else 0
        system = "multispace" if run == multi else "base"
        write(run, system=system, seed=seed, record={"checkpoint": "last"},
              **({"gamma_z": 0.5} if run == multi else {}))  # fmt: skip
    found = compare(ask(*both, names=[f"B={base[0]}"], checkpoint="both"))
    assert {"B (best)", "B (last)"} < found.runs.keys()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["B={f}/c"], "--name B=.*/c: no run that is compared fits it"),
        (["B={f}/?"], "fits 2 rows: base; multispace"),
        (["B={f}/a", "C={f}/a"], "--name C=.*: the row is named 'B' already"),
        (["B={f}/a", "B={f}/b"], "two rows would be 'B'"),
        (["multispace={f}/a"], "two rows would be 'multispace'"),
        (["B"], "--name B: it must be a name and a run; write, for example"),
        (["=runs"], "--name =runs: it must be a name and a run"),
    ],
)
def test_names_that_fit_no_row_are_refused(tmp_path, names, message):
    runs = write(tmp_path / "a"), write(tmp_path / "b", system="multispace")
    with pytest.raises(OptionError, match=message):
        compare(ask(*runs, names=[name.format(f=tmp_path) for name in names]))
