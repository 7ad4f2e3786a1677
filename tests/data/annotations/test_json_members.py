import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multispace.data.annotations.json_members import EntryList, read_members

LISTS = frozenset(("images", "annotations"))
SPACES = st.text(" \t\n\r", max_size=2)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["images", "annotations", "info", "licenses"]), VALUES, max_size=4
)


def whole(members):
    """Return members with their lists decoded."""
    return {
        name: list(value) if isinstance(value, EntryList) else value
        for name, value in members.items()
    }


@given(document=DOCUMENTS, indent=st.sampled_from([None, 0, 2]), around=st.tuples(SPACES, SPACES))
def test_members_are_those_of_the_document(document, indent, around):
    text = around[0] + json.dumps(document, indent=indent) + around[1]
    members = read_members(text, LISTS, lambda part: None)
    assert whole(members) == document
    for name in LISTS & document.keys():
        assert isinstance(members[name], EntryList) == isinstance(document[name], list)
    assert whole(members) == document  # a second time


@given(document=DOCUMENTS, data=st.data())
def test_what_is_no_json_object_is_not_read(document, data):
    text = json.dumps(document)
    at = data.draw(st.integers(0, len(text)))
    mark = data.draw(st.sampled_from(list('{}[]:,"x 0')))
    for changed in (text[:at], text[:at] + mark + text[at:], text[:at] + mark + text[at + 1 :]):
        try:
            expected = json.loads(changed)
        except ValueError:
            expected = None
        members = read_members(changed, LISTS, lambda part: None)
        if isinstance(expected, dict):
            assert whole(members) == expected
        else:
            assert members is None


@pytest.mark.parametrize(
    "text", ["", " ", "[]", "1", '{"a": 1} {"a": 1}', "{1: 2}", "{[]: 2}", '{"a":' + "[" * 9999]
)
def test_other_texts(text):
    assert read_members(text, LISTS, lambda part: None) is None


def test_every_part_is_checked_as_deep_as_it_is():
    document = {"info": {"a": [1]}, "images": [{"id": number} for number in range(2500)]}
    parts = []
    read_members(json.dumps(document), LISTS, parts.append)
    assert parts[0] == {"info": {"a": [1]}}
    assert [len(held) for (held,) in parts[1:]] == [1000, 1000, 500]
    assert [entry for (held,) in parts[1:] for entry in held] == document["images"]
