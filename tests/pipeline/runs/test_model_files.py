"""Exported models: any change of any of their files is refused in one line."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from multispace.errors import Error, PipelineError
from multispace.pipeline.command_options.export_options import ModelExportOptions
from multispace.pipeline.export import export
from multispace.pipeline.runs.model_files import (
    MANIFEST,
    ModelFiles,
    parse_model_manifest,
    write_model,
)
from multispace.pipeline.runs.run_folder import load_run, read_run_config

CPU = torch.device("cpu")
FILES = ("README.md", "config.json", "vocabulary.json", "weights.safetensors")


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    export(ModelExportOptions(tiny_run, out))
    return out


@pytest.fixture
def model(exported, tmp_path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "model"))


def assert_refused(model: Path, match: str) -> None:
    with pytest.raises(Error, match=match) as caught:
        load_run(model, CPU)
    assert str(model) in str(caught.value)
    assert "\n" not in str(caught.value)


def sign_again(model: Path) -> None:
    """Write a ``model.json`` that lists the files as they are now."""
    manifest = ModelFiles.open(model).manifest
    contents = {entry.file: (model / entry.file).read_bytes() for entry in manifest.files}
    write_model(model, contents, manifest.checkpoint, manifest.step)


def test_the_manifest_lists_all_files_and_a_digest_over_them(exported):
    assert sorted(path.name for path in exported.iterdir()) == sorted((MANIFEST, *FILES))
    found = json.loads((exported / MANIFEST).read_text())
    assert [entry["file"] for entry in found["files"]] == sorted(FILES)
    for entry in found["files"]:
        content = (exported / entry["file"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    digest = found.pop("digest")
    canonical = json.dumps(found, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_any_flipped_byte_is_refused(model, name):
    content = bytearray((model / name).read_bytes())
    places = range(len(content)) if name == MANIFEST else range(0, len(content), 997)
    for place in [*places, len(content) - 1]:
        content[place] ^= 1
        (model / name).write_bytes(content)
        assert_refused(model, f"{name}: ")
        content[place] ^= 1


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_a_missing_or_longer_file_is_refused(model, name):
    content = (model / name).read_bytes()
    (model / name).write_bytes(content + b"\n")
    assert_refused(model, f"{name}: (larger|does not match)")
    (model / name).unlink()
    assert_refused(model, f"{name}: not found; export the model again, or fetch it again")


def test_a_manifest_in_another_spelling_is_refused(model):
    values = json.loads((model / MANIFEST).read_text())
    (model / MANIFEST).write_text(json.dumps(values, indent=1))
    assert_refused(model, "model.json: does not match its digest")


def test_an_extra_tensor_is_refused_though_the_digests_are_right(model):
    tensors = load_file(model / "weights.safetensors")
    save_file({**tensors, "extra": torch.zeros(1)}, model / "weights.safetensors")
    sign_again(model)
    assert_refused(model, "weights.safetensors: has the unknown tensor 'extra'")


def test_weights_that_are_no_safetensors_are_refused_though_the_digests_are_right(model):
    torch.save({"a": torch.zeros(1)}, model / "weights.safetensors")  # a pickle
    sign_again(model)
    assert_refused(model, "weights.safetensors: not readable")


def test_weights_that_are_not_finite_are_refused(model):
    tensors = load_file(model / "weights.safetensors")
    save_file({n: t / 0 for n, t in tensors.items()}, model / "weights.safetensors")
    sign_again(model)
    assert_refused(model, "numbers that are not finite")


@pytest.mark.parametrize(
    "name", ["../x.json", "a/b.json", "/etc/x.json", ".x.json", "x.pkl", "x", "x.json\n", ""]
)
def test_a_manifest_cannot_name_other_files(name):
    values = {"file": name, "bytes": 0, "sha256": "0" * 64}
    body = {"format": "multispace-model", "version": 1, "checkpoint": "best", "step": 0}
    content = json.dumps({**body, "files": [values], "digest": "0" * 64}).encode()
    with pytest.raises(PipelineError, match=r"files\[0\].file"):
        parse_model_manifest(content, "model.json")


@pytest.mark.parametrize("names", [["a.json", "a.json"], ["b.json", "a.json"], [MANIFEST]])
def test_names_are_in_order_and_differ(names, tmp_path):
    (tmp_path / MANIFEST).write_bytes(b"")
    manifest = write_model(tmp_path, dict.fromkeys(names, b""), "best", 0)
    doubled = [entry for name in names for entry in manifest.files if entry.file == name]
    content = type(manifest)("best", 0, tuple(doubled)).to_bytes()
    with pytest.raises(PipelineError, match="does not match its digest"):
        parse_model_manifest(content, "model.json")


def test_a_pipe_in_a_model_is_refused_and_not_waited_for(model):
    (model / "README.md").unlink()
    os.mkfifo(model / "README.md")
    assert_refused(model, "README.md: not a plain file")


def test_a_changed_config_is_not_read_by_compare(model):
    (model / "config.json").write_text((model / "config.json").read_text().replace("8", "9"))
    with pytest.raises(PipelineError, match="config.json: does not match its digest"):
        read_run_config(model)
