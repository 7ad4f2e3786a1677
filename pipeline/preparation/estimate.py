"""An estimate of the time and space that `preprocess` needs, from a sample of the images."""

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multispace.data.cache.format.manifest import NAME
from multispace.data.cache.reader import Cache
from multispace.errors import OptionError, brief
from multispace.model.backbone.resnet import Backbone
from multispace.model.device import cores
from multispace.pipeline.command_options.preprocess_options import PreprocessOptions
from multispace.pipeline.extraction.workers import Extracted, batch_size, extracted_batches
from multispace.pipeline.preparation.backbone_choice import chosen_backbone
from multispace.pipeline.preparation.inputs import (
    check_found,
    find_files,
    missing_notes,
    part_notes,
    read_input,
)

DIGEST_BYTES = 32  # stored beside each vector


@dataclass(frozen=True)
class Estimate:
    """The remaining work of `preprocess`, and the time and space that it needs here.

    :param images: images with captions
    :param held: images that have features already
    :param absent: images without a file
    :param sample: images that were extracted on trial
    :param rate: images per second
    :param seconds: time for all remaining images
    :param bytes: size of their features
    :param free: free bytes on the disk
    :param failing: image of the sample -> reason why it cannot be read
    """

    images: int
    held: int
    absent: int
    sample: int
    rate: float
    seconds: float
    bytes: int
    free: int
    bottleneck: str
    failing: dict[str, str]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "notes": list(self.notes)}

    def render(self) -> str:
        """Return the estimate as lines of text."""
        bottleneck = f"; {self.bottleneck}" if self.bottleneck else ""
        lines = [
            f"{self.images} images: {self.held} have features already, {self.absent} have no file",
            f"{self.rate:.1f} images/s in a sample of {self.sample}, of which "
            f"{len(self.failing)} cannot be read{bottleneck}",
            f"remaining images: about {_clock(self.seconds)} and {self.bytes / 1e6:.1f} MB "
            f"({self.free / 1e9:.1f} GB free)",
            *(f"cannot be read: {brief(k)}: {brief(why)}" for k, why in self.failing.items()),
            "nothing was written",
        ]
        return "\n".join(lines)


def estimate(options: PreprocessOptions) -> Estimate:
    """Extract a sample of the images that have no features yet, and write nothing.

    :raises OptionError: the options request no extraction in this process.
    """
    if options.images is None or options.ray is not None or len(options.caches) > 1:
        raise OptionError(
            "tries one backbone in this process",
            where="--dry-run",
            hint="give --images, one --backbone, and no --ray",
        )
    collection = read_input(options)
    located = find_files(options, collection)
    assert located is not None, "--images is given"
    cache = Cache.open(options.cache) if (options.cache / NAME).exists() else None
    backbone = chosen_backbone(options, cache.manifest.spec if cache else None, options.backbone)
    keys = sorted(located.files)
    held = set(cache.rows) if cache else set()
    check_found(options, located, held)
    wanted = [key for key in keys if key not in held]
    present = [(key, located.files[key]) for key in wanted if located.files[key].exists()]
    sample, seconds = _try_sample(present, backbone, options.workers or cores())
    tried = len(sample.keys) + len(sample.failures)
    rate = tried / seconds if tried else 0.0
    vector = backbone.dimension * np.dtype(options.dtype).itemsize + DIGEST_BYTES
    longest_key = max((len(key.encode()) for key, _ in present), default=0)
    return Estimate(
        images=len(keys),
        held=len(keys) - len(wanted),
        absent=len(wanted) - len(present),
        sample=tried,
        rate=rate,
        seconds=len(present) / rate if rate else 0.0,
        bytes=len(present) * (vector + longest_key),
        free=shutil.disk_usage(_nearest_folder(options.cache)).free,
        bottleneck=str(sample.timings),
        failing=sample.failures,
        notes=(
            *collection.notes,
            *([backbone.note] if backbone.note else []),
            *part_notes(options, collection, located),
            *missing_notes(options, located),
        ),
    )


def _try_sample(
    images: list[tuple[str, Path]], backbone: Backbone, workers: int
) -> tuple[Extracted, float]:
    """Extract images that are evenly spread; return them and the seconds that it took."""
    count = min(len(images), 4 * batch_size(backbone.device) * workers)
    sample = [images[i * len(images) // count] for i in range(count)]
    extracted = Extracted()
    started = time.perf_counter()
    with extracted_batches([sample], backbone, workers) as batches:
        for batch in batches:
            extracted.add(batch)
    return extracted, time.perf_counter() - started


def _nearest_folder(folder: Path) -> Path:
    """Return ``folder``, or the nearest folder above it that exists."""
    return next(
        place for place in (folder.absolute(), *folder.absolute().parents) if place.exists()
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
