"""Karpathy's JSON: ``{"images": [{"filename", "split", "imgid", "sentences": [{"raw"}]}]}``."""

from multispace.data.annotations.annotation_file import AnnotationFile
from multispace.data.annotations.builder import CollectionBuilder, ImageDraft
from multispace.data.annotations.collection import DUPLICATE_IMAGE_ID, Collection
from multispace.data.annotations.json_entry import (
    caption_field,
    entries,
    field,
    id_field,
    text_field,
)
from multispace.data.annotations.json_members import EntryList
from multispace.data.annotations.split_names import split_name
from multispace.errors import shown

LAYOUT = "Karpathy JSON (images with sentences)"


def matches(file: AnnotationFile) -> bool:
    """Return whether a file has this format."""
    if not file.is_json or not isinstance(file.document, dict):
        return False
    images = file.document.get("images")
    return isinstance(images, EntryList) and any(
        isinstance(image, dict) and "sentences" in image for image in images
    )


def read(file: AnnotationFile, split: str | None) -> Collection:
    """Read a Karpathy file with its splits; "restval" joins "train".

    :param split: unused, because the file names the split of each image
    :raises AnnotationError: the file as a whole cannot be read.
    """
    builder = CollectionBuilder("karpathy", file.path)
    names: dict[str, str] = {}
    renamed: dict[str, str] = {}
    rest = 0
    for place, entry in entries(file.path, file.document, "images"):
        name = text_field(file.path, place, entry, "filename")
        if entry.get("filepath"):
            name = f"{text_field(file.path, place, entry, 'filepath')}/{name}"
        image_id = id_field(file.path, place, entry, "cocoid" if "cocoid" in entry else "imgid")
        own = text_field(file.path, place, entry, "split")
        label = split_name(file.path, own)
        if label != own:
            renamed[own] = label
        if label == "restval":
            label = "train"
            rest += 1
        if names.setdefault(str(image_id), name) != name:
            builder.skip(DUPLICATE_IMAGE_ID, shown(image_id), f"{place}; the first was kept")
            continue
        image = builder.image(name, image_id, place, split=label)
        if image is not None:
            _captions(file, place, entry, image, builder)
    if rest:
        builder.notes.append(f"{rest} restval images joined train")
    builder.notes += [f"split {own!r} was read as {label!r}" for own, label in renamed.items()]
    return builder.build()


def _captions(
    file: AnnotationFile, place: str, entry: object, image: ImageDraft, builder: CollectionBuilder
) -> None:
    sentences = field(file.path, place, entry, "sentences", list, "a list")
    for index, sentence in enumerate(sentences):
        inner = f"{place}.sentences[{index}]"
        text = caption_field(file.path, inner, sentence, "raw")
        sentence_id = None
        if "sentid" in sentence:
            sentence_id = id_field(file.path, inner, sentence, "sentid")
        builder.caption(image, text, inner, sentence_id)
