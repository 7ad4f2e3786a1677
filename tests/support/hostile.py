"""Hostile bytes, JSON and shards, as strategies."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rfc8785
from hypothesis import event
from hypothesis import strategies as st

from support.rows import SPEC
from support.version_1 import fingerprint_1


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def spelled(body: Any) -> str:
    return json.dumps(body, indent=1, ensure_ascii=False)


NUMBERS = [0, 1, 2, 3, 5, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62]
NUMBERS += [(1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 8]
numbers = st.builds(
    lambda value, width: (value % (1 << 8 * width)).to_bytes(width, "little"),
    st.sampled_from(NUMBERS),
    st.sampled_from([1, 2, 4, 8]),
)
places = st.integers(0, 1 << 16)
EDITS: dict[str, Callable[[bytes, int, Any], bytes]] = {
    "put": lambda held, at, new: held[:at] + new + held[at + len(new) :],
    "flip": lambda held, at, bit: held[:at] + bytes([held[at] ^ 1 << bit]) + held[at + 1 :],
    "copy": lambda held, at, part: EDITS["put"](held, at, held[part[0] :][: part[1]]),
    "cut": lambda held, at, length: held[:at] + held[at + length :],
    "insert": lambda held, at, new: held[:at] + new + held[at:],
}
edits = st.lists(
    st.tuples(st.just("put"), st.booleans(), places, numbers | st.binary(min_size=1, max_size=8))
    | st.tuples(st.just("flip"), st.booleans(), places, st.integers(0, 7))
    | st.tuples(
        st.just("copy"),
        st.booleans(),
        places,
        st.tuples(st.integers(0, 1 << 12), st.sampled_from([8, 16, 24, 64, 256])),
    )
    | st.tuples(st.just("cut"), st.booleans(), places, st.sampled_from([1, 8, 1 << 20]))
    | st.tuples(st.just("insert"), st.booleans(), places, st.binary(min_size=1, max_size=16)),
    min_size=1,
    max_size=4,
)


def edited(content: bytes, edits: list[tuple[str, bool, int, Any]]) -> bytes:
    """Apply edits; a busy one falls on a byte that is not zero, as padding is."""
    for kind, busy, place, what in edits:
        spots = [i for i, byte in enumerate(content) if byte or not busy]
        if spots:
            content = EDITS[kind](content, spots[place % len(spots)], what)
    return content


# Some values have no spelling in Python's json: each is put in as text, by way of a mark.
MARK = "\x00mark"
RAW = [
    "null", "true", "0", "-1", "-0", "1.0", "3.0", "1e999", "NaN", "Infinity", "-Infinity", "2",
    "9" * 4300, "9" * 4301, "-" + "9" * 4000, str(1 << 31), str(1 << 62),
    str(1 << 63), str(1 << 64),
    '""', '"\\u0000"', '"\\ud800"', '"a\\nb"', '"\x1b[2J"', '"\x85"', '"\u2028"',
    '"' + "x" * 100_000 + '"',
    '"../../etc/passwd"', '"/etc/passwd"', '"features/../cache.json"', '"file:///etc/passwd"',
    '"captions/val.h5"', '"vocabulary.json"', '"' + "0" * 64 + '"', '"float32"', '"float64"',
    "[]", "[[]]", "{}", '{"": {}}',
    '{"file": "keys-00000000.txt", "sha256": "' + "0" * 64 + '", "bytes": 1}',
    '{"file": "features/00000-00000000.txt", "sha256": "' + "0" * 64 + '", "bytes": 1}',
    '{"file": "failures-00000000.json", "sha256": "' + "0" * 64 + '", "bytes": 1}',
    *(a * n + "1" + b * n for n in (500, 960, 975, 990, 10_000) for a, b in ("[]", ('{"":', "}"))),
]  # fmt: skip
raws = st.sampled_from(RAW) | st.integers().map(str) | st.text(max_size=8).map(json.dumps)


def spots(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every value in JSON."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from spots(value[key], (*path, key))


@st.composite
def altered(draw: st.DrawFn, body: Any) -> str:
    """Draw the text of JSON after a few changes of its structure."""
    texts = []
    for number in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from([path for path in spots(body) if path]))
        owner = body
        for key in path:
            owner = owner[key]
        mark, raw = f"{MARK}{number}", draw(raws)
        kind = draw(st.sampled_from(["value", "value", "value", "key", "twice", "gone", "more"]))
        if kind == "gone":
            del owner[last]
        elif kind == "more" and isinstance(owner, list):
            owner.append(draw(st.sampled_from(owner)))
        elif kind == "more":
            owner[draw(st.text(max_size=8) | st.just("extra"))] = mark
        elif kind == "key" and isinstance(owner, dict):
            new = draw(st.sampled_from(["a\nb", "../x", "\x1b[2J", "x" * 9000, "", "\x85", *owner]))
            owner[new] = owner.pop(last)
        elif kind == "twice" and isinstance(owner, dict):
            raw += f", {json.dumps(last)}: {json.dumps(owner[last])}"
            owner[last] = mark
        else:
            owner[last] = mark
        texts.append((json.dumps(mark), raw))
    text = spelled(body)
    for mark, raw in texts:
        text = text.replace(mark, raw)
    return text


def fingerprint(spec: dict[str, Any]) -> str:
    """Return the fingerprint as docs/feature-cache.md has it."""
    rest = {k: v for k, v in spec.items() if k not in ("weights", "dtype", "precision", "versions")}
    return sha256(rfc8785.dumps(rest))


def fingerprinted(text: str) -> str:
    """Correct the fingerprint in a manifest, where it is plain JSON."""
    made = {1: fingerprint_1, 2: fingerprint}
    return _repaired(text, lambda body: {"fingerprint": made[body["version"]](body["spec"])})


def signed(text: str) -> bytes:
    """Complete the text of a manifest without its digest by the digest that fits.

    In version 2 it is made canonical, where it is JSON that can be.
    """
    content = text.encode("utf-8", "surrogatepass")
    digest = sha256(content + b"\n")
    old = content[:-2] + f',\n "digest": "{digest}"\n}}\n'.encode()
    try:
        body = json.loads(text)
        if body["version"] == 1:
            return old
        return rfc8785.dumps({**body, "digest": sha256(rfc8785.dumps(body))})
    except (ValueError, RecursionError, LookupError, TypeError):
        return old


def revalued(text: str) -> str:
    """Correct the digest in a vocabulary, where it is plain JSON."""
    meaning = ("tokenizer", "words")
    return _repaired(
        text,
        lambda body: {"digest": sha256(rfc8785.dumps({n: body[n] for n in meaning}))},
    )


def _repaired(text: str, hint: Callable[[dict[str, Any]], dict[str, str]]) -> str:
    try:
        body = json.loads(text)
        return spelled(body | hint(body)) if spelled(body) == text else text
    except (ValueError, RecursionError, LookupError, AttributeError):
        return text


Part = Callable[[h5py.File, str, Path], object]


def array(values: Any, **options: Any) -> Part:
    return lambda file, name, _: file.create_dataset(name, data=values, **options)


def unwritten(shape: tuple[int, ...], dtype: Any, **options: Any) -> Part:
    return lambda file, name, _: file.create_dataset(name, shape, dtype, **options)


def virtual(file: h5py.File, name: str, trap: Path) -> None:
    layout = h5py.VirtualLayout((3, 6), "f2", maxshape=(None, 6))
    source = h5py.VirtualSource(trap, name, (3, 6), maxshape=(None, 6))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset(name, layout)


def linked(kind: Callable[[Path], Any]) -> Part:
    return lambda file, name, trap: file.__setitem__(name, kind(trap))


def compact(file: h5py.File, name: str, _: Path) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((3, 6))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F16LE, space, plan)


def references(file: h5py.File, name: str, _: Path) -> None:
    file.create_dataset(name, data=np.array([file.ref] * 3, h5py.ref_dtype), dtype=h5py.ref_dtype)


STORAGE: dict[str, Part] = {
    "chunked": array(np.ones((3, 6), "f2"), chunks=(1, 6)),
    "compressed": array(np.ones((3, 6), "f2"), compression="gzip", fletcher32=True, shuffle=True),
    "growing": array(np.ones((3, 6), "f2"), maxshape=(None, 6)),
    "outside": lambda file, name, trap: file.create_dataset(
        name, (3, 6), "f2", external=[(trap, 0, 36)]
    ),
    "virtual": virtual,
    "compact": compact,
    "soft link": linked(lambda _: h5py.SoftLink("/away")),
    "link to itself": linked(lambda _: h5py.SoftLink("features")),
    "external link": linked(lambda trap: h5py.ExternalLink(trap, "/features")),
    "root again": lambda file, name, _: file.__setitem__(name, file["/"]),
    "group": lambda file, name, _: file.create_group(name),
    "type": lambda file, name, _: file.__setitem__(name, np.dtype("f2")),
    "references": references,
    "objects": array(["a", "b", "c"], dtype=h5py.string_dtype()),
    "sequences": unwritten((3,), h5py.vlen_dtype("i4")),
    "no space": array(h5py.Empty("f2")),
    "one number": array(np.float16(1)),
    "none": lambda *_: None,
    "all of memory": unwritten((1 << 40, 6), "f2"),
    "chunks of all memory": unwritten((1 << 40, 6), "f2", chunks=(1 << 20, 6), compression="gzip"),
    "empty": unwritten((0, 6), "f2"),
    "never written": unwritten((3, 6), "f2"),
    "long text": unwritten((3,), h5py.string_dtype("utf-8", (1 << 31) - 1)),
    "short text": array(np.zeros(3, h5py.string_dtype("utf-8", 1))),
    "record": array(np.zeros((3, 6), [(f"field {n}", "f2") for n in range(300)])),
    "choice": array(np.zeros((3, 6), "i2"), dtype=h5py.enum_dtype({"a": 1, "b": 2}, "i2")),
}
PLAIN: dict[str, Part] = {
    f"{kind} {shape}": array(np.zeros(shape, kind))
    for kind in ("<f2", ">f2", "<f4", "<f8", "i2", "u1", "S6", "V6", "?", "c8")
    for shape in ((3, 6), (3, 32), (3,), (3, 6, 1), (4, 6), (3, 7))
}
ATTRIBUTES: list[Any] = [
    1, 2, True, -1, 1.0, np.uint64((1 << 64) - 1), np.int8(1), np.ones(1, int),
    np.ones((1, 1), int), np.ones(4000, "i8"), np.void(b"abc"), h5py.Empty("S6"),
    h5py.Empty("i8"), "text on the heap", np.array(["a"], "O"), np.array([b"a", b"b"]),
    np.bytes_("1"), np.bytes_(b"\xff"), np.bytes_(60_000),
]  # fmt: skip
finite = st.floats(-60_000, 60_000, width=16)
names = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=8)


@st.composite
def shards(draw: st.DrawFn) -> tuple[dict[str, Part], dict[str, Any], dict[str, Any]]:
    """Draw the datasets, attributes and file options of a shard; few things are wrong at once."""
    wide = draw(st.sampled_from(["float16", "float32"]))
    spec = json.loads(json.dumps(replace(SPEC, dtype=wide).to_json()))
    keys = ["a", "é", "folder/c"]
    if draw(st.integers(0, 2)) == 0:
        keys[1] = draw(names | st.binary(min_size=1, max_size=8) | st.just("a"))
    keys = [key.encode() if isinstance(key, str) else key for key in keys]
    rows = np.array(draw(st.lists(finite, min_size=18, max_size=18)), wide).reshape(3, 6)
    if draw(st.integers(0, 3)) == 0:
        rows[draw(st.integers(0, 2)), 5] = draw(st.sampled_from([np.nan, np.inf, -np.inf, -0.0]))
    text = h5py.string_dtype("utf-8", draw(st.sampled_from([8, 64, 5000])))
    parts = {
        "features": array(rows),
        "key": array(np.array(keys, text)),
        "image_sha256": array(np.zeros((3, 32), "u1")),
    }
    for name in draw(st.lists(st.sampled_from([*parts, "more", "a/b", b"\xff"]), max_size=1)):
        odd = draw(st.sampled_from(sorted(STORAGE)) | st.sampled_from(sorted(PLAIN)))
        event(f"{name!r}: {odd}")
        parts[name] = {**STORAGE, **PLAIN}[odd]
    spelling = json.dumps(spec)
    if draw(st.integers(0, 3)) == 0:
        spelling = draw(altered(spec))
    try:
        digest = fingerprint(json.loads(spelling))
    except (ValueError, RecursionError, AttributeError):
        digest = fingerprint(spec)
    spelling = spelling.encode("utf-8", "surrogatepass").replace(b"\0", b"")[:60_000]
    attributes = {
        "format_version": draw(st.sampled_from([1, 2])),  # of this spec they are alike
        "spec": np.bytes_(spelling),
        "fingerprint": np.bytes_(digest),
    }
    for name in draw(st.lists(st.sampled_from([*attributes, "more"]), max_size=1)):
        attributes[name] = draw(st.sampled_from([None, *ATTRIBUTES]))
    many = draw(st.sampled_from([0, 0, 0, 100]))  # so many that HDF5 keeps them otherwise
    attributes |= {f"note {n}": n for n in range(many)}
    options = draw(
        st.sampled_from([{}, {"libver": "latest"}, {"userblock_size": 512}, {"track_order": True}])
    )
    return parts, attributes, options


def write_shard(parts, attributes, options, trap: Path) -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w", **options) as file:
        for name, part in parts.items():
            part(file, name, trap)
        for name, value in attributes.items():
            if value is not None:
                file.attrs[name] = value
    return memory.getvalue()
