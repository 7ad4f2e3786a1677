"""Write a generated collection: images, and COCO annotations with their factors."""

import json
import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multispace.data.documents import DocumentFormat, Kind, ListOf, MapOf, Object, Text
from multispace.data.files import names_full_disk, sync_folder, write_synced
from multispace.data.language.pairs import Pair
from multispace.data.shapes.descriptions import open_captions
from multispace.data.shapes.drawing import render
from multispace.data.shapes.scene import draw_scene, factor_values, parse_pairs
from multispace.data.shapes.sentences import CAPTIONS_PER_IMAGE, full_captions
from multispace.errors import AnnotationError, DataError

MIN_IMAGES = 10  # with fewer, 80/10/10 leaves a split empty
MIN_SIZE = 16  # pixels
HELD_OUT_SPLIT = "held-out"
WRITERS = {"open": open_captions, "full": full_captions}
FACTORS = DocumentFormat(
    Object(
        {"images": ListOf(Object({"file_name": Text(), "factors": MapOf()}, others=Kind()))},
        others=Kind(),
    ),
    error=AnnotationError,
    hint="give an annotation file that `multispace shapes` made",
    max_bytes=1 << 30,
)


@dataclass(frozen=True)
class ShapesSummary:
    """Result of `shapes`: images per split, captions in all, and held-out pairs."""

    out: Path
    images: dict[str, int]
    captions: int
    held_out: tuple[str, ...]

    def annotations(self, split: str) -> Path:
        """Return the annotation file of a split."""
        return self.out / "annotations" / f"{split}.json"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "out": str(self.out), "held_out": list(self.held_out)}

    def render(self) -> str:
        """Return a line for each split."""
        return "\n".join(
            f"{split}: {count} images, {self.annotations(split)}"
            for split, count in self.images.items()
        )


@dataclass(frozen=True)
class _Drawing:
    """How images and captions are made; ``held`` are the held-out pairs by their text."""

    seed: int
    held: Mapping[str, Pair]
    size: int
    captions: str


def generate_shapes(
    out: Path,
    images: int,
    seed: int,
    hold_out: Sequence[str] = (),
    size: int = 128,
    captions: str = "open",
) -> ShapesSummary:
    """Write a collection of ``images`` images of ``size`` x ``size`` pixels in COCO form.

    ``out`` gets ``images/*.png`` and ``annotations/{train,val,test}.json`` (80, 10 and 10 per
    cent). An image entry holds ``factors`` (:meth:`multispace.data.shapes.scene.Scene.factors`).
    Equal arguments give equal bytes under equal versions of Pillow. ``out`` appears only when
    the collection is complete.

    No image of these splits shows a pair of ``hold_out`` in either object.
    ``annotations/held-out.json`` then lists ``images // 10`` further images (at least one for
    each pair) that show the pairs in turn, in the main object unless the pair is a small one.
    Images that show no held-out pair are the same for every ``hold_out``.

    :param hold_out: pairs of an attribute and a shape, such as "red circle"
    :param captions: ``open``, which describe what they choose of an image in one of many ways
        (:func:`multispace.data.shapes.open_captions`), or ``full``, which all name the main
        object first with its color and shape (:func:`multispace.data.shapes.full_captions`)
    :raises DataError: ``out`` is not empty, there are fewer than 10 images or 16 pixels, a pair
        is unknown, or no image is left without the pairs.
    """
    if images < MIN_IMAGES:
        raise DataError(f"{images} images leave a split empty", hint=f"use at least {MIN_IMAGES}")
    if size < MIN_SIZE:
        raise DataError(
            f"size {size}: too few pixels to distinguish shapes", hint=f"use {MIN_SIZE} or more"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            "exists and is not an empty folder", where=out, hint="choose another folder"
        )
    pairs = parse_pairs(hold_out)
    drawing = _Drawing(seed, pairs, size, captions)
    tenth = images // 10
    by_split = {"train": images - 2 * tenth, "val": tenth, "test": tenth}
    if pairs:
        by_split[HELD_OUT_SPLIT] = max(tenth, len(pairs))

    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with (
        names_full_disk(out),
        tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as temporary,
    ):
        folder = Path(temporary) / place.name
        (folder / "images").mkdir(parents=True)
        (folder / "annotations").mkdir()
        start = 0
        for split, count in by_split.items():
            _write_split(folder, split, range(start, start + count), drawing)
            start += count
        os.sync()  # once for thousands of small files, instead of one fsync for each
        os.replace(folder, place)
    sync_folder(place.parent)
    return ShapesSummary(out, by_split, start * CAPTIONS_PER_IMAGE, tuple(pairs))


def _write_split(folder: Path, split: str, numbers: range, drawing: _Drawing) -> None:
    """Write the images of a split and its annotation file."""
    held, size = tuple(drawing.held.values()), drawing.size
    entries, annotations = [], []
    for number in numbers:
        rng = random.Random(f"{drawing.seed}/{number}")
        if split == HELD_OUT_SPLIT:
            scene = draw_scene(rng, showing=held[number % len(held)])
        else:
            scene = draw_scene(rng, without=held)
        name = f"{number:06d}.png"
        render(scene, size).save(folder / "images" / name, compress_level=3)
        entry = {"id": number, "file_name": name, "width": size, "height": size}
        entries.append({**entry, "factors": scene.factors()})
        annotations += _annotations(number, WRITERS[drawing.captions](scene, rng))
    info = {
        "description": "generated shapes",
        "split": split,
        "seed": drawing.seed,
        "captions": drawing.captions,
        "held_out": tuple(drawing.held),
        "factors": factor_values(),
    }
    document = {"info": info, "images": entries, "annotations": annotations}
    file = folder / "annotations" / f"{split}.json"
    write_synced(file, json.dumps(document, separators=(",", ":")).encode())


def read_factors(path: Path) -> dict[str, dict[str, Any]]:
    """Return the true factors in a generated annotation file, by the images' file names.

    :raises AnnotationError: the file is missing, not JSON, or has no factors.
    """
    images = FACTORS.read_json(path)["images"]
    return {entry["file_name"]: entry["factors"] for entry in images}


def _annotations(image_id: int, captions: Sequence[str]) -> list[dict[str, Any]]:
    first = image_id * CAPTIONS_PER_IMAGE
    return [
        {"id": first + number, "image_id": image_id, "caption": caption}
        for number, caption in enumerate(captions)
    ]
