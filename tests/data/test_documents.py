import json
import math
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multispace.data.documents import (
    Boolean,
    DocumentFormat,
    Either,
    Integer,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Object,
    Text,
)
from multispace.errors import CheckpointError, Error

STATE = DocumentFormat(
    Object(
        {"step": Integer(min=0)},
        {
            "best": Nullable(Number()),
            "scale": Number(0, 10),
            "names": ListOf(Text(max_length=5), min_items=1, max_items=2),
            "files": MapOf(Text(pattern="[0-9a-f]+"), max_items=2),
            "kind": Text(choices=("a", "b")),
            "on": Boolean(),
            "size": Either((Integer(min=1), ListOf(Integer(min=1)))),
        },
    ),
    error=CheckpointError,
    hint="restore the file",
    max_bytes=1000,
    max_depth=4,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.json"


def fault(read, path: Path) -> str:
    """Return the message of the error that reading raises, checked for its fields."""
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}")
    assert caught.value.hint == "restore the file"
    assert len(str(caught.value)) < len(str(path)) + 300
    return caught.value.what


def test_what_fits_is_returned(path):
    value = {"step": 3, "best": None, "scale": 2.5, "names": ["a"], "files": {"w": "0f"},
             "kind": "b", "on": True, "size": [1, 2]}  # fmt: skip
    path.write_text(json.dumps(value))
    assert STATE.read_json(path) == value
    path.write_text("\ufeff" + json.dumps({"step": 0}))
    assert STATE.read_json(path) == {"step": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -1}, f"step is -1, expected a whole number from 0 to {2**63 - 1}"),
        ({"step": True}, "step is True, expected a whole number"),
        ({"step": 1.0}, "step is 1.0, expected a whole number"),
        ({"step": 2**63}, "more than 63 bits"),
        ({"step": None}, "step is None, expected a whole number"),
        ({"best": "1"}, "best is '1', expected a number"),
        ({"best": math.nan}, "best is nan, expected a finite number"),
        ({"best": -math.inf}, "best is -inf, expected a finite number"),
        ({"scale": 11}, "scale is 11, expected a number from 0 to 10"),
        ({"scale": True}, "scale is True, expected a number"),
        ({"names": []}, "names has 0 entries, expected 1 to 2"),
        ({"names": ["a"] * 3}, "names has 3 entries"),
        ({"names": ["a", "abcdef"]}, "names[1] is 'abcdef', expected at most 5 characters"),
        ({"names": {}}, "names is an object, expected a list"),
        ({"files": {"w\x1b": "x"}}, "files.w is 'x', expected text of the form"),
        ({"files": dict.fromkeys("abc", "0")}, "files has 3 entries"),
        ({"files": []}, "files is a list, expected an object"),
        ({"kind": "c"}, "kind is 'c', expected one of a, b"),
        ({"on": 1}, "on is 1, expected true or false"),
        ({"size": 0}, "size is 0, expected a list"),
        ({"other": 1}, "has the unknown name 'other'"),
        ({"names": [[[[[]]]]]}, "nested more than 4 levels deep"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(path, change, message):
    path.write_text(json.dumps({"step": 1, **change}))
    assert message in fault(STATE.read_json, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "lacks 'step'"),
        (b"[]", "it is a list, expected an object"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 900, "not JSON"),
        (b"1" * 999, "63 bits"),
        (b" " * 1001, "larger than 1000 bytes"),
    ],
)
def test_content_that_is_no_document_is_refused(path, content, message):
    path.write_bytes(content)
    assert message in fault(STATE.read_json, path)


def test_depth_beyond_the_parser_is_one_error(path):
    deep = DocumentFormat(error=CheckpointError, hint="restore the file")
    for content in ("[" * 200_000 + "]" * 200_000, '{"a":' * 200_000 + "1" + "}" * 200_000):
        path.write_text(content)
        assert "nested" in fault(deep.read_json, path)
    path.write_text("[" * 5000 + "]" * 5000)
    assert "nested" in fault(deep.read_yaml, path)


def test_what_is_no_plain_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        assert fault(STATE.read_json, tmp_path / name) == "not a plain file"
    assert fault(STATE.read_json, Path("/dev/zero")) == "not a plain file"
    assert fault(STATE.read_json, tmp_path / "none") == "not found"
    (tmp_path / "file").write_text("1")
    assert "Not a directory" in fault(STATE.read_json, tmp_path / "file" / "inner")


# JSON lines


LOG = DocumentFormat(
    Object({"step": Integer(min=0)}), error=CheckpointError, hint="restore the file"
)


def test_lines_are_read_up_to_one_cut_short(path):
    path.write_text('{"step": 1}\n\n{"step": 2}\n{"st')
    assert LOG.read_json_lines(path) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\n{"step": 2}')
    assert LOG.read_json_lines(path) == [{"step": 1}, {"step": 2}]
    path.write_text("")
    assert LOG.read_json_lines(path) == []


def test_a_bad_line_is_named_by_its_number(path):
    path.write_text('{"step": 1}\nnoise\n{"step": 2}\n')
    with pytest.raises(CheckpointError, match=r"state.json, line 2: not JSON"):
        LOG.read_json_lines(path)
    path.write_text('{"step": 1}\n{"step": "x"}')
    with pytest.raises(CheckpointError, match=r"state.json, line 2: step is 'x'"):
        LOG.read_json_lines(path)
    path.write_text('{"step": 1}\n' * 3)
    assert "more than 2 lines" in fault(lambda p: LOG.read_json_lines(p, max_lines=2), path)
    assert "larger than 20" in fault(lambda p: LOG.read_json_lines(p, max_bytes=20), path)


# YAML


def test_yaml_is_checked_as_json_is(path):
    path.write_text("step: 3\nkind: a\n")
    assert STATE.read_yaml(path) == {"step": 3, "kind": "a"}
    for text, message in (
        ("step: -1", "step is -1"),
        ("1: 2", "the name 1 is not text"),
        ("step: 2020-01-01", "type date"),
        ("step: !!python/object/apply:os.getpid []", "not YAML"),
        ("step: [1", "not YAML"),
        ("step: " + "0x" + "f" * 900, "63 bits"),
    ):
        path.write_text(text)
        assert message in fault(STATE.read_yaml, path)


def test_aliases_that_expand_without_end_are_refused_at_once(path):
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    path.write_text("\n".join(lines))
    began = time.monotonic()
    wide = DocumentFormat(error=CheckpointError, hint="restore the file")
    assert "aliases (*name) are not allowed" in fault(wide.read_yaml, path)
    assert time.monotonic() - began < 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=20,
)
NAMES = ("step", "best", "scale", "names", "files", "kind", "on", "size")


def read_or_fault(reader: DocumentFormat, content: bytes):
    """Return the value, or the text of the one error that may be raised."""
    try:
        return reader.parse_json(content, "somewhere")
    except Error as error:
        return str(error)


@given(st.dictionaries(st.sampled_from(NAMES), JSON) | JSON)
def test_any_value_fits_or_is_one_error(value):
    found = read_or_fault(STATE, json.dumps(value).encode())
    if isinstance(found, str):
        assert found.startswith("somewhere: ")
        assert "\n" not in found
    else:
        assert type(found["step"]) is int
        assert found["step"] >= 0


@given(st.binary(max_size=50))
def test_any_bytes_are_read_or_are_one_error(content):
    found = read_or_fault(STATE, content)
    assert isinstance(found, dict) or found.startswith("somewhere: ")
