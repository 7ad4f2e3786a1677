import hashlib
import json
from dataclasses import replace

import pytest
from support.rows import SPEC

from multispace.data.cache.format.spec import FeatureSpec
from multispace.errors import CacheError

CANONICAL = (
    '{"architecture":"resnet18","decode":"pillow","dimension":6,"pooling":"global average",'
    '"transform":{"antialias":true,"crop":32,"interpolation":"bilinear","mean":[0.5,0.4,0.3],'
    '"resize":36,"std":[0.25,0.2,0.15]},"weights_sha256":"' + "0" * 64 + '"}'
)


def plain(**change):
    return {**json.loads(json.dumps(SPEC.to_json())), **change}


def transformed(**change):
    return plain(transform={**plain()["transform"], **change})


def test_the_fingerprint_is_the_digest_of_canonical_json():
    assert SPEC.fingerprint == hashlib.sha256(CANONICAL.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "resnet50"},
        {"weights_sha256": "1" * 64},
        {"decode": "other"},
        {"pooling": "maximum"},
        {"dimension": 7},
    ],
)
def test_what_changes_the_meaning_changes_the_fingerprint(change):
    other = replace(SPEC, **change)
    assert other.fingerprint != SPEC.fingerprint
    ((name, value),) = change.items()
    assert SPEC.differences(other) == [f"{name}: {getattr(SPEC, name)!r} and {value!r}"]


@pytest.mark.parametrize(
    "change",
    [
        {"resize": 40},
        {"crop": 24},
        {"interpolation": "bicubic"},
        {"antialias": False},
        {"mean": (0.5, 0.4, 0.2)},
        {"std": (0.25, 0.2, 0.1)},
    ],
)
def test_the_transform_is_part_of_the_meaning(change):
    other = replace(SPEC, transform=replace(SPEC.transform, **change))
    assert other.fingerprint != SPEC.fingerprint
    (difference,) = SPEC.differences(other)
    assert difference.startswith("transform")
    assert all(f"{next(iter(change))}" in difference and repr(v) in difference
               for v in change.values())  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "package:elsewhere/file.pt"},
        {"dtype": "float32"},
        {"precision": "bfloat16"},
        {"versions": {"torch": "3.0"}},
    ],
)
def test_numeric_detail_does_not_change_the_fingerprint(change):
    other = replace(SPEC, **change)
    assert other != SPEC
    assert other.fingerprint == SPEC.fingerprint
    assert SPEC.differences(other) == []


def test_there_and_back_through_json():
    assert FeatureSpec.from_json(plain(), "file") == SPEC
    assert FeatureSpec.from_json(SPEC.to_json(), "file") == SPEC


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "feature spec is NoneType, expected an object"),
        ([], "feature spec is list"),
        (plain(transform=None), "feature spec.transform is NoneType"),
        (
            {k: v for k, v in plain().items() if k != "pooling"},
            "feature spec: missing or unknown field 'pooling'",
        ),
        (plain(extra=1), "feature spec: missing or unknown field 'extra'"),
        (transformed(extra=1), "feature spec.transform: missing or unknown field 'extra'"),
        (plain(architecture=5), "feature spec.architecture is 5, expected text"),
        (plain(architecture="a\nb"), r"feature spec.architecture is 'a\\nb', expected text"),
        (plain(weights="\ud800"), r"feature spec.weights is '\\ud800', expected text"),
        (plain(dimension=0), "feature spec.dimension is 0, expected a whole number"),
        (plain(dimension=True), "feature spec.dimension is True"),
        (plain(dimension=6.0), "feature spec.dimension is 6.0"),
        (plain(dtype="float64"), "feature spec.dtype is 'float64', expected one of float16"),
        (plain(dtype=["float16"]), "feature spec.dtype is"),
        (plain(versions=[]), "feature spec.versions is"),
        (plain(versions={"torch": 2}), "feature spec.versions is"),
        (transformed(crop="32"), "feature spec.transform.crop is '32'"),
        (transformed(antialias=1), "feature spec.transform.antialias is 1, expected true or"),
        (transformed(mean=0.5), "feature spec.transform.mean is 0.5, expected finite numbers"),
        (transformed(mean=[True]), "feature spec.transform.mean is"),
        (transformed(std=["1"]), "feature spec.transform.std is"),
        (transformed(std=[float("inf")]), r"feature spec.transform.std is \(inf,\)"),
        (transformed(mean=[float("nan")]), r"feature spec.transform.mean is \(nan,\)"),
    ],
)
def test_what_is_no_spec_is_refused(value, message):
    with pytest.raises(CacheError, match=f"^here: {message}") as caught:
        FeatureSpec.from_json(value, "here")
    assert str(caught.value).isprintable()


def test_a_spec_is_checked_where_it_is_made():
    with pytest.raises(CacheError, match=r"^feature spec.dtype is 'int8'"):
        replace(SPEC, dtype="int8")
    with pytest.raises(CacheError, match=r"^feature spec.transform.resize is 0"):
        replace(SPEC.transform, resize=0)
