"""Signatures: one line below a table that says how its scores were made."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from support.evaluations import MADE, add, place, write

from multispace.cli import main
from multispace.errors import PipelineError
from multispace.pipeline.compare import CompareOptions, compare
from multispace.pipeline.runs.signature import (
    Signature,
    evaluation_signature,
    results_signature,
)
from multispace.version import package_version

OF_MADE = (
    "software:multispace-captioning|version:0|metrics:bleu+meteor+rouge+cider|"
    "tok:ptb-lower-nopunct|split:test|images:40|refs:222222222222|system:base|caption:mode|beam:5|"
    "length-penalty:0|samples:0|seed:0|run-seed:3|checkpoint:best|step:9|features:444444444444"
)


def test_the_signature_of_an_evaluation():
    assert str(evaluation_signature(MADE, 3)) == OF_MADE


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"references_digest": "5" * 64}, "refs:555555555555"),
        ({"beam": 1}, "beam:1"),
        ({"length_penalty": 0.7}, "length-penalty:0.7"),
        ({"captions_from": "left-out"}, "caption:left-out"),
        (
            {"samples": 20, "temperature": 0.4, "top_p": 0.9, "latent_temperature": 0.5},
            "samples:20,temperature=0.4,top-p=0.9,latent-temperature=0.5",
        ),
        (
            {"samples": 2, "guidance": 0.8},
            "samples:2,temperature=0,top-p=1,latent-temperature=1,guidance=0.8",
        ),
        ({"captions_from": "consensus"}, "samples:0,temperature=0,top-p=1,latent-temperature=1"),
        ({"checkpoint": "last", "step": 12}, "checkpoint:last|step:12"),
        ({"seed": 7}, "seed:7"),
        ({"metrics": ("cider",)}, "metrics:cider"),
        ({"split": "val"}, "split:val"),
        ({"version": "9.9"}, "version:9.9"),
    ],
)
def test_what_changes_a_score_changes_the_signature(change, part):
    changed = str(evaluation_signature(replace(MADE, **change), 3))
    assert f"|{part}|" in changed
    assert f"|{part}|" not in OF_MADE


def test_a_value_cannot_pass_for_two_fields():
    text = str(Signature((("split", "a|beam:9\nx"), ("beam", "5"))))
    assert text == "split:a_beam_9 x|beam:5"


def test_seeds_of_a_group_are_joined():
    found = Signature.joined([evaluation_signature(replace(MADE, step=9 + n), n) for n in (0, 1)])
    assert str(found) == OF_MADE.replace("run-seed:3", "run-seed:0+1").replace(
        "step:9", "step:9+10"
    )


def test_results_of_unknown_origin():
    found = str(results_signature(("bleu", "cider"), 4, "ab" * 32))
    assert found == (
        f"software:multispace-captioning|version:{package_version()}|metrics:bleu+cider|"
        "tok:ptb-lower-nopunct|images:4|refs:abababababab"
    )


def test_compare_prints_a_line_for_each_row(tmp_path):
    runs = [write(tmp_path / f"b{seed}", seed=seed) for seed in (0, 3)]
    runs.append(write(tmp_path / "l", system="latent", seed=3))
    found = compare(CompareOptions(tuple(runs), resamples=5))
    assert found.signatures == {
        "base": OF_MADE.replace("run-seed:3", "run-seed:0+3"),
        "latent": OF_MADE.replace("system:base", "system:latent"),
    }
    expected = [f"signature of {name}: {text}" for name, text in found.signatures.items()]
    assert [*found.notes[-2:]] == expected
    for form in ("markdown", "latex"):
        assert "run-seed:0+3" in found.render(form)
    done = CliRunner().invoke(main, ["compare", *map(str, runs), "--resamples", "5", "--json"])
    assert json.loads(done.stdout)["signatures"] == found.signatures


def test_scores_of_earlier_versions_have_no_signature(tmp_path):
    run = write(tmp_path / "a")
    scores = json.loads((place(run) / "scores.json").read_text())
    assert scores.pop("signature") == "made:by hand"
    add(place(run), scores=scores)
    assert compare(CompareOptions((run,), resamples=5)).signatures["base"].startswith("software:")


@pytest.mark.parametrize("entry", [{"signature": 5}, {"other": "text"}, {"Bleu_9": 1.0}])
def test_other_entries_of_scores_are_refused(tmp_path, entry):
    run = write(tmp_path / "a")
    scores = json.loads((place(run) / "scores.json").read_text())
    add(place(run), scores={**scores, **entry})
    with pytest.raises(PipelineError, match=f"scores.json: {next(iter(entry))} is"):
        compare(CompareOptions((run,), resamples=5))
