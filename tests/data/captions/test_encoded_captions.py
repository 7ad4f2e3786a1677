from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from multispace.data.annotations import CaptionedImage
from multispace.data.captions.encoded_captions import (
    Captions,
    captions_bytes,
    encode_captions,
    parse_captions,
)
from multispace.data.captions.vocabulary import UNK, Vocabulary, build_vocabulary
from multispace.errors import CaptionsError

IMAGES = (
    CaptionedImage("a.jpg", 42, ("a red bus", "a bus"), "train", {"colour": "red"}),
    CaptionedImage("sub/é.jpg", -7, ("ein schöner bus",), "train"),
    CaptionedImage("c.jpg", 3, ("red", "a", "a a a a"), "train"),
)


def load_captions(path: Path, by: Vocabulary | None) -> Captions:
    return parse_captions(path.read_bytes(), path, by)


def vocabulary() -> Vocabulary:
    return build_vocabulary(["a red bus", "a bus", "a"], "whitespace", 1, "source")


def encoded(images: tuple[CaptionedImage, ...] = IMAGES) -> Captions:
    return encode_captions(images, "train", vocabulary(), "source")


def assert_same(first: Captions, second: Captions) -> None:
    for name in Captions.__dataclass_fields__:
        ours, theirs = getattr(first, name), getattr(second, name)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert ours == theirs


def test_encoding():
    captions = encoded()
    assert vocabulary().words[4:] == ("a", "bus", "red")
    assert captions.images == 3
    assert captions.keys == ("a.jpg", "sub/é.jpg", "c.jpg")
    assert captions.image_ids == (42, -7, 3)
    assert captions.image.tolist() == [0, 0, 1, 2, 2, 2]
    assert captions.tokens.tolist() == [4, 6, 5, 4, 5, UNK, UNK, 5, 6, 4, 4, 4, 4, 4]
    assert captions.offsets.tolist() == [0, 3, 5, 8, 9, 10, 14]
    assert captions.texts[2] == "ein schöner bus"
    assert captions.factors == ({"colour": "red"}, None, None)
    assert captions.vocabulary_digest == vocabulary().digest
    assert captions.unknown_share == pytest.approx(2 / 14)
    assert captions.references() == {
        42: ["a red bus", "a bus"],
        -7: ["ein schöner bus"],
        3: ["red", "a", "a a a a"],
    }


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES[1:],
        tuple(replace(image, image_id=image.key) for image in IMAGES),
        (CaptionedImage("x.jpg", "007", ("a\0b",), None),),
    ],
)
def test_saved_and_loaded(tmp_path, images):
    captions = encoded(images)
    path = tmp_path / "train.h5"
    path.write_bytes(captions_bytes(captions))
    assert_same(load_captions(path, vocabulary()), captions)
    assert_same(load_captions(path, None), captions)


def test_the_same_captions_give_the_same_bytes(tmp_path):
    (tmp_path / "one.h5").write_bytes(captions_bytes(encoded()))
    (tmp_path / "two.h5").write_bytes(captions_bytes(encoded()))
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_the_file_is_plain_hdf5(tmp_path):
    (tmp_path / "train.h5").write_bytes(captions_bytes(encoded()))
    with h5py.File(tmp_path / "train.h5") as file:
        assert {name: (data.dtype.str, data.shape) for name, data in file.items()} == {
            "key": ("|S10", (3,)),
            "image_id": ("|S2", (3,)),
            "caption_picture": ("<i4", (6,)),
            "tokens": ("<i4", (14,)),
            "offsets": ("<i8", (7,)),
            "text": ("|u1", (41,)),
            "text_offsets": ("<i8", (7,)),
            "factors": ("|u1", (28,)),
        }
        assert file["text"][:].tobytes().decode()[14:29] == "ein schöner bus"
        assert file["factors"][:].tobytes() == b'[{"colour":"red"},null,null]'
        assert file["image_id"].attrs["image_id_type"] == b"int"
        assert file.attrs["format"] == b"multispace-captions"
        assert file.attrs["version"] == 1
        assert file.attrs["split"] == b"train"
        assert file.attrs["source_digest"] == b"source"


@pytest.mark.parametrize(
    ("images", "part"),
    [
        ((), "0 images"),
        ((IMAGES[0], replace(IMAGES[1], captions=())), "caption_picture"),
        ((IMAGES[0], replace(IMAGES[1], key="a.jpg")), "one key each"),
        ((IMAGES[0], replace(IMAGES[1], image_id=42)), "one image_id each"),
        ((IMAGES[0], replace(IMAGES[1], image_id="x")), "image_id is a number for some"),
    ],
)
def test_images_that_do_not_fit_together_are_refused(images, part):
    with pytest.raises(CaptionsError, match=part):
        encoded(images)


def test_factors_that_json_cannot_hold_are_refused(tmp_path):
    captions = encoded((replace(IMAGES[0], factors=float("nan")),))
    with pytest.raises(CaptionsError, match="factors"):
        (tmp_path / "train.h5").write_bytes(captions_bytes(captions))
    assert list(tmp_path.iterdir()) == []


def refused(path: Path, *parts: str, by: Vocabulary | None = None) -> None:
    with pytest.raises(CaptionsError) as caught:
        load_captions(path, by or vocabulary())
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "preprocess" in message
    assert "\n" not in message
    for part in parts:
        assert part in message


def put(name: str, data: object, **options: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=data, **options)

    return change


def compact(file: h5py.File) -> None:
    del file["tokens"]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((14,))
    h5py.h5d.create(file.id, b"tokens", h5py.h5t.STD_I32LE, space, plan)


def external(file: h5py.File) -> None:
    del file["tokens"]
    file.create_dataset("tokens", (14,), "<i4", external=[("/etc/passwd", 0, 56)])


def virtual(file: h5py.File) -> None:
    del file["tokens"]
    layout = h5py.VirtualLayout((14,), "<i4")
    layout[:] = h5py.VirtualSource("other.h5", "tokens", (14,))
    file.create_virtual_dataset("tokens", layout)


def never_written(file: h5py.File) -> None:
    del file["tokens"]
    file.create_dataset("tokens", (1 << 40,), "<i4")


def link(name: str, target: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file.pop(name, None)
        file[name] = target

    return change


def group(file: h5py.File) -> None:
    del file["tokens"]
    file.create_group("tokens")


def attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if value is None:
            del file.attrs[name]
        else:
            file.attrs[name] = value

    return change


def image_id_type(file: h5py.File) -> None:
    file["image_id"].attrs["image_id_type"] = np.bytes_("float")


TOKENS = np.array([4, 6, 5, 4, 5, UNK, UNK, 5, 6, 4, 4, 4, 4, 4], "<i4")
OFFSETS = np.array([0, 3, 5, 8, 9, 10, 14], "<i8")
UTF8 = h5py.string_dtype("utf-8", 8)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (put("tokens", TOKENS, compression="gzip"), "not stored contiguously"),
        (put("tokens", TOKENS, chunks=(7,)), "not stored contiguously"),
        (compact, "not stored contiguously"),
        (external, "not stored contiguously"),
        (virtual, "not stored contiguously"),
        (never_written, "declares more than the file holds"),
        (link("tokens", h5py.SoftLink("/offsets")), "tokens is a soft or external link"),
        (link("tokens", h5py.ExternalLink("x.h5", "/tokens")), "soft or external link"),
        (link("more", h5py.ExternalLink("/dev/zero", "/x")), "soft or external link"),
        (group, "tokens is not a dataset"),
        (lambda file: file.pop("tokens"), "no dataset 'tokens'"),
        (put("tokens", TOKENS.astype("<i8")), "tokens is int64, expected int32"),
        (put("tokens", TOKENS.astype(">i4")), "tokens is >i4"),
        (put("tokens", TOKENS.reshape(2, 7)), "2 dimensions"),
        (put("tokens", TOKENS + 1), "token 7 is outside the vocabulary of 7"),
        (put("tokens", TOKENS - 1), "token 2 is no word"),
        (put("offsets", OFFSETS[[0, 2, 1, 3, 4, 5, 6]]), "offsets falls at caption 1"),
        (put("offsets", OFFSETS[1:]), "offsets does not cut"),
        (put("offsets", OFFSETS + 1), "offsets does not cut"),
        (put("offsets", OFFSETS[:0]), "offsets does not cut"),
        (put("offsets", np.array([0, 2**63 - 1, -(2**63), -1, 9, 10, 14])), "offsets falls"),
        (put("text_offsets", OFFSETS), "text_offsets does not cut"),
        (put("caption_picture", np.array([0, 0, 1, 2, 2, 3], "<i4")), "caption_picture"),
        (put("caption_picture", np.array([0, 0, 1, 2, 1, 2], "<i4")), "caption_picture"),
        (put("caption_picture", np.array([0, 0, 0, 2, 2, 2], "<i4")), "caption_picture"),
        (put("caption_picture", np.array([-1, 0, 1, 2, 2, 2], "<i4")), "caption_picture"),
        (put("caption_picture", np.array([], "<i4")), "text_offsets"),
        (put("key", np.array([b"a", b"\xff", b"c"], UTF8)), "key holds bytes that are not UTF-8"),
        (put("key", np.array([b"a", b"../b", b"c"], UTF8)), "leaves the image folder"),
        (put("key", np.array([b"a", b"a", b"c"], UTF8)), "one key each"),
        (put("key", np.array([b"a", b"c"], UTF8)), "one image_id each"),
        (put("key", ["a", "b", "c"]), "key holds references"),  # text of variable length
        (put("image_id", np.array([b"1", b"x", b"3"], UTF8)), "image_id_type"),
        (image_id_type, "image_id_type is 'float'"),
        (put("text", np.full(41, 0xFF, "u1")), "text holds bytes that are not UTF-8"),
        (put("factors", np.frombuffer(b"[1]", "u1")), "factors has 1 entries for 3"),
        (put("factors", np.frombuffer(b"[1, ", "u1")), "factors is not JSON"),
        (put("factors", np.frombuffer(b"{}", "u1")), "factors is not a JSON array"),
        (attribute("format", np.bytes_("other")), "not a captions file"),
        (attribute("format", None), "not a captions file"),
        (attribute("version", 2), "version 2"),
        (attribute("version", None), "attribute version is missing"),
        (attribute("split", None), "attribute split is missing"),
        (attribute("split", "of variable length"), "attribute split is object"),
        (attribute("split", np.bytes_(b"a\nb")), "expected printable text"),
        (attribute("vocabulary_digest", np.bytes_("0" * 64)), "0" * 64),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, part):
    path = tmp_path / "train.h5"
    path.write_bytes(captions_bytes(encoded()))
    with h5py.File(path, "r+") as file:
        change(file)
    refused(path, part)


def test_image_ids_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "train.h5"
    path.write_bytes(captions_bytes(encoded()))
    with h5py.File(path, "r+") as file:
        file["image_id"][1] = b"x"
    refused(path, "image_id 'x' is not a whole number")


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "train.h5"
    path.write_bytes(captions_bytes(encoded()))
    content = path.read_bytes()
    for size in (*range(0, len(content), 97), len(content) - 1):
        path.write_bytes(content[:size])
        refused(path, "not a readable HDF5 file")


def test_another_vocabulary_is_refused_with_both_digests(tmp_path):
    path = tmp_path / "train.h5"
    path.write_bytes(captions_bytes(encoded()))
    other = build_vocabulary(["something else"], "whitespace", 1, "source")
    refused(path, other.digest, vocabulary().digest, by=other)
