import json

import pytest

from multispace.data.external_vectors.vector_names import NamePattern, map_names, read_name_map
from multispace.errors import CacheError, OptionError


@pytest.mark.parametrize(
    ("pattern", "name", "key"),
    [
        ("COCO_val2014_{:012d}.jpg", "42", "COCO_val2014_000000000042.jpg"),
        ("COCO_val2014_{:012d}.jpg", "000000000042", "COCO_val2014_000000000042.jpg"),
        ("{:d}.jpg", "0042", "42.jpg"),
        ("val2014/{}", "a b.jpg", "val2014/a b.jpg"),
        ("{{{}}}.jpg", "a", "{a}.jpg"),
    ],
)
def test_a_pattern_makes_a_key_of_a_name(pattern, name, key):
    assert NamePattern(pattern)(name) == key
    assert map_names([name], pattern, None) == [key]


@pytest.mark.parametrize(
    "pattern",
    ["", "a.jpg", "{}{}", "{0}", "{x}", "{!r}", "{.__class__}", "{:{}}", "{:>5}", "{", "{:100d}",
     "{:9}", "{:5d}", "{:12.3d}", "{:x}", "{:²d}", "{:" + "9" * 5000 + "d}"],
)  # fmt: skip
def test_other_patterns_are_refused(pattern):
    with pytest.raises(OptionError, match="^--name-pattern"):
        NamePattern(pattern)


def test_a_pattern_of_numbers_refuses_text():
    for name in ("a", "1.5", "-1", "²", ""):
        with pytest.raises(CacheError, match=r"--name-pattern {:d}: '.*' is not a whole number; u"):
            map_names(["1", name], "{:d}", None)


@pytest.mark.parametrize("between", ["\t", ",", ", "])
def test_a_table_maps_names_to_keys(tmp_path, between):
    path = tmp_path / "map.txt"
    path.write_text(
        f"1{between}é b.jpg\r\n\n2{between}c.jpg\n3{between}d.jpg\n", encoding="utf-8-sig"
    )
    assert map_names(["2", "1"], None, path) == ["c.jpg", "é b.jpg"]


def test_after_a_tab_a_comma_belongs_to_the_key(tmp_path):
    (tmp_path / "map.txt").write_text("a,b\tc,d.jpg\n")
    assert read_name_map(tmp_path / "map.txt") == {"a,b": "c,d.jpg"}


def test_the_ids_of_annotations_are_names(tmp_path):
    coco = {
        "images": [{"id": n, "file_name": f"COCO_val2014_{n:012d}.jpg"} for n in (42, 7)],
        "annotations": [{"id": n, "image_id": n, "caption": "a bus"} for n in (42, 7)],
    }
    (tmp_path / "captions.json").write_text(json.dumps(coco))
    keys = map_names(["7", "42"], None, tmp_path / "captions.json")
    assert keys == ["COCO_val2014_000000000007.jpg", "COCO_val2014_000000000042.jpg"]


def test_a_name_without_an_entry_is_named_with_an_example_of_the_file(tmp_path):
    path = tmp_path / "map.txt"
    path.write_text("1.npy\ta.jpg\n")
    with pytest.raises(CacheError) as caught:
        map_names(["1", "2"], None, path)
    assert str(caught.value) == (
        f"--name-map {path}: has no entry for 2 of 2 names, such as '1', its first is '1.npy'; "
        "add them, or remove their vectors"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\ta.jpg\n2\n", "line 2 is '2', expected a name, a tab and a key"),
        (b"1\ta.jpg\n1\tb.jpg\n", "'1' has two: 'a.jpg' and 'b.jpg'"),
        (b"1\t\xff\n", "utf-8"),
        (b"1\t\n", "line 1 is"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, content, message):
    (tmp_path / "map.txt").write_bytes(content)
    with pytest.raises(CacheError, match=f"^--name-map .*map.txt: cannot be read .*{message}"):
        read_name_map(tmp_path / "map.txt")
    with pytest.raises(CacheError, match="--name-map .*none: cannot be read .*No such file"):
        read_name_map(tmp_path / "none")
    (tmp_path / "map.json").write_text("{}")
    with pytest.raises(CacheError, match=r"--name-map .*map.json: "):
        read_name_map(tmp_path / "map.json")
