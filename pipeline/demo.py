"""All of it on generated images: from nothing to three systems, compared."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from multispace.data.shapes import caption_accuracy, generate_shapes, read_factors
from multispace.errors import OptionError, PipelineError
from multispace.pipeline.evaluate import EvaluateOptions, evaluate
from multispace.pipeline.preprocess import PreprocessOptions, preprocess
from multispace.pipeline.train import train
from multispace.pipeline.training.train_options import TrainOptions

IMAGES = 2000
PIXELS = 96
EXAMPLES = 3
# Chosen by measurement: untrained ResNet-18 features of images this small carry colour and
# shape well enough (docs/results.md), and the whole takes minutes on two cores.
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
    """What the demo found on the test images."""

    scores: dict[str, dict[str, float]]
    accuracy: dict[str, dict[str, float]]
    examples: dict[str, dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def demo(out: Path, seed: int, say: Callable[[str], None]) -> Demo:
    """Generate a collection under ``out``, make its cache, train and evaluate every system.

    :param say: takes a line about each step
    :raises OptionError: ``out`` is there already.
    """
    if out.exists() and any(out.iterdir()):
        raise OptionError(f"--out {out}: not empty; choose another folder, or remove it first")
    collection, cache = out / "collection", out / "cache"
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
    truth = read_factors(collection / "annotations" / "test.json")
    scores, accuracy, said = {}, {}, {}
    with _one_thread():
        for system in SYSTEM:
            say(f"train {system}")
            run = out / "runs" / system
            trained = train(
                TrainOptions(
                    system=system,
                    cache=cache,
                    run=run,
                    seed=seed,
                    **TRAINING,
                    **SYSTEM[system],
                )
            )
            if trained.stopped:
                raise PipelineError(f"stopped by {trained.stopped}; remove {out} and run it again")
            say(f"evaluate {system}")
            result = evaluate(EvaluateOptions(run, cache, "test"))
            said[system] = dict(zip(result.keys, result.captions, strict=True))
            scores[system] = result.scores.corpus
            right = caption_accuracy(said[system], truth)
            accuracy[system] = {**right, "distinct": len(set(result.captions))}
    shown = sorted(truth)[:EXAMPLES]
    examples = {
        str(collection / "images" / key): {system: said[system][key] for system in SYSTEM}
        for key in shown
    }
    return Demo(scores, accuracy, examples)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread, which gives the same numbers whatever the number of cores.

    Networks this small gain nothing from a second thread, and lose much by waiting for one where
    the machine is busy.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
