"""Run the whole pipeline on generated images: from nothing to four systems, compared."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from multispace.data.cache.reader import Cache
from multispace.data.shapes import generate_shapes
from multispace.errors import OptionError, PipelineError
from multispace.model.options import RECOMMENDED
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.evaluate import EvaluateOptions, Evaluation, evaluate
from multispace.pipeline.preprocess import PreprocessOptions, preprocess
from multispace.pipeline.reporting.contestants import contestant
from multispace.pipeline.reporting.demo_tables import caption_table, latents_table, sample_table
from multispace.pipeline.reporting.winners import NOTE, Answer, answers, answers_table
from multispace.pipeline.train import train

IMAGES = 2000
PIXELS = 96
SAMPLES = 10
EXAMPLES = 3
# Chosen by measurement: untrained ResNet-18 features of images this small carry colour and
# shape well enough (docs/results.md), and the demo takes minutes on two cores.
FEATURES: dict[str, Any] = {
    "backbone": "resnet18",
    "weights": "random:0",
    "resize": PIXELS,
    "crop": PIXELS,
}
TRAINING: dict[str, Any] = {
    "epochs": 8,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "embedding": 128,
    "hidden": 128,
}
# Options of each system, the recommended one first.
SYSTEMS: dict[str, dict[str, Any]] = {
    RECOMMENDED: {},
    "multispace": {},
    "latent": {"annealing_midpoint": 500, "annealing_slope": 0.0125},
    "base": {},
}
# Words of samples are drawn from `base` at these temperatures, which cover the quality of the
# samples of the other systems. Those draw their latents.
TEMPERATURES = (0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class Demo:
    """Result of `demo`: evaluations by name, who wins what, and examples by image."""

    out: Path
    evaluations: dict[str, Evaluation]
    answers: tuple[Answer, ...]
    examples: dict[str, dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "evaluations": {name: each.to_json() for name, each in self.evaluations.items()},
            "answers": [answer.to_json() for answer in self.answers],
            "examples": self.examples,
        }

    def render(self) -> str:
        """Return the tables, with examples before the last one."""
        single = {n: e for n, e in self.evaluations.items() if n not in _resampled()}
        lines = [
            caption_table(single),
            "",
            sample_table(self.evaluations),
            "",
            latents_table(single),
            "",
        ]
        for file, captions in self.examples.items():
            lines += [file, *(f"  {name:14}{text}" for name, text in captions.items()), ""]
        lines += [answers_table(self.answers), "", f"everything is in {self.out}"]
        return "\n".join(lines)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the tables should know, one line each."""
        return (NOTE,)
