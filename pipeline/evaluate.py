"""Caption a split with a run's system, score the captions, and look at its latent space."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.atomic import write_json
from data.batches import load_pairs
from data.cache import Cache
from model.device import choose_device
from pipeline.captioning import caption_features
from pipeline.errors import OptionError
from pipeline.run import Run, load_run
from pipeline.score import write_scores
from pipeline.scores.coco import METRICS, Scores, check_metrics, score_captions
from pipeline.scores.latents import latent_summary
from pipeline.transfer import local_cache


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate` is asked for."""

    run: Path
    cache: Path | str  # a folder, or a URL
    split: str
    beam: int = 5
    length_penalty: float = 0.0
    samples: int = 0
    metrics: Sequence[str] = METRICS
    checkpoint: str = "best"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_metrics(self.metrics)
        if self.beam < 1:
            raise OptionError(f"--beam {self.beam}: it must be at least 1")
        if self.samples < 0:
            raise OptionError(f"--samples {self.samples}: it must be 0 or more")


@dataclass(frozen=True)
class Evaluation:
    """What a system does on a split. ``captions`` are in the order of the pictures."""

    run: str
    system: str
    split: str
    checkpoint: str
    step: int
    beam: int
    folder: Path
    keys: tuple[str, ...]
    captions: tuple[str, ...]
    without_vector: int
    scores: Scores
    latents: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return what the command prints: everything but the single captions."""
        return {
            "run": self.run,
            "system": self.system,
            "split": self.split,
            "checkpoint": self.checkpoint,
            "step": self.step,
            "beam": self.beam,
            "pictures": len(self.keys),
            "without_vector": self.without_vector,
            "distinct_captions": len(set(self.captions)),
            "scores": self.scores.corpus,
            "notes": list(self.scores.notes),
            "latents": self.latents,
            "folder": str(self.folder),
        }


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Caption and score every picture of a split that has a vector.

    Writes ``RUN/evaluation/SPLIT/``: ``captions.json`` (COCO results format), ``scores.json``,
    ``per_image.json``, ``latents.json``, and ``samples.json`` where samples are asked for.

    :raises PipelineError: the run and the cache do not belong together, or scoring failed.
    """
    run = load_run(options.run, choose_device(options.device), options.checkpoint)
    if options.samples and run.system.options.system == "base":
        raise OptionError("--samples: base has no latent space to sample from")
    cache = Cache.open(local_cache(options.cache))
    run.check_cache(cache)
    pairs = load_pairs(cache, options.split)
    ids = [pairs.captions.image_ids[picture] for picture in pairs.pictures]
    folder = options.run / "evaluation" / options.split

    captions = caption_features(
        run.system,
        pairs.features,
        run.vocabulary,
        width=options.beam,
        length_penalty=options.length_penalty,
    )
    results = [{"image_id": i, "caption": c} for i, c in zip(ids, captions, strict=True)]
    write_json(folder / "captions.json", results)  # kept even where scoring fails
    if options.samples:
        write_json(folder / "samples.json", _samples(run, pairs.features, ids, options))
    latents = _latents(run, pairs.features)
    write_json(folder / "latents.json", latents)
    said = dict(zip(ids, captions, strict=True))
    scores = score_captions(pairs.captions.references(), said, options.metrics)
    write_scores(folder, scores)
    return Evaluation(
        run=str(options.run),
        system=run.system.options.system,
        split=options.split,
        checkpoint=options.checkpoint,
        step=run.step,
        beam=options.beam,
        folder=folder,
        keys=tuple(pairs.keys),
        captions=tuple(captions),
        without_vector=pairs.without_vector,
        scores=scores,
        latents=latents,
    )


def _samples(
    run: Run, features: torch.Tensor, ids: Sequence[int | str], options: EvaluateOptions
) -> list[dict[str, Any]]:
    """Return N captions a picture, each from its own draw of the posterior."""
    torch.manual_seed(options.seed)
    draws = [
        caption_features(run.system, features, run.vocabulary, width=options.beam, sample=True)
        for _ in range(options.samples)
    ]
    return [{"image_id": i, "captions": list(c)} for i, *c in zip(ids, *draws, strict=True)]


@torch.no_grad()
def _latents(run: Run, features: torch.Tensor) -> dict[str, Any]:
    return latent_summary(run.system.posterior(features.to(run.system.feature_mean.device)))
