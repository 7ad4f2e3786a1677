"""Run the whole pipeline on generated images: from nothing to three systems, compared."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from multispace.data.shapes import caption_accuracy, generate_shapes, read_factors
from multispace.errors import OptionError, PipelineError
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.console.table import text_table
from multispace.pipeline.evaluate import EvaluateOptions, Evaluation, evaluate
from multispace.pipeline.metrics.captions.coco_metrics import scores_table
from multispace.pipeline.preprocess import PreprocessOptions, preprocess
from multispace.pipeline.train import train

IMAGES = 2000
PIXELS = 96
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
SYSTEM: dict[str, dict[str, Any]] = {
    "base": {},
    "latent": {"annealing_midpoint": 500, "annealing_slope": 0.0125},
    "multispace": {},
}


@dataclass(frozen=True)
class Demo:
    """Result of `demo`: scores, accuracy of what captions say, and examples, by system."""

    out: Path
    scores: dict[str, dict[str, float]]
    accuracy: dict[str, dict[str, float]]
    examples: dict[str, dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"scores": self.scores, "accuracy": self.accuracy, "examples": self.examples}

    def render(self) -> str:
        """Return the scores, the accuracy and the examples."""
        rows = [
            [name, f"{a['colour']:.1%}", f"{a['shape']:.1%}", a["distinct"]]
            for name, a in self.accuracy.items()
        ]
        head = ["system", "colour right", "shape right", "distinct captions"]
        lines = [scores_table(self.scores), text_table(head, rows)]
        for file, captions in self.examples.items():
            lines += [file, *(f"  {name:12}{text}" for name, text in captions.items())]
        return "\n".join([*lines, f"everything is in {self.out}"])


def demo(out: Path, seed: int, say: Callable[[str], None]) -> Demo:
    """Generate a collection under ``out``, make its cache, train and evaluate every system.

    :param say: is called with a line about each step
    :raises OptionError: ``out`` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise OptionError(
            "not empty", where=f"--out {out}", hint="choose another folder, or remove it first"
        )
    collection, cache = out / "collection", out / "cache"
    _prepare(collection, cache, seed, say)
    truth = read_factors(collection / "annotations" / "test.json")
    evaluations = {}
    with _one_thread():
        for system in SYSTEM:
            evaluations[system] = _train_and_evaluate(system, out, cache, seed, say)
    captions = {
        system: dict(zip(found.keys, found.captions, strict=True))
        for system, found in evaluations.items()
    }
    return Demo(
        out=out,
        scores={system: found.scores.corpus for system, found in evaluations.items()},
        accuracy={
            system: {**caption_accuracy(texts, truth), "distinct": len(set(texts.values()))}
            for system, texts in captions.items()
        },
        examples={
            str(collection / "images" / key): {system: captions[system][key] for system in SYSTEM}
            for key in sorted(truth)[:EXAMPLES]
        },
    )


def _prepare(collection: Path, cache: Path, seed: int, say: Callable[[str], None]) -> None:
    """Generate the images, and extract their features."""
    say(f"generating {IMAGES} images of shapes")
    generate_shapes(collection, images=IMAGES, seed=seed, size=PIXELS)
    for split in ("train", "val", "test"):
        say(f"preprocess {split}: captions and features of an untrained ResNet-18")
        preprocess(
            PreprocessOptions(
                annotations=collection / "annotations" / f"{split}.json",
                images=collection / "images",
                cache=cache,
                **FEATURES,
            )
        )


def _train_and_evaluate(
    system: str, out: Path, cache: Path, seed: int, say: Callable[[str], None]
) -> Evaluation:
    say(f"train {system}")
    run = out / "runs" / system
    options = TrainOptions(
        system=system, cache=cache, run=run, seed=seed, **TRAINING, **SYSTEM[system]
    )
    trained = train(options)
    if trained.stopped:
        raise PipelineError(
            f"stopped by {trained.stopped}", hint=f"remove {out} and run the demo again"
        )
    say(f"evaluate {system}")
    return evaluate(EvaluateOptions(run, cache, "test"))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread, which gives the same numbers on any number of cores.

    Networks this small gain nothing from a second thread, and lose much by waiting for it on a
    busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
