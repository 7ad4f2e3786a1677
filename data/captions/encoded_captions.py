"""Encoded captions of one split: an HDF5 file that names its vocabulary."""

import io
import json
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from multispace.data.annotations.collection import CaptionedImage
from multispace.data.cache.format.hdf5 import (
    attribute,
    check_link,
    decode,
    fixed_text,
    open_hdf5,
    plain_dataset,
    read_text,
    set_text_attribute,
    text_attribute,
)
from multispace.data.cache.format.keys import check_keys
from multispace.data.captions.caption_texts import CaptionTexts
from multispace.data.captions.vocabulary import UNK, Vocabulary
from multispace.data.held_out import HeldOut
from multispace.errors import CaptionsError, DataError, brief
from multispace.version import package_version

FORMAT = "multispace-captions"
VERSION = 1

_WHOLE_NUMBERS = re.compile(r"-?\d+(?:\n-?\d+)*")


@dataclass(frozen=True)
class Captions:
    """The captions of P images, M in all, as token ids (no BOS, no EOS) and as raw text.

    ``image`` (M,) int32 gives each caption's index into ``keys``, in order. Caption m is
    ``tokens[offsets[m]:offsets[m + 1]]``, with ``tokens`` int32 and ``offsets`` (M + 1,) int64.
    Every image has a caption. ``factors``, where there are any, has P entries. ``held_out`` says
    which images were excluded from training.

    :raises CaptionsError: the parts do not fit together.
    """

    split: str
    keys: tuple[str, ...]
    image_ids: tuple[int | str, ...]
    image: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    texts: Sequence[str]
    factors: tuple[Any, ...] | None
    vocabulary_digest: str
    source_digest: str
    held_out: HeldOut | None = None

    def __post_init__(self) -> None:
        count = len(self.keys)
        for what, values in (("key", self.keys), ("image_id", self.image_ids)):
            if not count or len(values) != count or len(set(values)) != count:
                raise CaptionsError(f"the {count} images do not have one {what} each")
        try:
            check_keys(self.keys)
        except ValueError as error:
            raise CaptionsError(str(error)) from error
        if len({type(image_id) for image_id in self.image_ids}) > 1:
            raise CaptionsError("image_id is a number for some images and text for others")
        if self.factors is not None and len(self.factors) != count:
            raise CaptionsError(f"factors has {len(self.factors)} entries for {count} images")
        for name, kind in (("image", "int32"), ("tokens", "int32"), ("offsets", "int64")):
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype != np.dtype(kind):
                raise CaptionsError(f"{name} is {array.ndim}-d {array.dtype}, expected 1-d {kind}")
        if len(self.image) != len(self.texts):
            raise CaptionsError(f"{len(self.texts)} texts for {len(self.image)} captions")
        # From -1 before the first image to the last, in steps of 0 or 1: no image is left out.
        steps = np.diff(self.image, prepend=np.int32(-1))
        if steps.sum() != count or steps[0] != 1 or ((steps < 0) | (steps > 1)).any():
            raise CaptionsError(f"caption_picture does not rise from 0 to {count - 1} by ones")
        _check_offsets("offsets", self.offsets, len(self.texts), len(self.tokens))
        if (lowest := self.tokens.min(initial=UNK)) < UNK:
            raise CaptionsError(f"token {lowest} is no word; words are {UNK} and up")

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.keys)

    @property
    def unknown_share(self) -> float:
        """The fraction of tokens that are not in the vocabulary."""
        return float(np.mean(self.tokens == UNK)) if len(self.tokens) else 0.0

    def references(self) -> dict[int | str, list[str]]:
        """Return the raw captions of every image by image id, as the metrics take them."""
        captions: dict[int | str, list[str]] = {image_id: [] for image_id in self.image_ids}
        for index, text in zip(self.image.tolist(), self.texts, strict=True):
            captions[self.image_ids[index]].append(text)
        return captions


def encode_captions(
    images: Sequence[CaptionedImage],
    split: str,
    vocabulary: Vocabulary,
    source_digest: str,
    held_out: HeldOut | None = None,
) -> Captions:
    """Encode the captions of the images of one split, in their order.

    :param source_digest: the digest of the collection
    :raises CaptionsError: the images do not fit together, or one has no caption.
    """
    texts = tuple(text for image in images for text in image.captions)
    tokens, lengths = array("i"), array("q")  # a list for each caption takes much memory
    for text in texts:
        ids = vocabulary.encode(text)
        tokens.extend(ids)
        lengths.append(len(ids))
    factors = tuple(image.factors for image in images)
    return Captions(
        split=split,
        keys=tuple(image.key for image in images),
        image_ids=tuple(image.image_id for image in images),
        image=np.repeat(np.arange(len(images), dtype=np.int32), [len(p.captions) for p in images]),
        tokens=np.array(tokens, np.int32),
        offsets=_offsets(lengths),
        texts=texts,
        factors=factors if any(entry is not None for entry in factors) else None,
        vocabulary_digest=vocabulary.digest,
        source_digest=source_digest,
        held_out=held_out,
    )


def captions_bytes(captions: Captions) -> bytes:
    """Return the content of a captions file, HDF5; the same captions give the same bytes.

    :raises CaptionsError: JSON cannot hold the factors.
    """
    joined, text_offsets = _joined(captions.texts)
    arrays: dict[str, npt.NDArray[Any]] = {
        "key": fixed_text(captions.keys),
        "image_id": fixed_text([str(image_id) for image_id in captions.image_ids]),
        "caption_picture": captions.image.astype("<i4", copy=False),
        "tokens": captions.tokens.astype("<i4", copy=False),
        "offsets": captions.offsets.astype("<i8", copy=False),
        "text": np.frombuffer(joined, np.uint8),
        "text_offsets": text_offsets.astype("<i8", copy=False),
    }
    if captions.factors is not None:
        arrays["factors"] = np.frombuffer(_factors_json(captions.factors), np.uint8)
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, dtype=array.dtype, track_times=False)
        for name, text in (
            ("format", FORMAT),
            ("split", captions.split),
            ("vocabulary_digest", captions.vocabulary_digest),
            ("source_digest", captions.source_digest),
            ("package_version", package_version()),
        ):
            set_text_attribute(file, name, text)
        if captions.held_out is not None:
            set_text_attribute(file, "held_out", json.dumps(captions.held_out.to_json()))
        file.attrs["version"] = VERSION
        kind = "int" if isinstance(captions.image_ids[0], int) else "str"
        set_text_attribute(file["image_id"], "image_id_type", kind)
    return memory.getvalue()


def parse_captions(content: bytes, source: Path, vocabulary: Vocabulary | None) -> Captions:
    """Read the bytes of a captions file, checked against ``vocabulary`` if one is given.

    :param source: where the bytes are from; for messages
    :raises CaptionsError: they are damaged, or were encoded with another vocabulary.
    """
    hint = "restore the file, or run `multispace preprocess` on the split again"
    try:
        with open_hdf5(io.BytesIO(content)) as file:
            captions = _Reader(file, len(content)).captions()
    except DataError as error:
        raise CaptionsError(brief(error), where=source, hint=hint) from error
    if vocabulary is None:
        return captions
    if not vocabulary.has_digest(captions.vocabulary_digest):
        raise CaptionsError(
            f"encoded with the vocabulary {brief(captions.vocabulary_digest)}, "
            f"not with {vocabulary.digest}",
            where=source,
            hint="run `multispace preprocess` on the split again with the latter",
        )
    top = int(captions.tokens.max(initial=UNK))
    if top >= len(vocabulary):
        raise CaptionsError(
            f"token {top} is outside the vocabulary of {len(vocabulary)} words",
            where=source,
            hint=hint,
        )
    return captions


class _Reader:
    """Reader of one open captions file of ``size`` bytes.

    Its methods raise DataError for what the format does not allow.
    """

    def __init__(self, file: h5py.File, size: int) -> None:
        self.file = file
        self.size = size

    def captions(self) -> Captions:
        root = self.file
        if "format" not in root.attrs or _printable(root, "format") != FORMAT:
            raise DataError(f"not a captions file (its format is not {FORMAT!r})")
        if (version := int(attribute(root, "version", "iu"))) != VERSION:
            raise DataError(f"version {version} is unknown, this software reads {VERSION}")
        names = set(root.id)  # as bytes: a damaged name need not be text
        for name in names:
            check_link(root, name)
        image = self._array("caption_picture", "<i4")
        return Captions(
            split=_printable(root, "split"),
            keys=self._strings("key"),
            image_ids=self._image_ids(),
            image=image,
            tokens=self._array("tokens", "<i4"),
            offsets=self._array("offsets", "<i8"),
            texts=self._texts(len(image)),
            factors=self._factors() if b"factors" in names else None,
            vocabulary_digest=_printable(root, "vocabulary_digest"),
            source_digest=_printable(root, "source_digest"),
            held_out=self._held_out() if "held_out" in root.attrs else None,
        )

    def _held_out(self) -> HeldOut:
        return HeldOut.from_json(_printable(self.file, "held_out"))

    def _dataset(self, name: str) -> h5py.Dataset:
        dataset = plain_dataset(self.file, name, self.size)
        if dataset.ndim != 1:
            raise DataError(f"{name} has {dataset.ndim} dimensions, expected 1")
        return dataset

    def _array(self, name: str, dtype: str) -> npt.NDArray[Any]:
        dataset = self._dataset(name)
        if dataset.dtype != np.dtype(dtype):
            raise DataError(f"{name} is {dataset.dtype}, expected {np.dtype(dtype)}")
        array: npt.NDArray[Any] = dataset[:]
        return array

    def _strings(self, name: str) -> tuple[str, ...]:
        dataset = self._dataset(name)
        text = h5py.check_string_dtype(dataset.dtype)
        if text is None or text.encoding != "utf-8":
            raise DataError(f"{name} is {dataset.dtype}, expected fixed-length UTF-8")
        return read_text(dataset, name)

    def _image_ids(self) -> tuple[int | str, ...]:
        texts = self._strings("image_id")
        kind = _printable(self.file["image_id"], "image_id_type")
        if kind == "str":
            return texts
        if kind != "int":
            raise DataError(f"image_id_type is {kind!r}, expected 'int' or 'str'")
        if not _WHOLE_NUMBERS.fullmatch("\n".join(texts)):
            bad = next(text for text in texts if not _WHOLE_NUMBERS.fullmatch(text) or "\n" in text)
            raise DataError(f"image_id {bad!r} is not a whole number")
        return tuple(map(int, texts))

    def _texts(self, count: int) -> CaptionTexts:
        data = self._array("text", "|u1").tobytes()
        offsets = self._array("text_offsets", "<i8")
        _check_offsets("text_offsets", offsets, count, len(data))
        try:
            return CaptionTexts(data, offsets)
        except UnicodeDecodeError as error:
            raise DataError(
                f"text holds bytes that are not UTF-8 ({error.object[:20]!r})"
            ) from error

    def _factors(self) -> tuple[Any, ...]:
        text = decode("factors", self._array("factors", "|u1").tobytes())
        try:
            factors = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"factors is not JSON ({error})") from error
        if not isinstance(factors, list):
            raise DataError("factors is not a JSON array")
        return tuple(factors)


def _printable(owner: h5py.HLObject, name: str) -> str:
    text = text_attribute(owner, name)
    if not text.isprintable():
        raise DataError(f"attribute {name} is {text!r}, expected printable text")
    return text


def _check_offsets(name: str, offsets: npt.NDArray[np.int64], parts: int, total: int) -> None:
    if len(offsets) != parts + 1 or offsets[0] != 0 or offsets[-1] != total:
        raise CaptionsError(f"{name} does not cut {total} items into {parts} captions")
    falls = offsets[1:] < offsets[:-1]
    if falls.any():
        raise CaptionsError(f"{name} falls at caption {int(falls.argmax())}")


def _offsets(lengths: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.fromiter(accumulate(lengths, initial=0), np.int64)


def _joined(texts: Sequence[str]) -> tuple[bytes, npt.NDArray[np.int64]]:
    """Return texts in UTF-8, one after the other, and where each begins and the last one ends."""
    data = "".join(texts).encode("utf-8")
    if data.isascii():  # a byte is a character
        return data, _offsets(map(len, texts))
    return data, _offsets(len(text.encode("utf-8")) for text in texts)


def _factors_json(factors: tuple[Any, ...]) -> bytes:
    try:
        return json.dumps(factors, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (ValueError, TypeError) as error:
        raise CaptionsError(
            f"factors cannot be written as JSON ({error})",
            hint="use only JSON values in the annotation file",
        ) from error
