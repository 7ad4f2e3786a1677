"""MS-COCO captions: ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", ...}]}``."""

from multispace.data.annotations.annotation_file import AnnotationFile
from multispace.data.annotations.builder import CollectionBuilder, ImageDraft
from multispace.data.annotations.collection import (
    CAPTION_WITHOUT_IMAGE,
    DUPLICATE_IMAGE_ID,
    Collection,
)
from multispace.data.annotations.json_entry import (
    caption_field,
    entries,
    fault,
    field,
    id_field,
    text_field,
)
from multispace.data.annotations.split_names import split_in_name, split_name
from multispace.errors import AnnotationError, shown

LAYOUT = "COCO captions JSON (images, annotations)"


def matches(file: AnnotationFile) -> bool:
    """Return whether a file has this format."""
    return (
        file.is_json
        and isinstance(file.document, dict)
        and {"images", "annotations"} <= file.document.keys()
    )


def read(file: AnnotationFile, split: str | None) -> Collection:
    """Read a COCO captions file, which holds one split.

    The split is ``split``, else ``info.split``, else the one in the file's name, else None.

    :raises AnnotationError: the file as a whole cannot be read.
    """
    builder = CollectionBuilder("coco", file.path)
    label = _label(file, split, builder)
    images = _images(file, label, builder)
    _captions(file, images, builder)
    return builder.build(_held_out(file))


def _held_out(file: AnnotationFile) -> tuple[str, ...]:
    """Return the pairs that `shapes` kept out of training; other files have none."""
    info = file.document.get("info")
    pairs = info.get("held_out", []) if isinstance(info, dict) else []
    if not isinstance(pairs, list) or not all(isinstance(pair, str) for pair in pairs):
        raise fault(file.path, "info.held_out", pairs, "a list of texts")
    return tuple(pairs)


def _label(file: AnnotationFile, split: str | None, builder: CollectionBuilder) -> str | None:
    info = file.document.get("info")
    own: str | None = None
    if isinstance(info, dict) and info.get("split") is not None:
        own = split_name(file.path, text_field(file.path, "info", info, "split"))
    if split is None:
        return own or split_in_name(file.path)
    if own not in (None, split):
        builder.notes.append(f"the file calls its split {own}; it was read as {split}, as asked")
    return split


def _images(
    file: AnnotationFile, label: str | None, builder: CollectionBuilder
) -> dict[str, ImageDraft | None]:
    """Return the image of each id; None for an image that was skipped.

    Ids are compared as text, because some files write them as numbers in one list and as text
    in the other.
    """
    images: dict[str, ImageDraft | None] = {}
    names: dict[str, str] = {}
    for place, entry in entries(file.path, file.document, "images"):
        image_id = id_field(file.path, place, entry, "id")
        name = text_field(file.path, place, entry, "file_name")
        if names.setdefault(str(image_id), name) != name:
            builder.skip(DUPLICATE_IMAGE_ID, shown(image_id), f"{place}; the first was kept")
            continue
        factors = entry.get("factors")
        images[str(image_id)] = builder.image(name, image_id, place, split=label, factors=factors)
    return images


def _captions(
    file: AnnotationFile, images: dict[str, ImageDraft | None], builder: CollectionBuilder
) -> None:
    lost = 0
    for place, entry in entries(file.path, file.document, "annotations"):
        image_id = field(file.path, place, entry, "image_id", object, "")
        if type(image_id) is not int:  # the common case needs no further check
            image_id = id_field(file.path, place, entry, "image_id")
        if "caption" not in entry:
            raise AnnotationError(
                f"{place} has no caption",
                where=file.path,
                hint="use the captions file of the collection, not that of instances or keypoints",
            )
        text = caption_field(file.path, place, entry, "caption")
        caption_id = id_field(file.path, place, entry, "id") if "id" in entry else None
        if str(image_id) not in images:
            detail = f"no image has the id {shown(image_id)}"
            builder.skip(CAPTION_WITHOUT_IMAGE, place, detail)
        elif (image := images[str(image_id)]) is None:
            lost += 1
        else:
            builder.caption(image, text, place, caption_id)
    if lost:
        builder.notes.append(f"{lost} captions of images that were skipped were skipped too")
