import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from support.tiny import train_tiny

from multispace.cli import main
from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.files import write_json
from multispace.errors import CheckpointError, OptionError, PipelineError
from multispace.pipeline.caption import caption
from multispace.pipeline.command_options.caption_options import CaptionOptions
from multispace.pipeline.command_options.evaluate_options import EvaluateOptions
from multispace.pipeline.command_options.export_options import ModelExportOptions
from multispace.pipeline.command_options.train_options import resolve
from multispace.pipeline.evaluate import evaluate
from multispace.pipeline.export import export
from multispace.pipeline.runs.run_folder import load_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tiny_run, tiny_cache, tmp_path_factory) -> Path:
    """A copy of a run with an evaluation of its best checkpoint."""
    folder = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("export") / "run"))
    evaluate(EvaluateOptions(folder, tiny_cache, metrics=("bleu", "cider"), device="cpu"))
    return folder


def ask(run: Path, out: Path, **other) -> ModelExportOptions:
    return ModelExportOptions(run, out, **{"resamples": 100, **other})


def card(out: Path) -> tuple[dict, str]:
    """Return the front matter and the body of a card."""
    _, head, body = (out / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), body


def test_an_exported_model_is_the_best_checkpoint_with_its_vocabulary(run, tmp_path):
    exported = export(ask(run, tmp_path / "new" / "model"))
    assert exported.out == tmp_path / "new" / "model"
    model, original = load_run(exported.out, CPU), load_run(run, CPU)
    assert model.vocabulary == original.vocabulary
    assert (model.step, model.checkpoint) == (original.step, "best")
    assert model.spec == original.spec
    state, expected = model.system.state_dict(), original.system.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert sum(exported.files.values()) == sum(
        path.stat().st_size for path in exported.out.iterdir() if path.name != "model.json"
    )


def test_the_card_has_what_model_hubs_read(run, tmp_path):
    out = tmp_path / "tiny"
    (tmp_path / "notes.md").write_text("Made for a *test*.\n")
    exported = export(
        ask(run, out, license="mit", datasets=("flickr8k", "x/y"), notes=tmp_path / "notes.md")
    )
    head, body = card(out)
    assert head == {
        "license": "mit",
        "library_name": "multispace-captioning",
        "pipeline_tag": "image-to-text",
        "tags": ["image-captioning", "multispace"],
        "datasets": ["flickr8k", "x/y"],
        "metrics": ["bleu", "cider"],
    }
    assert "\n# tiny\n" in body
    assert "Made for a *test*." in body
    spec = load_run(run, CPU).spec
    for value in (spec.architecture, spec.weights_sha256, spec.fingerprint, "bilinear"):
        assert value in body
    scores = json.loads((run / "evaluation/test/scores.json").read_text())
    assert f"| CIDEr | {scores['CIDEr']:.3f} | " in body
    assert "|split:test|images:4|" in body
    assert "ms.load_run(" in body
    assert exported.evaluations == ("test",)
    assert f"digest sha256:{exported.digest}" in exported.render()


def test_without_evaluation_and_license_the_card_says_so(tiny_base_run, tmp_path):
    export(ask(tiny_base_run, tmp_path / "model", name="of mine"))
    head, body = card(tmp_path / "model")
    assert head["license"] == "unknown"
    assert head.keys() & {"datasets", "metrics"} == set()
    assert "# of mine" in body
    assert "had not been evaluated" in body


def test_scores_of_another_step_are_left_out(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "run"))
    place = other / "evaluation" / "test" / "evaluation.json"
    record = json.loads(place.read_text())
    write_json(place, {**record, "step": record["step"] - 1})
    exported = export(ask(other, tmp_path / "model"))
    assert exported.evaluations == ()
    assert len(exported.notes) == 1
    assert f"evaluates step {record['step'] - 1}" in exported.notes[0]
    assert "had not been evaluated" in card(tmp_path / "model")[1]


def test_an_evaluation_that_was_changed_is_not_published(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "run"))
    write_json(other / "evaluation" / "test" / "scores.json", {"CIDEr": 9.0})
    with pytest.raises(PipelineError, match="scores.json: does not match its digest"):
        export(ask(other, tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def test_no_place_of_this_machine_is_published(tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / "secret-place"))
    config = json.loads((run / "config.json").read_text())
    config["options"] |= {"cache": "/secret-place/cache", "run": "/secret-place/run"}
    config["options"]["added_by_a_later_version"] = "/secret-place/file"
    config["feature_spec"]["weights"] = "/secret-place/mine.pth"
    write_json(run / "config.json", config)
    export(ask(run, tmp_path / "model"))
    for path in (tmp_path / "model").iterdir():
        assert b"secret-place" not in path.read_bytes(), path
    model = load_run(tmp_path / "model", CPU)
    assert model.spec.weights == "mine.pth"
    assert model.config["fingerprint"] == model.spec.fingerprint


def test_an_existing_folder_is_refused_and_stays(run, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(OptionError, match="--out .*model: is there already; choose a new folder"):
        export(ask(run, tmp_path / "model"))
    assert list((tmp_path / "model").iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="is there already"):
        export(ask(run, tmp_path / "link"))


def test_a_folder_that_appears_meanwhile_is_kept(run, tmp_path, monkeypatch):
    out = tmp_path / "model"
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(PipelineError, match="model: not written"):
        export(ask(run, out))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # no partial folder is left
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing(run, tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PipelineError, match="model: not written .No space left"):
        export(ask(run, tmp_path / "model"))
    assert list(tmp_path.iterdir()) == []


def test_notes_that_cannot_be_read_are_refused(run, tmp_path):
    with pytest.raises(OptionError, match="--notes .*: cannot be read"):
        export(ask(run, tmp_path / "model", notes=tmp_path / "none.md"))
    (tmp_path / "latin.md").write_bytes(b"\xe9")
    with pytest.raises(OptionError, match="latin.md: cannot be read .not UTF-8"):
        export(ask(run, tmp_path / "model", notes=tmp_path / "latin.md"))


def test_the_last_checkpoint_is_exported_as_such(tiny_run, tmp_path):
    export(ask(tiny_run, tmp_path / "last", checkpoint="last"))
    model = load_run(tmp_path / "last", CPU)
    assert (model.checkpoint, model.step) == ("last", load_run(tiny_run, CPU, "last").step)
    export(ask(tiny_run, tmp_path / "best"))
    with pytest.raises(PipelineError, match="best: an exported model, of the best checkpoint"):
        load_run(tmp_path / "best", CPU, "last")


def test_the_moving_average_is_what_is_exported(tiny_cache, tmp_path):
    run = train_tiny("base", tiny_cache, tmp_path / "run", epochs=2, ema=0.9)
    export(ask(run, tmp_path / "model"))
    state, expected = (load_run(f, CPU).system.state_dict() for f in (tmp_path / "model", run))
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_model_captions_and_is_evaluated_like_its_run(run, tiny_collection, tiny_cache, tmp_path):
    export(ask(run, tmp_path / "model"))
    images = tuple(sorted((tiny_collection / "images").iterdir())[:4])
    captions = [
        caption(CaptionOptions(f, images, samples=n, device="cpu")).to_json()
        for f in (run, tmp_path / "model")
        for n in (0, 3)
    ]
    assert captions[:2] == captions[2:]
    metrics = ("bleu", "cider")
    found = evaluate(EvaluateOptions(tmp_path / "model", tiny_cache, metrics=metrics, device="cpu"))
    assert found.folder == tmp_path / "model" / "evaluation" / "test"
    written = json.loads((run / "evaluation/test/scores.json").read_text())
    assert json.loads((found.folder / "scores.json").read_text()) == written
    load_run(tmp_path / "model", CPU)  # an evaluation is no part of the model


def test_a_model_can_be_exported_again(run, tmp_path):
    first = export(ask(run, tmp_path / "a", name="x"))
    again = export(ask(tmp_path / "a", tmp_path / "b", name="x"))
    assert first.files.keys() == again.files.keys()
    for name in ("config.json", "vocabulary.json", "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_model_gives_the_options_of_another_training(run, tmp_path):
    export(ask(run, tmp_path / "model"))
    given = {"cache": tmp_path / "c", "run": tmp_path / "r", "epochs": 3}
    options = resolve(given, tmp_path / "model" / "config.json")
    assert (options.system, options.z_size, options.epochs) == ("multispace", 8, 3)


def test_a_model_of_imported_features_says_that_it_captions_vectors(tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    spec = {
        **config["feature_spec"],
        "transform": None,
        "origin": "imported, provenance as stated by the user",
    }
    config |= {"feature_spec": spec}
    config["fingerprint"] = FeatureSpec.from_json(spec, "").fingerprint
    write_json(run / "config.json", config)
    export(ask(run, tmp_path / "model"))
    body = card(tmp_path / "model")[1]
    assert "but no image files" in body
    assert "passes through this network" not in body


def test_a_run_without_the_checkpoint_is_refused(run_copy, tmp_path):
    shutil.rmtree(run_copy / "checkpoints" / "best")
    with pytest.raises(CheckpointError, match="checkpoints/best"):
        export(ask(run_copy, tmp_path / "model"))


def test_the_command(run, tmp_path):
    asked = ["export", str(run), "--out", str(tmp_path / "m"), "--dataset", "a", "--dataset", "b",
             "--resamples", "50"]  # fmt: skip
    done = CliRunner().invoke(main, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["evaluations"] == ["test"]
    assert card(tmp_path / "m")[0]["datasets"] == ["a", "b"]
    again = CliRunner().invoke(main, asked)
    assert again.exit_code == 2
    assert "is there already" in again.stderr
