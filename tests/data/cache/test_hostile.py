"""A cache from elsewhere is refused by a typed error or read as it stands, whatever is in it.

Three kinds of hostile cache: bytes that changed by accident, so that no digest fits; manifests
and files that were altered by someone who corrects the digests; and shards by another hand.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from support.guarded import Reader
from support.hostile import (
    altered,
    edited,
    edits,
    fingerprinted,
    revalued,
    sha256,
    shards,
    signed,
    spelled,
    write_shard,
)
from support.rows import CAPTIONS, KEYS, append, put_text
from support.version_1 import to_version_1

from multispace.data.cache.writer import write_cache

FIXED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
Files = dict[str, bytes]


@pytest.fixture(scope="module", params=[2, 1], ids=["version 2", "version 1"])
def good(tmp_path_factory, request) -> Path:
    """A cache of two shards, with all that a manifest can list."""
    root = tmp_path_factory.mktemp("good")
    with write_cache(root) as writer:
        put_text(writer, {"val": CAPTIONS["val"]})
        append(writer, KEYS[:3])
        append(writer, KEYS[3:], {"z.jpg": "empty file"})
    (root / ".lock").unlink()
    return root if request.param == 2 else to_version_1(root)


@pytest.fixture(scope="module")
def files(good) -> Files:
    paths = (path for path in sorted(good.rglob("*")) if path.is_file())
    return {path.relative_to(good).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def reader(good) -> Iterator[Reader]:
    held = Reader(good)
    yield held
    held.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "cache"


@pytest.fixture(scope="module")
def trap(tmp_path_factory) -> Path:
    """A pipe that nobody writes to: who opens it to read waits for ever."""
    path = tmp_path_factory.mktemp("trap") / "trap.h5"
    os.mkfifo(path)
    return path


def lay_out(root: Path, files: Files) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def manifest_of(files: Files) -> dict[str, Any]:
    body = json.loads(files["cache.json"])
    del body["digest"]
    return body


def repaired(files: Files, name: str, content: bytes) -> Files:
    """Put ``content`` in place of a listed file, and correct its name, size and digests."""
    files, body = dict(files), manifest_of(files)
    del files[name]
    entries = [*body["shards"], body["vocabulary"], *body["captions"].values()]
    entries += [body.get("keys"), body["failures"], *(s.get("keys") for s in body["shards"])]
    for entry in entries:
        if entry and entry.get("file") == name:
            entry |= {"sha256": sha256(content), "bytes": len(content)}
            stem, dash, end = name.rpartition("-")
            if dash:
                entry["file"] = f"{stem}-{entry['sha256'][:8]}{end[8:]}"
            files[entry["file"]] = content
    return {**files, "cache.json": signed(spelled(body))}


def test_what_nobody_touched_is_read(good, reader):
    names = {"cache.json", "features", "vocabulary", "captions/val", "failures"}
    assert reader.read(good) == dict.fromkeys(names, "read")


@settings(FIXED, max_examples=60)
@given(data=st.data())
def test_an_accident_is_found(files, reader, place, data):
    name = data.draw(st.sampled_from(sorted(files)))
    change = data.draw(edits | st.sampled_from(["", *sorted(files)]))
    # A text names another file, whose bytes stand in, or none, and then nothing does.
    content = files.get(change, b"") if isinstance(change, str) else edited(files[name], change)
    found = reader.read(lay_out(place, {**files, name: content}))
    whole = content == files[name] or name.startswith("keys-")
    assert (set(found.values()) == {"read"}) == whole


@settings(FIXED, max_examples=200)
@given(data=st.data())
def test_bytes_under_repaired_digests(files, reader, place, data):
    names = [name for name in sorted(files) if name != "cache.json"]
    changed = files
    for name in data.draw(st.sets(st.sampled_from(names), min_size=1, max_size=2)):
        content = edited(files[name], data.draw(edits, name))
        changed = repaired(changed, name, content)
    found = reader.read(lay_out(place, changed))
    for name, end in found.items():
        event(f"{name}: {end}")


@settings(FIXED, max_examples=150)
@given(data=st.data())
def test_a_manifest_under_a_repaired_digest(files, reader, place, data):
    body = manifest_of(files)
    if data.draw(st.booleans()):
        body["shards"] = []
    text = fingerprinted(data.draw(altered(body)))
    found = reader.read(lay_out(place, {**files, "cache.json": signed(text)}))
    for name, end in found.items():
        event(f"{name}: {end}")


@settings(FIXED, max_examples=50)
@given(data=st.data())
def test_a_vocabulary_under_repaired_digests(files, reader, place, data):
    name = next(name for name in files if name.startswith("vocabulary"))
    text = revalued(data.draw(altered(json.loads(files[name]))))
    content = text.encode("utf-8", "surrogatepass")
    found = reader.read(lay_out(place, repaired(files, name, content)))
    event(found["vocabulary"])


@settings(FIXED, max_examples=150)
@given(shard=shards(), edits=st.just([]) | edits)
def test_a_shard_by_another_hand(files, reader, place, trap, shard, edits):
    content = edited(write_shard(*shard, trap), edits)
    first = min(name for name in files if name.startswith("features/") and name.endswith(".h5"))
    found = reader.read(lay_out(place, repaired(files, first, content)))
    event(f"features: {found.get('features', found['cache.json'])}")
