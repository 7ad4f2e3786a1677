"""What `preprocess` would take: time and size, from a sample of the images."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multispace.data.annotations import read_collection
from multispace.data.cache.manifest import NAME
from multispace.data.cache.reader import Cache
from multispace.errors import OptionError
from multispace.model.device import cores
from multispace.pipeline.extraction.workers import Rows, batch_size, lanes
from multispace.pipeline.preprocess import PreprocessOptions, chosen_backbone


@dataclass(frozen=True)
class Estimate:
    """The work that is left, and what it would take here, in seconds and bytes.

    ``failing`` names the images of the sample that could not be read.
    """

    images: int
    held: int
    absent: int
    sample: int
    rate: float  # images a second
    seconds: float
    bytes: int
    free: int
    bottleneck: str
    failing: dict[str, str]

    def lines(self) -> list[str]:
        """Say it."""
        return [
            f"{self.images} images: {self.held} have a vector already, {self.absent} have no file",
            f"{self.rate:.1f} images/s ({self.sample} tried, {len(self.failing)} of them "
            f"unreadable); {self.bottleneck}",
            f"the others take about {_clock(self.seconds)} and {self.bytes / 1e6:.1f} MB "
            f"({self.free / 1e9:.1f} GB free)",
            *(f"unreadable: {key}: {reason}" for key, reason in self.failing.items()),
            "nothing was written",
        ]


def estimate(options: PreprocessOptions) -> Estimate:
    """Try a sample of the images that have no vector yet; write nothing.

    :raises OptionError: the options ask for no extraction in this process.
    """
    if options.images is None or options.ray is not None or len(options.caches) > 1:
        raise OptionError(
            "--dry-run: tries one backbone in this process; give --images, one --backbone, no --ray"
        )
    collection = read_collection(options.annotations, options.split)
    cache = Cache.open(options.cache) if (options.cache / NAME).exists() else None
    backbone = chosen_backbone(options, cache.manifest.spec if cache else None, options.backbone)
    keys = sorted({image.key for image in collection.images})
    held = set(cache.rows) if cache else set()
    wanted = [key for key in keys if key not in held]
    here = [(key, options.images / key) for key in wanted if (options.images / key).exists()]
    workers = options.workers or cores()
    count = min(len(here), 4 * batch_size(backbone.device) * workers)
    sample = [here[i * len(here) // count] for i in range(count)]
    rows = Rows()
    began = time.perf_counter()
    with lanes([sample], backbone, workers) as made:
        for batch in made:
            rows.add(batch)
    took = time.perf_counter() - began
    rate = count / took if count else 0.0
    row = backbone.dimension * np.dtype(options.dtype).itemsize + 32
    names = max((len(key.encode()) for key, _ in here), default=0)
    return Estimate(
        images=len(keys),
        held=len(keys) - len(wanted),
        absent=len(wanted) - len(here),
        sample=count,
        rate=rate,
        seconds=len(here) / rate if rate else 0.0,
        bytes=len(here) * (row + names),
        free=shutil.disk_usage(_existing(options.cache)).free,
        bottleneck=str(rows.effort),
        failing=rows.failures,
    )


def _existing(folder: Path) -> Path:
    return next(
        place for place in (folder.absolute(), *folder.absolute().parents) if place.exists()
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
