"""Encoded captions of one split: an HDF5 file that names its vocabulary."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from multispace.data.annotations.collection import CaptionedImage
from multispace.data.cache.keys import check_key
from multispace.data.cache.texts import Texts
from multispace.data.cache.vocabulary import UNK, Vocabulary
from multispace.data.files import atomic_write
from multispace.data.held_out import HeldOut
from multispace.errors import CaptionsError, DataError, brief
from multispace.version import package_version

FORMAT = "multispace-captions"
VERSION = 1

# What h5py raises on bytes that are no HDF5 or not what they seem.
_HDF5_FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)


@dataclass(frozen=True)
class Captions:
    """The captions of P images, M in all, as token ids (no BOS, no EOS) and as raw text.

    ``picture`` (M,) int32 gives each caption's index into ``keys``, never falling; caption m is
    ``tokens[offsets[m]:offsets[m + 1]]``, ``tokens`` int32 and ``offsets`` (M + 1,) int64.
    Every image has a caption. ``factors``, where there are any, has P entries. ``held_out`` is
    what training images were not to show. Raises CaptionsError where the parts do not fit.
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
        try:
            for key in self.keys:
                check_key(key)
        except ValueError as error:
            raise CaptionsError(str(error)) from error
        for what, values in (("key", self.keys), ("image_id", self.image_ids)):
            if not count or len(values) != count or len(set(values)) != count:
                raise CaptionsError(f"the {count} images do not have one {what} each")
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
        # From -1 before the first to the last image, in steps of 0 or 1: none is passed over.
        steps = np.diff(self.image, prepend=np.int32(-1))
        if steps.sum() != count or steps[0] != 1 or ((steps < 0) | (steps > 1)).any():
            raise CaptionsError(f"caption_picture does not rise from 0 to {count - 1} by ones")
        _check_offsets("offsets", self.offsets, len(self.texts), len(self.tokens))
        if (least := self.tokens.min(initial=UNK)) < UNK:
            raise CaptionsError(f"token {least} is no word; words are {UNK} and up")

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.keys)

    @property
    def unknown_share(self) -> float:
        """The share of tokens that are not in the vocabulary."""
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

    Raises CaptionsError, also where an image has no caption.
    """
    texts = tuple(text for image in images for text in image.captions)
    encoded = [vocabulary.encode(text) for text in texts]
    factors = tuple(image.factors for image in images)
    return Captions(
        split=split,
        keys=tuple(image.key for image in images),
        image_ids=tuple(image.image_id for image in images),
        image=np.repeat(np.arange(len(images), dtype=np.int32), [len(p.captions) for p in images]),
        tokens=np.fromiter((token for ids in encoded for token in ids), np.int32),
        offsets=_offsets(encoded),
        texts=texts,
        factors=factors if any(entry is not None for entry in factors) else None,
        vocabulary_digest=vocabulary.digest,
        source_digest=source_digest,
        held_out=held_out,
    )


def save_captions(captions: Captions, path: Path) -> None:
    """Write captions as HDF5; the same captions give the same bytes."""
    texts = [text.encode("utf-8") for text in captions.texts]
    arrays: dict[str, npt.NDArray[Any]] = {
        "key": _fixed(captions.keys),
        "image_id": _fixed([str(image_id) for image_id in captions.image_ids]),
        "caption_picture": captions.image.astype("<i4"),
        "tokens": captions.tokens.astype("<i4"),
        "offsets": captions.offsets.astype("<i8"),
        "text": np.frombuffer(b"".join(texts), np.uint8),
        "text_offsets": _offsets(texts).astype("<i8"),
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
            _set_text(file, name, text)
        if captions.held_out is not None:
            _set_text(file, "held_out", json.dumps(captions.held_out.to_json()))
        file.attrs["version"] = VERSION
        kind = "int" if isinstance(captions.image_ids[0], int) else "str"
        _set_text(file["image_id"], "image_id_type", kind)
    with atomic_write(path) as output:
        output.write(memory.getbuffer())


def load_captions(path: Path, vocabulary: Vocabulary | None) -> Captions:
    """Read captions, checked against ``vocabulary`` if one is given.

    Only plain contiguous datasets behind hard links are read, so that a file from elsewhere
    cannot point outside itself. Raises CaptionsError that names the file and the fault.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.h5"))) or "none"
        raise CaptionsError(
            f"{path}: no captions of split {path.stem!r} (there: {there}); preprocess it first"
        ) from None
    except OSError as error:
        raise CaptionsError(
            f"{path}: cannot be read ({error.strerror}); check its rights"
        ) from error
    hint = "restore the file, or preprocess the split again"
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            captions = _Reader(file, len(data)).captions()
    except CaptionsError as error:
        raise CaptionsError(f"{path}: {brief(error)}; {hint}") from error
    except _HDF5_FAULTS as error:
        raise CaptionsError(f"{path}: not a whole HDF5 file ({brief(error)}); {hint}") from error
    if vocabulary is not None:
        if captions.vocabulary_digest != vocabulary.digest:
            raise CaptionsError(
                f"{path}: made with the vocabulary {brief(captions.vocabulary_digest)}, "
                f"not with {vocabulary.digest}; preprocess the split again with the latter"
            )
        top = int(captions.tokens.max(initial=UNK))
        if top >= len(vocabulary):
            raise CaptionsError(
                f"{path}: token {top} is outside the vocabulary of {len(vocabulary)} words; {hint}"
            )
    return captions


class _Reader:
    """Reads one open file of ``size`` bytes; raises CaptionsError for what is not allowed."""

    def __init__(self, file: h5py.File, size: int) -> None:
        self.file = file
        self.size = size

    def captions(self) -> Captions:
        root = self.file
        if "format" not in root.attrs or _get_text(root, "format") != FORMAT:
            raise CaptionsError(f"not a captions file (its format is not {FORMAT!r})")
        if (version := int(_attribute(root, "version", "i"))) != VERSION:
            raise CaptionsError(f"version {version} is unknown, this software reads {VERSION}")
        names = set(root.id)  # as bytes: a damaged name need not be text
        for name in names:
            if root.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                raise CaptionsError(f"{name!r} is a soft or external link")
        image = self._array("caption_picture", "<i4")
        return Captions(
            split=_get_text(root, "split"),
            keys=self._strings("key"),
            image_ids=self._image_ids(),
            image=image,
            tokens=self._array("tokens", "<i4"),
            offsets=self._array("offsets", "<i8"),
            texts=self._texts(len(image)),
            factors=self._factors() if b"factors" in names else None,
            vocabulary_digest=_get_text(root, "vocabulary_digest"),
            source_digest=_get_text(root, "source_digest"),
            held_out=self._held_out() if "held_out" in root.attrs else None,
        )

    def _held_out(self) -> HeldOut:
        try:
            return HeldOut.from_json(_get_text(self.file, "held_out"))
        except DataError as error:
            raise CaptionsError(str(error)) from error

    def _dataset(self, name: str) -> h5py.Dataset:
        if name not in self.file:
            raise CaptionsError(f"no dataset {name!r}")
        dataset = self.file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise CaptionsError(f"{name!r} is not a dataset")
        layout = dataset.id.get_create_plist()
        if layout.get_layout() != h5py.h5d.CONTIGUOUS or layout.get_external_count():
            raise CaptionsError(f"{name!r} is not stored as one plain block inside the file")
        if dataset.ndim != 1:
            raise CaptionsError(f"{name!r} has {dataset.ndim} dimensions, expected 1")
        size = dataset.size * dataset.dtype.itemsize
        if size != dataset.id.get_storage_size() or size > self.size:
            raise CaptionsError(f"{name!r} is not all there")
        return dataset

    def _array(self, name: str, dtype: str) -> npt.NDArray[Any]:
        dataset = self._dataset(name)
        if dataset.dtype != np.dtype(dtype):
            raise CaptionsError(f"{name!r} is {dataset.dtype}, expected {np.dtype(dtype)}")
        array: npt.NDArray[Any] = dataset[:]
        return array

    def _strings(self, name: str) -> tuple[str, ...]:
        dataset = self._dataset(name)
        text = h5py.check_string_dtype(dataset.dtype)
        if text is None or text.length is None or text.encoding != "utf-8":
            raise CaptionsError(f"{name!r} is {dataset.dtype}, expected fixed-length UTF-8")
        return tuple(_decode(name, value) for value in dataset[:].tolist())

    def _image_ids(self) -> tuple[int | str, ...]:
        texts = self._strings("image_id")
        kind = _get_text(self.file["image_id"], "image_id_type")
        if kind == "str":
            return texts
        if kind != "int":
            raise CaptionsError(f"image_id_type is {kind!r}, expected 'int' or 'str'")
        for text in texts:
            if not text.removeprefix("-").isdecimal():
                raise CaptionsError(f"image_id {text!r} is not a whole number")
        return tuple(int(text) for text in texts)

    def _texts(self, count: int) -> Texts:
        data = self._array("text", "|u1").tobytes()
        offsets = self._array("text_offsets", "<i8")
        _check_offsets("text_offsets", offsets, count, len(data))
        try:
            return Texts(data, offsets)
        except UnicodeDecodeError as error:
            at = data[error.start : error.start + 20]
            raise CaptionsError(f"'text' holds bytes that are not UTF-8 ({at!r})") from error

    def _factors(self) -> tuple[Any, ...]:
        text = _decode("factors", self._array("factors", "|u1").tobytes())
        try:
            factors = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CaptionsError(f"factors is not JSON ({error})") from error
        if not isinstance(factors, list):
            raise CaptionsError("factors is not a JSON array")
        return tuple(factors)


def _set_text(owner: h5py.HLObject, name: str, text: str) -> None:
    # Of fixed length: text of variable length lies in a heap, and on a damaged heap HDF5 hangs.
    data = text.encode("utf-8")
    owner.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", max(1, len(data))))


def _get_text(owner: h5py.HLObject, name: str) -> str:
    text = _decode(name, bytes(_attribute(owner, name, "S")))
    if not text.isprintable():
        raise CaptionsError(f"attribute {name} is {text!r}, expected printable text")
    return text


def _attribute(owner: h5py.HLObject, name: str, kind: str) -> Any:
    if name not in owner.attrs or owner.attrs.get_id(name).dtype.kind != kind:
        raise CaptionsError(f"attribute {name} is missing or of another type")
    return owner.attrs[name]


def _check_offsets(name: str, offsets: npt.NDArray[np.int64], parts: int, total: int) -> None:
    if len(offsets) != parts + 1 or offsets[0] != 0 or offsets[-1] != total:
        raise CaptionsError(f"{name} does not cut {total} items into {parts} captions")
    falls = offsets[1:] < offsets[:-1]
    if falls.any():
        raise CaptionsError(f"{name} falls at caption {int(falls.argmax())}")


def _fixed(strings: Sequence[str]) -> npt.NDArray[Any]:
    data = [string.encode("utf-8") for string in strings]
    return np.array(data, h5py.string_dtype("utf-8", max(1, *map(len, data))))


def _offsets(parts: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.fromiter(accumulate(map(len, parts), initial=0), np.int64, len(parts) + 1)


def _factors_json(factors: tuple[Any, ...]) -> bytes:
    try:
        return json.dumps(factors, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (ValueError, TypeError) as error:
        raise CaptionsError(f"factors cannot be written as JSON ({error}); mend them") from error


def _decode(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CaptionsError(f"{name!r} holds bytes that are not UTF-8 ({data[:20]!r})") from error
