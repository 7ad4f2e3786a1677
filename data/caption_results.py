"""Caption results: one caption per image, in COCO's results format."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multispace.data.documents import DocumentFormat
from multispace.errors import DataError, shown

ImageId = int | str

FORMAT = '[{"image_id": ..., "caption": "..."}, ...]'
RESULTS = DocumentFormat(hint=f"expected {FORMAT}", max_bytes=1 << 30)


@dataclass(frozen=True)
class CaptionResult:
    """A caption of an image.

    :param place: where the entry is in the file
    :param file_name: the name of the image's file, if the file has it
    """

    place: str
    image_id: ImageId
    caption: str
    file_name: str | None = None


def read_results(path: Path) -> list[CaptionResult]:
    """Read a COCO results file: a list of entries, or an object with a list ``annotations``.

    :raises DataError: the file is something else, or has two captions of an image.
    """
    document = RESULTS.read_json(path)
    if isinstance(document, dict) and "annotations" in document:
        document = document["annotations"]
    if not isinstance(document, list):
        raise _fault(path, f"holds {shown(document)}")
    if not document:
        raise _fault(path, "holds no captions")
    results: dict[str, CaptionResult] = {}
    for result in _entries(path, document):
        if str(result.image_id) in results:
            raise DataError(
                f"{result.place} is a second caption of image_id {shown(result.image_id)}",
                where=path,
                hint="keep one",
            )
        results[str(result.image_id)] = result
    return list(results.values())


def results_format(
    captions: Mapping[ImageId, str], file_names: Mapping[ImageId, str] | None = None
) -> list[dict[str, Any]]:
    """Return captions in the format that :func:`read_results` reads.

    :param captions: by image id
    :param file_names: by image id; they identify images where other annotations have other ids
    """
    names = file_names or {}
    return [
        {"image_id": image_id, "caption": text}
        | ({"file_name": names[image_id]} if image_id in names else {})
        for image_id, text in captions.items()
    ]


def _entries(path: Path, entries: list[Any]) -> Iterator[CaptionResult]:
    for index, entry in enumerate(entries):
        place = f"entry {index}"
        if not isinstance(entry, dict):
            raise _fault(path, f"{place} is {shown(entry)}")
        for field in ("image_id", "caption"):
            if field not in entry:
                raise _fault(path, f"{place} has no {field!r}")
        image_id, caption = entry["image_id"], entry["caption"]
        if isinstance(image_id, float) and image_id.is_integer():
            image_id = int(image_id)  # pandas writes ids beside missing ones as floats
        # bool is a subclass of int, and no image has the id true
        if not isinstance(image_id, int | str) or isinstance(image_id, bool):
            raise DataError(
                f"image_id {shown(image_id)} of {place} is neither a whole number nor text",
                where=path,
                hint="write the id that the annotations have",
            )
        if not isinstance(caption, str):
            raise DataError(
                f"caption {shown(caption)} of {place} is not text",
                where=path,
                hint="write one caption per image, as text",
            )
        file_name = entry.get("file_name")
        yield CaptionResult(
            place, image_id, caption, file_name if isinstance(file_name, str) else None
        )


def _fault(path: Path, what: str) -> DataError:
    return DataError(what, where=path, hint=f"expected {FORMAT}")
