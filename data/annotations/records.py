"""Lists of captions in JSON and JSON lines.

- a list of objects with an image and a caption or several captions, as in neuraltalk2's raw JSON
  (``{"file_path": ..., "captions": [...]}``)
- one such object per line, as in ``metadata.jsonl`` of Hugging Face (``{"file_name", "text"}``)
- an object of file names, each with a caption or several captions
"""

from typing import Any

from multispace.data.annotations.annotation_file import AnnotationFile
from multispace.data.annotations.builder import CollectionBuilder
from multispace.data.annotations.collection import Collection
from multispace.data.annotations.json_entry import fault, id_field, text_field
from multispace.data.annotations.split_names import split_name
from multispace.data.images import has_image_suffix

LAYOUT = "a JSON list or JSON lines of {image, caption}"

IMAGE_NAMES = ("file_path", "file_name", "filename", "image_name", "image", "file", "img")
CAPTION_NAMES = ("captions", "caption", "text", "sentences", "sentence", "comment")


def matches(file: AnnotationFile) -> bool:
    """Return whether a file has this format."""
    if not file.is_json or not file.document:
        return False
    document = file.document
    if isinstance(document, dict):
        if _name(document, IMAGE_NAMES) and _name(document, CAPTION_NAMES):
            return True  # a single line of JSON lines
        return all(has_image_suffix(name) for name in document)
    first = document[0]
    return isinstance(first, dict) and bool(
        _name(first, IMAGE_NAMES) and _name(first, CAPTION_NAMES)
    )


def read(file: AnnotationFile, split: str | None) -> Collection:
    """Read a list of captions.

    :param split: unused; entries or split lists name the splits
    :raises AnnotationError: an entry has no image or no caption, or no image has a caption.
    """
    builder = CollectionBuilder("records", file.path)
    document = file.document
    if isinstance(document, dict) and not _name(document, IMAGE_NAMES):
        for name, captions in document.items():
            _add(builder, name, captions, repr(name), None)
        return builder.build()
    for index, entry in enumerate(document if isinstance(document, list) else [document]):
        place = f"entry {index}"
        if not isinstance(entry, dict):
            raise fault(file.path, place, entry, "an object")
        name = text_field(file.path, place, entry, _name(entry, IMAGE_NAMES) or "file_name")
        label = None
        if entry.get("split") is not None:
            label = split_name(file.path, text_field(file.path, place, entry, "split"))
        caption_name = _name(entry, CAPTION_NAMES)
        if caption_name is None:
            raise fault(file.path, place, entry, "an object with a caption")
        # Entries of single captions have ids of captions, not of images.
        several = isinstance(entry[caption_name], list) and "id" in entry
        image_id = id_field(file.path, place, entry, "id") if several else None
        _add(builder, name, entry[caption_name], place, label, image_id)
    return builder.build()


def _add(
    builder: CollectionBuilder,
    name: str,
    captions: Any,
    place: str,
    split: str | None,
    image_id: int | str | None = None,
) -> None:
    """Add the captions of an entry.

    :param captions: a caption, or a list of captions or of ``{"raw": caption}``
    """
    if image_id is not None:
        builder.image(name, image_id, place, split=split)
    for number, caption in enumerate(captions if isinstance(captions, list) else [captions]):
        text = caption.get("raw") if isinstance(caption, dict) else caption
        builder.row(name, text, f"{place}, caption {number}", split)


def _name(entry: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in entry), None)
