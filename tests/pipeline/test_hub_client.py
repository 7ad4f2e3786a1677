"""``hf://`` with the client of the Hugging Face Hub, against a stand-in for the server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.model_hub import Hub, serve_hub
from support.paths import ROOT

from multispace.data.remote import store as store_module
from multispace.errors import PipelineError
from multispace.pipeline.command_options.export_options import ModelExportOptions
from multispace.pipeline.export import export
from multispace.pipeline.model_transfer import local_model

reason = "needs huggingface_hub: pip install '.[hub]'"
HfFileSystem = pytest.importorskip("huggingface_hub", reason=reason).HfFileSystem


@pytest.fixture
def hub():
    with serve_hub() as server:
        yield server


def call(hub: Hub, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own: the client reads its settings when it is imported."""
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_test",
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MULTISPACE_CACHE": str(folder / "copies"),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, "-m", "multispace", *words],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_model_is_pushed_pulled_and_used(hub, tiny_run, tiny_collection, tmp_path):
    model = export(ModelExportOptions(tiny_run, tmp_path / "model")).out
    done = call(hub, tmp_path, "push", "model", "hf://user/model")
    assert done.returncode == 0, done.stderr
    expected = {path.name: path.read_bytes() for path in model.iterdir()}
    assert hub.files == expected
    done = call(hub, tmp_path, "pull", "hf://user/model", "back")
    assert done.returncode == 0, done.stderr
    back = {p.name: p.read_bytes() for p in (tmp_path / "back").iterdir() if p.name != ".lock"}
    assert back == expected
    image = str(next((tiny_collection / "images").iterdir()))
    captions = [call(hub, tmp_path, "caption", run, image, "--device", "cpu").stdout
                for run in ("hf://user/model", str(tiny_run))]  # fmt: skip
    assert captions[0] == captions[1] != ""


@pytest.mark.parametrize("url", ["hf://user/other", "hf://a b/c/d"])
def test_what_the_client_refuses_is_one_line(hub, tmp_path, url):
    done = call(hub, tmp_path, "pull", url, "back")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {url}/model.json: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "back").exists()


def test_a_hub_that_cannot_be_reached_is_tried_again(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.0)
    HfFileSystem.clear_instance_cache()
    with pytest.raises(PipelineError, match=r"model.json: .*refused; tried 5 times; the same comm"):
        local_model("hf://user/model")
    HfFileSystem.clear_instance_cache()
