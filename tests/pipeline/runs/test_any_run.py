"""Run folders of any content: loaded, or refused in one line that names a file of the run."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.hostile import altered, edited, edits

from multispace.errors import Error
from multispace.pipeline.runs.run_folder import load_run

SETTINGS = settings(deadline=None, derandomize=True, max_examples=50)
CPU = torch.device("cpu")
JSON = ("config.json", "checkpoints/best/state.json", "vocabulary.json")
FILES = (*JSON, "checkpoints/best/weights.safetensors")


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("any") / "run"))


def assert_loaded_or_refused(run: Path, name: str, content: bytes) -> None:
    """Load the run with ``content`` in place of the file ``name``."""
    kept = (run / name).read_bytes()
    (run / name).write_bytes(content)
    try:
        load_run(run, CPU)
    except Error as error:
        event(f"{name}: refused")
        check_message(str(error), run)
    else:
        event(f"{name}: loaded")
    finally:
        (run / name).write_bytes(kept)


def check_message(message: str, run: Path) -> None:
    assert str(run) in message
    assert "\n" not in message
    assert len(message) < 2000


@SETTINGS
@given(data=st.data())
def test_any_change_of_json_is_loaded_or_refused(run, data):
    name = data.draw(st.sampled_from(JSON))
    text = data.draw(altered(json.loads((run / name).read_bytes())))
    assert_loaded_or_refused(run, name, text.encode("utf-8", "surrogatepass"))


@SETTINGS
@given(data=st.data())
def test_any_change_of_bytes_is_loaded_or_refused(run, data):
    name = data.draw(st.sampled_from(FILES))
    changed = edited((run / name).read_bytes(), data.draw(edits))
    assert_loaded_or_refused(run, name, changed)


@SETTINGS
@given(data=st.data())
def test_any_weights_under_a_repaired_digest_are_loaded_or_refused(run, data):
    state = json.loads((run / JSON[1]).read_bytes())
    weights = edited((run / FILES[3]).read_bytes(), data.draw(edits))
    state["files"]["weights.safetensors"] = hashlib.sha256(weights).hexdigest()
    del state["digest"]  # as earlier versions wrote it
    kept = (run / FILES[3]).read_bytes()
    (run / FILES[3]).write_bytes(weights)
    try:
        assert_loaded_or_refused(run, JSON[1], json.dumps(state).encode())
    finally:
        (run / FILES[3]).write_bytes(kept)
