"""A collection, a cache and runs that are small enough to make for one test."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from multispace.pipeline.preparation.summary import Summary
from multispace.pipeline.preprocess import PreprocessOptions, preprocess

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220)}
SPLITS = {"train": 12, "val": 4, "test": 4}


def make_collection(folder: Path) -> Path:
    """Write plain images of three colours with two captions each, in COCO form."""
    random = np.random.default_rng(0)
    images = folder / "images"
    images.mkdir(parents=True)
    number = 0
    for split, count in SPLITS.items():
        entries, captions = [], []
        for _ in range(count):
            number += 1
            colour = list(COLOURS)[number % 3]
            pixels = random.integers(-20, 20, (40, 48, 3)) + np.array(COLOURS[colour])
            name = f"{split}-{number:03d}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(images / name)
            entries.append({"id": number, "file_name": name})
            for text in (f"a {colour} image", f"this is all {colour}"):
                captions.append({"id": len(captions), "image_id": number, "caption": text})
        content = {"images": entries, "annotations": captions}
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder


def make_cache(folder: Path, collection: Path, splits: tuple[str, ...] = tuple(SPLITS)) -> Summary:
    """Extract random ResNet-18 features of small crops; the last split's summary is returned."""
    for split in splits:
        summary = preprocess(options(folder, collection, split))
    return summary


def options(cache: Path, collection: Path, split: str = "train", **other: object):
    """Return quick options for `preprocess`."""
    values = {
        "annotations": collection / f"{split}.json",
        "images": collection / "images",
        "cache": cache,
        "split": split,
        "backbone": "resnet18",
        "weights": "random:3",
        "resize": 32,
        "crop": 32,
        "min_count": 1,
        "precision": "float32",
        "device": "cpu",
        "workers": 2,
        **other,
    }
    return PreprocessOptions(**values)


def train_tiny(system: str, cache: Path, run: Path, **other: object) -> Path:
    """Train until the tiny collection is learnt, about 75 steps; return the run folder."""
    from multispace.pipeline.command_options.train_options import TrainOptions
    from multispace.pipeline.train import train

    values = {
        "epochs": 25,
        "batch_size": 8,
        "embedding": 32,
        "hidden": 32,
        "learning_rate": 5e-3,
        "device": "cpu",
        "precision": "float32",
        **({} if system == "base" else {"z_size": 8, "categories": (6,)}),
        **other,
    }
    train(TrainOptions(system=system, cache=cache, run=run, **values))
    return run
