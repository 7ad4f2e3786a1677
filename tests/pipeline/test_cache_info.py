import json
from dataclasses import replace

import pytest
from support.faults import list_anew
from support.rows import KEYS, SPEC, append, make_cache, put_text

from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.maintenance.differences import compare_caches
from multispace.data.maintenance.verify import verify_cache
from multispace.pipeline.cache_info import cache_info
from multispace.pipeline.repair import repair


@pytest.fixture
def root(tmp_path):
    return make_cache(tmp_path / "cache").root


def test_what_a_cache_holds(root):
    list_anew(root, failures={f"{n}.jpg": "empty file" for n in range(12)})
    info = cache_info(root)
    assert (info.rows, info.shards, info.fingerprint) == (5, 3, SPEC.fingerprint)
    assert (info.splits["train"].images, info.splits["train"].captions) == (3, 6)
    assert info.splits["train"].unknown == 0.0
    plain = json.loads(json.dumps(info.to_json()))
    assert plain["splits"]["val"] == {"pictures": 2, "captions": 3, "tokens": 9, "unknown": 0.0}
    assert (plain["cache"], plain["vocabulary"]["words"]) == (str(root), 11)
    lines = info.render().splitlines()
    assert lines[0].startswith("5 vectors in 3 shards, 0.0 MB, 12 images failed")
    assert "  architecture    resnet18" in lines
    assert f"  fingerprint     {SPEC.fingerprint}" in lines
    assert "vocabulary words: 11" in lines
    assert ["train", "3", "6", "19", "0.00%"] in [line.split() for line in lines]
    assert lines[-2:] == ["failed: 7.jpg: empty file", "... and 2 more: --json lists them all"]


def test_a_cache_of_captions_alone_has_no_spec(tmp_path):
    with write_cache(tmp_path) as writer:
        put_text(writer)
    info = cache_info(tmp_path)
    assert (info.spec, info.fingerprint, info.rows, info.held_out) == (None, None, 0, None)
    assert info.render().startswith("0 vectors in 0 shards")


def test_control_characters_of_files_are_not_printed(root, tmp_path):
    """A stranger's reasons and file names may hold commands for a terminal."""
    evil = "\x1b]0;gone\x07\x1b[2J\nfault: none\u202e"
    list_anew(root, failures={"a\x1b[31m.jpg": evil, "x.jpg": evil})
    (root / "features" / f"00009-{'0' * 8}.h5").write_bytes(b"")
    (root / "features" / "note\x1b[2J").write_bytes(b"")
    other = make_cache(tmp_path / "other", KEYS[:2]).root
    results = [cache_info(root), verify_cache(root), compare_caches(root, other), repair(root)]
    for result in results:
        messages = getattr(result, "messages", tuple)()
        for line in (*result.render().split("\n"), *messages):
            assert line.isprintable(), line


def test_results_say_how_a_command_ends(root):
    assert verify_cache(root).exit_status == 0
    assert repair(root).exit_status == 0
    assert repair(root).render() == "nothing to repair"
    (root / Cache.open(root).manifest.shards[0].file).unlink()
    verified = verify_cache(root)
    assert verified.exit_status == 1
    assert verified.render().splitlines()[-1].endswith("checked: 1 faults")
    repaired = repair(root)
    assert repaired.exit_status == 3
    assert repaired.messages()[0].startswith("left: `multispace cache repair")
    assert repair(root).render() == "nothing to repair"


def test_a_comparison_marks_what_differs(root, tmp_path):
    with write_cache(tmp_path / "other") as writer:
        append(writer, KEYS[:2], spec=replace(SPEC, pooling="maximum"))
    compared = compare_caches(root, tmp_path / "other")
    lines = compared.render().splitlines()
    assert "* meaning pooling                   global average | maximum" in lines
    assert "  meaning architecture              resnet18" in lines
    assert "2 images in both, 3 only in A, 0 only in B" in lines
    assert "cosine: min 1.000000, median 1.000000" in lines
