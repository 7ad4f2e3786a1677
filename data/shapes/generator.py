"""The generated collection on disk: images, and COCO annotations that hold their factors."""

import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multispace.data.files import sync_folder
from multispace.data.shapes.drawing import render
from multispace.data.shapes.scene import draw_scene, factor_values, parse_combinations
from multispace.data.shapes.sentences import CAPTIONS_PER_IMAGE, captions_of
from multispace.errors import AnnotationError, DataError

FEWEST_IMAGES = 10  # with fewer, 80/10/10 leaves a split empty
LEAST_SIZE = 16  # pixels
HELD_OUT = "held-out"


@dataclass(frozen=True)
class ShapesSummary:
    """What was written: the images of each split, the captions in all, what is held out."""

    out: Path
    images: dict[str, int]
    captions: int
    held_out: tuple[str, ...]


def generate_shapes(
    out: Path, images: int, seed: int, hold_out: Sequence[str] = (), size: int = 128
) -> ShapesSummary:
    """Write a collection of ``images`` images of ``size`` x ``size`` pixels in COCO form.

    ``out`` gets ``images/*.png``, named alike for all splits, and
    ``annotations/{train,val,test}.json`` (80, 10 and 10 per cent). No image of these shows a
    combination of ``hold_out`` ("red circle": a colour, size or pattern, and a shape) in either
    object. ``annotations/held-out.json`` then has ``images // 10`` images more (at least one a
    combination) that show the combinations in turn, in the main object unless it is a small
    one. An image entry holds ``factors`` (:meth:`multispace.data.shapes.scene.Scene.factors`).

    Equal arguments give equal bytes under equal versions of Pillow. An image that shows nothing
    held out is the same whatever is held out. ``out`` appears only when whole.

    Raises :class:`DataError` where ``out`` has contents, ``images`` is below 10, ``size`` is below
    16, a combination is not known, or no image is without them all.
    """
    if images < FEWEST_IMAGES:
        raise DataError(f"{images} images leave a split empty; ask for at least {FEWEST_IMAGES}")
    if size < LEAST_SIZE:
        raise DataError(f"size {size}: too few pixels to tell shapes; ask for {LEAST_SIZE} or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not an empty folder; choose another, or remove it")
    held = parse_combinations(hold_out)
    tenth = images // 10
    by_split = {"train": images - 2 * tenth, "val": tenth, "test": tenth}
    if held:
        by_split[HELD_OUT] = max(tenth, len(held))
    names = tuple(map(str, held))

    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as temporary:
        whole = Path(temporary) / place.name
        (whole / "images").mkdir(parents=True)
        (whole / "annotations").mkdir()
        start = 0
        for split, count in by_split.items():
            shown = held if split == HELD_OUT else ()
            entries, annotations = [], []
            for index in range(start, start + count):
                rng = random.Random(f"{seed}/{index}")
                if shown:
                    scene = draw_scene(rng, showing=shown[index % len(shown)])
                else:
                    scene = draw_scene(rng, without=held)
                name = f"{index:06d}.png"
                render(scene, size).save(whole / "images" / name, compress_level=3)
                entry = {"id": index, "file_name": name, "width": size, "height": size}
                entries.append({**entry, "factors": scene.factors()})
                annotations += _annotations(index, captions_of(scene, rng))
            info = {
                "description": "generated shapes",
                "split": split,
                "seed": seed,
                "held_out": names,
                "factors": factor_values(),
            }
            document = {"info": info, "images": entries, "annotations": annotations}
            file = whole / "annotations" / f"{split}.json"
            file.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
            start += count
        os.sync()  # once for thousands of small files, instead of one fsync for each
        os.replace(whole, place)
    sync_folder(place.parent)
    return ShapesSummary(out, by_split, start * CAPTIONS_PER_IMAGE, names)


def read_factors(path: Path) -> dict[str, dict[str, Any]]:
    """Return the true factors in a generated annotation file, by the images' file names.

    Raises :class:`AnnotationError` where it is missing, not JSON, or has no factors.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {entry["file_name"]: entry["factors"] for entry in document["images"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnnotationError(
            f"{path}: no factors to read ({error!r}); give an annotation file of `shapes`"
        ) from error


def _annotations(image_id: int, captions: Sequence[str]) -> list[dict[str, Any]]:
    first = image_id * CAPTIONS_PER_IMAGE
    return [
        {"id": first + number, "image_id": image_id, "caption": caption}
        for number, caption in enumerate(captions)
    ]
