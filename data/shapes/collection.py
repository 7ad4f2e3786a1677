"""The generated collection on disk: pictures, and COCO annotations with their true factors."""

import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.atomic import sync_folder
from data.errors import AnnotationError, DataError


@dataclass(frozen=True)
class ShapesSummary:
    """What :func:`generate_shapes` wrote: pictures of each split, and captions in all."""

    out: Path
    pictures: dict[str, int]
    captions: int
    held_out: tuple[str, ...]


def generate_shapes(
    out: Path, images: int, seed: int, hold_out: Sequence[str] = (), size: int = PICTURE_SIDE
) -> ShapesSummary:
    """Write a collection of ``images`` pictures of ``size`` x ``size`` pixels in COCO form.

    ``out`` gets ``images/*.png`` and ``annotations/{train,val,test}.json`` (80, 10 and 10 per
    cent). Each combination in ``hold_out`` ("red circle": a colour, size or pattern and a shape)
    is kept out of these; ``annotations/held-out.json`` then has a further ``images // 10``
    pictures (at least one a combination), each of which shows one of them, in the main object
    unless the combination says small. An image entry holds ``factors`` (see
    :meth:`Scene.factors`). Equal arguments give equal bytes under equal versions of Pillow, and a
    picture that no combination touches is the same with and without ``hold_out``.

    ``out`` appears only when whole. Raises :class:`DataError` where ``out`` has contents,
    ``images`` is below 10, ``size`` is below 16, a combination is not known, or the combinations
    leave nothing to draw.
    """
    if images < FEWEST_IMAGES:
        raise DataError(f"images is {images}; give at least {FEWEST_IMAGES}, so no split is empty")
    if size < 16:
        raise DataError(f"size is {size} pixels; give at least 16, so that shapes can be told")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: already has contents; give another folder, or remove it first")
    held = _parse_hold_out(hold_out)
    tenth = images // 10
    counts = {"train": images - 2 * tenth, "val": tenth, "test": tenth}
    if held:
        counts["held-out"] = max(tenth, len(held))
    names = tuple(f"{attribute} {shape}" for attribute, shape in held)

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        whole = Path(temporary) / "collection"
        (whole / "images").mkdir(parents=True)
        (whole / "annotations").mkdir()
        first = 0
        for split, count in counts.items():
            entries, annotations = [], []
            for index in range(first, first + count):
                rng = random.Random(f"{seed}/{index}")
                show = held[index % len(held)] if split == "held-out" else None
                scene = _draw_scene(rng, held, show)
                file_name = f"{index:06d}.png"
                render(scene, size).save(whole / "images" / file_name, compress_level=3)
                entries.append(
                    {
                        "id": index,
                        "file_name": file_name,
                        "width": size,
                        "height": size,
                        "factors": scene.factors(),
                    }
                )
                for number, caption in enumerate(captions_of(scene, rng)):
                    identity = index * CAPTIONS_PER_PICTURE + number
                    annotations.append({"id": identity, "image_id": index, "caption": caption})
            info = {
                "description": "generated shapes",
                "split": split,
                "seed": seed,
                "held_out": names,
                "factors": factor_values(),
            }
            document = {"info": info, "images": entries, "annotations": annotations}
            text = json.dumps(document, indent=None, separators=(",", ":"))
            (whole / "annotations" / f"{split}.json").write_text(text, encoding="utf-8")
            first += count
        os.sync()  # once for thousands of small files, instead of one fsync for each
        os.replace(whole, out)
    sync_folder(out.parent)
    return ShapesSummary(out, counts, first * CAPTIONS_PER_PICTURE, names)


def read_factors(path: Path) -> dict[str, dict[str, Any]]:
    """Read the true factors of a generated annotation file, by the pictures' file names."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {entry["file_name"]: entry["factors"] for entry in document["images"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnnotationError(
            f"{path}: no factors can be read ({error!r}); give an annotation file of `shapes`"
        ) from error
