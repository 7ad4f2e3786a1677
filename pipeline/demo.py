"""Run the whole pipeline on generated images: from nothing to four systems, compared."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from multispace.data.cache.reader import Cache
from multispace.data.shapes import generate_shapes
from multispace.errors import OptionError, PipelineError
from multispace.model.options import RECOMMENDED
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.evaluate import EvaluateOptions, Evaluation, evaluate
from multispace.pipeline.metrics.captions.metric_names import METRICS
from multispace.pipeline.preprocess import PreprocessOptions, preprocess
from multispace.pipeline.reporting.contestants import sample_scores, single_scores
from multispace.pipeline.reporting.demo_tables import (
    answer_table,
    caption_table,
    latent_use_table,
    sample_table,
)
from multispace.pipeline.reporting.winners import NOTE, Answer, answers
from multispace.pipeline.train import train

IMAGES = 2000
PIXELS = 96
SPLIT = "test"
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
    """Result of `demo`.

    :param single: evaluations of single captions and latents, by the name of the system
    :param sampled: evaluations of samples, by name; `base` at each temperature
    :param answers: which system is best at what
    :param examples: captions of the first test images, by file and name
    """

    out: Path
    single: dict[str, Evaluation]
    sampled: dict[str, Evaluation]
    answers: tuple[Answer, ...]
    examples: dict[str, dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "single": {name: found.to_json() for name, found in self.single.items()},
            "sampled": {name: found.to_json() for name, found in self.sampled.items()},
            "answers": [answer.to_json() for answer in self.answers],
            "examples": self.examples,
        }

    def render(self) -> str:
        """Return the tables and examples, and who wins what."""
        tables = [
            caption_table(self.single),
            sample_table(self.sampled),
            latent_use_table(self.single),
        ]
        tables += [
            "\n".join([file, *(f"  {name:22}{text}" for name, text in captions.items())])
            for file, captions in self.examples.items()
        ]
        tables += [answer_table(self.answers), f"everything is in {self.out}"]
        return "\n\n".join(tables)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the tables should know, one line each."""
        return (NOTE,)


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
    single: dict[str, Evaluation] = {}
    sampled: dict[str, Evaluation] = {}
    with _one_thread():
        for system in SYSTEMS:
            run = _train(system, out, cache, seed, say)
            say(f"evaluate {system}")
            for name, evaluation in _evaluations(system, run, cache):
                sampled[name] = evaluation
                single.setdefault(system if system == "base" else name, evaluation)
    return Demo(out, single, sampled, _answers(single, sampled, cache), _examples(single, out))


def _prepare(collection: Path, cache: Path, seed: int, say: Callable[[str], None]) -> None:
    """Generate the images, and extract their features."""
    say(f"generating {IMAGES} images of shapes")
    generate_shapes(collection, images=IMAGES, seed=seed, size=PIXELS)
    for split in ("train", "val", SPLIT):
        say(f"preprocess {split}: captions and features of an untrained ResNet-18")
        preprocess(
            PreprocessOptions(
                annotations=collection / "annotations" / f"{split}.json",
                images=collection / "images",
                cache=cache,
                **FEATURES,
            )
        )


def _train(system: str, out: Path, cache: Path, seed: int, say: Callable[[str], None]) -> Path:
    say(f"train {system}")
    run = out / "runs" / system
    options = TrainOptions(
        system=system, cache=cache, run=run, seed=seed, **TRAINING, **SYSTEMS[system]
    )
    trained = train(options)
    if trained.stopped:
        raise PipelineError(
            f"stopped by {trained.stopped}", hint=f"remove {out} and run the demo again"
        )
    return run


def _evaluations(system: str, run: Path, cache: Path) -> Iterator[tuple[str, Evaluation]]:
    """Yield the evaluations of a run by name: the first has the scores of all metrics."""
    options = EvaluateOptions(
        run, cache, SPLIT, samples=SAMPLES, importance_samples=0, disentanglement=False
    )
    if system == "base":
        for temperature in TEMPERATURES:
            metrics = METRICS if temperature == TEMPERATURES[0] else ("cider",)
            asked = replace(options, temperature=temperature, metrics=metrics)
            yield f"base at {temperature:g}", evaluate(asked)
        return
    yield system, evaluate(options)
    if system == "latent":
        yield "latent (last)", evaluate(replace(options, checkpoint="last"))


def _answers(
    single: Mapping[str, Evaluation], sampled: Mapping[str, Evaluation], cache: Path
) -> tuple[Answer, ...]:
    captions = Cache.open(cache).captions(SPLIT)
    references = captions.references()
    factors = dict(zip(captions.image_ids, captions.factors or (), strict=True))
    return tuple(
        answers(
            [single_scores(name, each, factors) for name, each in single.items()],
            [sample_scores(name, each, references) for name, each in sampled.items()],
        )
    )


def _examples(single: Mapping[str, Evaluation], out: Path) -> dict[str, dict[str, str]]:
    """Return the captions of the first images, by the path of the image and the system."""
    keys = sorted(single[RECOMMENDED].keys)[:EXAMPLES]
    return {
        str(out / "collection" / "images" / key): {
            name: each.captions[each.keys.index(key)] for name, each in single.items()
        }
        for key in keys
    }


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
