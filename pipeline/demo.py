"""Run the whole pipeline on generated images: from nothing to five systems, compared."""

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
from multispace.pipeline.preprocess import PreprocessOptions, preprocess
from multispace.pipeline.report import ReportOptions, report
from multispace.pipeline.reporting.contestants import sample_scores, single_scores
from multispace.pipeline.reporting.demo_tables import (
    answer_table,
    caption_table,
    latent_use_table,
    sample_table,
)
from multispace.pipeline.reporting.winners import NOTE, Answer, answers, latent_use
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
    "validate_every": 250,  # every second epoch
    "batch_size": 64,
    "learning_rate": 3e-3,
    "embedding": 128,
    "hidden": 128,
}
# Options of each system, the recommended one first. Those of the joint systems were chosen on the
# validation split among a few (docs/results.md).
_C: dict[str, Any] = {"categories": (8, 8, 8, 8), "scale_c": 0.5}
SYSTEMS: dict[str, dict[str, Any]] = {
    RECOMMENDED: {**_C, "capacity_c_max": 1.5},
    "joint": {**_C, "capacity_c_max": 3.0, "z_size": 128, "capacity_z_max": 150.0},
    "multispace": {},
    "latent": {"annealing_midpoint": 500, "annealing_slope": 0.0125},
    "base": {},
}
# Words of samples are drawn from `base` at these temperatures, which cover the quality of the
# samples of the other systems. Those draw their latents.
TEMPERATURES = (0.3, 0.5, 0.7, 1.0)
SCORES = ("bleu", "rouge", "cider")  # METEOR takes as long as the rest of an evaluation
RESAMPLES = 2000  # of the intervals of the page
OWN_IMAGES = (
    "The same with your own images, where captions.csv has the header image,caption:",
    "  multispace preprocess --annotations captions.csv --images photos --cache cache"
    " --make-splits 80,10,10",
    f"  multispace train {RECOMMENDED} --cache cache --run runs/{RECOMMENDED} --preset flickr8k",
    f"  multispace evaluate runs/{RECOMMENDED}",
    f"  multispace report runs/{RECOMMENDED} --images photos",
)
LAST = "latent (last)"  # the last checkpoint of `latent`, whose posterior has collapsed by then


@dataclass(frozen=True)
class Demo:
    """Result of `demo`.

    :param page: the report over all systems
    :param evaluations: by name; those of `latent` are of its best and of its last checkpoint
    :param answers: which system is best at what
    :param examples: captions of the first test images, by file and name
    """

    page: Path
    evaluations: dict[str, Evaluation]
    answers: tuple[Answer, ...]
    examples: dict[str, dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "evaluations": {name: found.to_json() for name, found in self.evaluations.items()},
            "answers": [answer.to_json() for answer in self.answers],
            "examples": self.examples,
            "page": str(self.page),
        }

    def render(self) -> str:
        """Return the tables and examples, and who wins what."""
        tables = (caption_table, sample_table, latent_use_table)
        blocks = [table(self.evaluations) for table in tables]
        blocks += [
            "\n".join([file, *(f"  {name:15}{text}" for name, text in captions.items())])
            for file, captions in self.examples.items()
        ]
        blocks += [answer_table(self.answers), f"The page to look at: {self.page}"]
        blocks.append("\n".join(OWN_IMAGES))
        return "\n\n".join(blocks)

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
    evaluations: dict[str, Evaluation] = {}
    with _one_thread():
        for system in SYSTEMS:
            run = _train(system, out, cache, seed, say)
            say(f"evaluate {system}")
            evaluations |= _evaluate(system, run, cache)
    say("report")
    page = _report(out, cache)
    return Demo(page, evaluations, _answers(evaluations, cache), _examples(evaluations, out))


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


def _evaluate(system: str, run: Path, cache: Path) -> dict[str, Evaluation]:
    """Return the evaluations of a run by name: draws of the latents, or of the words of `base`."""
    asked = EvaluateOptions(
        run,
        cache,
        SPLIT,
        samples=SAMPLES,
        temperature=TEMPERATURES[0] if system == "base" else 0.0,
        curve=TEMPERATURES if system == "base" else (0.0,),
        importance_samples=0,
        disentanglement=False,
        metrics=SCORES,
    )
    found = {system: evaluate(asked)}
    if system == "latent":
        found[LAST] = evaluate(replace(asked, checkpoint="last"))
    return found


def _report(out: Path, cache: Path) -> Path:
    """Write the page over all systems, and return where it is."""
    asked = ReportOptions(
        tuple(out / "runs" / system for system in SYSTEMS),
        out / "report.html",
        images=out / "collection" / "images",
        cache=cache,
        resamples=RESAMPLES,
        reference_temperature=TEMPERATURES[1],
    )
    return report(asked).out


def _answers(evaluations: Mapping[str, Evaluation], cache: Path) -> tuple[Answer, ...]:
    captions = Cache.open(cache).captions(SPLIT)
    factors = dict(zip(captions.image_ids, captions.factors or (), strict=True))
    every = {name: single_scores(name, found, factors) for name, found in evaluations.items()}
    # Each system competes with its best checkpoint.
    single = [every[system] for system in SYSTEMS]
    sampled = [row for system in SYSTEMS for row in sample_scores(system, evaluations[system])]
    return (*answers(single, sampled), *latent_use(every.values()))


def _examples(evaluations: Mapping[str, Evaluation], out: Path) -> dict[str, dict[str, str]]:
    """Return the captions of the first images, by the path of the image and the name."""
    keys = sorted(evaluations[RECOMMENDED].keys)[:EXAMPLES]
    return {
        str(out / "collection" / "images" / key): {
            name: found.captions[found.keys.index(key)] for name, found in evaluations.items()
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
