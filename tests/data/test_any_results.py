"""Caption results of any content: read, or refused in one line that names the file."""

import json
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.hostile import altered, edited, edits

from multispace.data.caption_results import read_results
from multispace.errors import DataError

SETTINGS = settings(deadline=None, derandomize=True, max_examples=150)
ENTRIES = [{"image_id": 3, "caption": "a dog"}, {"image_id": "a.jpg", "caption": "a cat"}]
DOCUMENTS = (ENTRIES, {"annotations": ENTRIES, "info": {}})


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("any") / "results.json"


def assert_read_or_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        results = read_results(path)
    except DataError as error:
        event("refused")
        assert_one_line(str(error), path)
        return
    event("read")
    assert results
    assert len({str(result.image_id) for result in results}) == len(results)
    assert all(type(result.image_id) in (int, str) for result in results)
    assert all(isinstance(result.caption, str) for result in results)


def assert_one_line(message: str, path: Path) -> None:
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < len(str(path)) + 1000


@SETTINGS
@given(data=st.data())
def test_any_change_of_results_is_read_or_refused(path, data):
    document = json.loads(json.dumps(data.draw(st.sampled_from(DOCUMENTS))))
    text = data.draw(altered(document))
    assert_read_or_refused(path, text.encode("utf-8", "surrogatepass"))


@SETTINGS
@given(data=st.data())
def test_any_change_of_bytes_is_read_or_refused(path, data):
    content = json.dumps(data.draw(st.sampled_from(DOCUMENTS))).encode()
    assert_read_or_refused(path, edited(content, data.draw(edits)))
