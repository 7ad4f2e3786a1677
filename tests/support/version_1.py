"""Caches of version 1 of the format, made from those of version 2 without the project's code."""

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np

DETAIL = ("weights", "dtype", "precision", "versions")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def spelled(body: dict) -> bytes:
    return (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode()


def signed(body: dict) -> bytes:
    """Return the bytes of a manifest of version 1 with its digest."""
    return spelled({**body, "digest": sha256(spelled(body))})


def escaped_digest(value: dict) -> str:
    """Return a digest as version 1 takes it, of JSON with sorted keys and ASCII escapes."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii"))


def fingerprint_1(spec: dict) -> str:
    return escaped_digest({name: value for name, value in spec.items() if name not in DETAIL})


def to_version_1(root: Path, key_list: bool = True) -> Path:
    """Turn a cache into what version 1 of the software would have written."""
    body = json.loads((root / "cache.json").read_bytes())
    spec, failures, shards, keys = None, {}, [], b""
    if body["failures"]:
        failures = json.loads((root / body["failures"]["file"]).read_bytes())
        (root / body["failures"]["file"]).unlink()
    for shard in body["shards"]:
        path = root / shard["file"]
        keys += (root / shard["keys"]["file"]).read_bytes()
        (root / shard["keys"]["file"]).unlink()
        with h5py.File(path, "r+") as file:
            held = json.loads(file.attrs["spec"])
            spec = spec or held
            file.attrs.modify("format_version", 1)
            file.attrs["fingerprint"] = np.bytes_(fingerprint_1(held))
        shards.append({**_renamed(root, path), "rows": shard["rows"]})
    vocabulary, digests = None, None
    if body["vocabulary"]:
        path = root / body["vocabulary"]["file"]
        words = json.loads(path.read_bytes())
        meaning = {name: words[name] for name in ("words", "tokenizer")}
        digests = escaped_digest(meaning)
        path.unlink()
        path = root / "vocabulary.json"
        path.write_bytes(spelled({**words, "version": 1, "digest": digests}))
        vocabulary = _entry(root, path)
    captions = {}
    for split, entry in sorted(body["captions"].items()):
        path = (root / entry["file"]).rename(root / "captions" / f"{split}.h5")
        with h5py.File(path, "r+") as file:
            file.attrs["vocabulary_digest"] = np.bytes_(digests)
        captions[split] = _entry(root, path)
    old = {
        "format": body["format"],
        "version": 1,
        "fingerprint": spec and fingerprint_1(spec),
        "spec": spec and _in_order(spec),
        "shards": shards,
        "failures": dict(sorted(failures.items())),
        "vocabulary": vocabulary,
        "captions": captions,
    }
    if keys and key_list:
        path = root / f"keys-{sha256(keys)[:8]}.txt"
        path.write_bytes(keys)
        old["keys"] = _entry(root, path)
    (root / "cache.json").write_bytes(signed(old))
    return root


def _in_order(spec: dict) -> dict:
    """Return a spec with its fields in the order in which version 1 wrote them."""
    order = ["architecture", "weights_sha256", "transform", "decode", "pooling", "dimension",
             "weights", "dtype", "precision", "versions", "origin"]  # fmt: skip
    inner = ["resize", "crop", "interpolation", "antialias", "mean", "std"]
    ordered = {name: spec[name] for name in order if name in spec}
    if spec["transform"]:
        ordered["transform"] = {name: spec["transform"][name] for name in inner}
    return ordered


def _renamed(root: Path, path: Path) -> dict:
    number, digest = path.name.split("-")[0], sha256(path.read_bytes())[:8]
    return _entry(root, path.rename(path.with_name(f"{number}-{digest}.h5")))


def _entry(root: Path, path: Path) -> dict:
    content = path.read_bytes()
    file = path.relative_to(root).as_posix()
    return {"file": file, "sha256": sha256(content), "bytes": len(content)}
