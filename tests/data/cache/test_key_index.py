import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multispace.data.cache import key_index
from multispace.data.cache.format.keys import check_key_list, check_keys, format_key_list
from multispace.data.cache.key_index import KeyIndex

keys = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=6)


def index_of(parts):
    index = KeyIndex()
    for part in parts:
        index.add(format_key_list(part))
    return index


@settings(deadline=None, max_examples=50)
@given(parts=st.lists(st.lists(keys, min_size=1), max_size=6), asked=st.lists(keys, max_size=9))
def test_it_is_the_dictionary_of_its_keys(parts, asked):
    every, parts = set(), [list(dict.fromkeys(part)) for part in parts]
    parts = [[key for key in part if not (key in every or every.add(key))] for part in parts]
    parts = [part for part in parts if part]
    expected = {key: (s, r) for s, part in enumerate(parts) for r, key in enumerate(part)}
    index = index_of(parts)
    assert len(index) == len(expected)
    assert list(index.items()) == list(expected.items())
    asked += list(expected)
    found = [tuple(place) for place in index.find(asked).tolist()]
    assert found == [expected.get(key, (-1, -1)) for key in asked]
    assert [key in index for key in asked] == [key in expected for key in asked]
    assert b"".join(map(index.key_list, range(len(parts)))) == format_key_list(expected)


@pytest.mark.parametrize("count", [1, 511, 512, 513, 5000])
def test_it_grows(count):
    names = [f"folder/{number}.jpg" for number in range(count)]
    index = index_of([names[start : start + 100] for start in range(0, count, 100)])
    numbers = np.arange(count)
    assert index.find(names).tolist() == np.stack([numbers // 100, numbers % 100], 1).tolist()
    assert index.find(["x", "folder", "\ud800", ""]).tolist() == [[-1, -1]] * 4
    assert "\ud800" not in index
    assert 3 not in index
    with pytest.raises(KeyError, match="x"):
        index["x"]


@pytest.mark.parametrize("same", [0, 1])
def test_keys_whose_hashes_collide_are_told_apart(monkeypatch, same):
    monkeypatch.setattr(key_index, "hash", lambda key: len(key) * same, raising=False)
    names = [f"{number:03d}" for number in range(300)]
    index = index_of([names[:100], names[100:]])
    assert [index[name] for name in names] == [tuple(p) for p in index.find(names).tolist()]
    assert index["101"] == (1, 1)
    assert "300" not in index
    with pytest.raises(ValueError, match="^007 is in another shard too$"):
        index.add(b"x\n007\n")


def test_a_key_that_occurs_twice_is_named():
    with pytest.raises(ValueError, match="^b occurs twice$"):
        index_of([["a", "b", "c", "b"]])
    with pytest.raises(ValueError, match="^b is in another shard too$"):
        index_of([["a", "b"], ["c"], ["b"]])


def test_a_number_of_keys_that_nobody_has_takes_no_memory():
    index = KeyIndex(1 << 60)
    index.add(b"a\nb\n")
    assert index["b"] == (0, 1)


def test_it_takes_little_memory():
    """At most 80 bytes a key of 20 bytes, also while it grows."""
    count = 200_000
    lists = [
        "".join(f"images/{n:09d}.jpg\n" for n in range(start, start + 4000)).encode()
        for start in range(0, count, 4000)
    ]
    tracemalloc.start()
    index = KeyIndex()
    for content in lists:
        index.add(bytes(bytearray(content)))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) == count
    assert held < 70 * count
    assert peak < 80 * count


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no end"),
        (b"a\nb", "no end"),
        (b"a\n", "1 keys, the shard has 2 rows"),
        (b"a\nb\nc\n", "3 keys"),
        (b"a\n\n", "names no file"),
        (b"a\n../b\n", "leaves the image folder"),
        (b"a\nb/\n", "should be written 'b'"),
        (b"a\n/b\n", "leaves the image folder"),
        (b"a\nb\\c\n", "backslash"),
        (b"a\n\xff\n", "codec can't decode"),
        (b"a\n" + b"b" * 5000 + b"\n", "5000 bytes, at most 4096"),
        ("a\n\u2028\n".encode(), "control character"),
    ],
)
def test_what_is_no_key_list_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        check_key_list(content, 2)


@pytest.mark.parametrize("content", [b"a\nb\n", "é\nx/-y\n".encode(), b"a.b/c_d/0\n-\n"])
def test_key_lists(content):
    check_key_list(content, 2)


@pytest.mark.parametrize("bad", ["a\nb", "", "a/", "/a", "..", "a//b", "a\\b", "é\x01", "./a"])
def test_a_bad_key_among_plain_ones_is_found(bad):
    with pytest.raises(ValueError, match="key "):
        check_keys(["x.jpg", bad, "folder/y.jpg"])
    check_keys(["x.jpg", "folder/y.jpg", "é", "a b", "-"])
