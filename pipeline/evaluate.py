"""Caption a split with a run's system, score the captions, and look at its latent space."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from multispace.data.batches import Pairs, load_pairs
from multispace.data.cache.reader import Cache
from multispace.data.files import write_json
from multispace.errors import OptionError
from multispace.model.device import choose_device
from multispace.pipeline.inference.decoding import caption_features
from multispace.pipeline.inference.split_posterior import posterior_of
from multispace.pipeline.metrics.captions.coco_metrics import Scores, score_captions
from multispace.pipeline.metrics.captions.diversity_report import diversity_of
from multispace.pipeline.metrics.captions.registry import METRICS, check_metrics
from multispace.pipeline.metrics.content.mentions import attributes_of, composition_of
from multispace.pipeline.metrics.latents.factors import read_factors, score_factors
from multispace.pipeline.metrics.latents.latent_report import latent_report
from multispace.pipeline.runs.evaluation_folder import (
    DIVERSITY,
    RECORD,
    Record,
    digest_references,
    evaluation_folder,
)
from multispace.pipeline.runs.run_folder import Run, load_run
from multispace.pipeline.score import results_format, write_scores
from multispace.pipeline.transfer import local_cache
from multispace.version import package_version

CAPTIONS = "captions.json"
LATENTS = "latents.json"
SAMPLES = "samples.json"
CONSENSUS = "consensus.json"
FACTORS = "disentanglement.json"
ATTRIBUTES = "attributes.json"
COMPOSITION = "composition.json"


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate` is asked for."""

    run: Path
    cache: Path | str  # a folder, or a URL
    split: str
    beam: int = 5
    length_penalty: float = 0.0
    samples: int = 0
    sample_meteor: bool = False
    importance_samples: int = 5
    metrics: Sequence[str] = METRICS
    checkpoint: str = "best"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_metrics(self.metrics)
        if self.beam < 1:
            raise OptionError(f"--beam {self.beam}: it must be at least 1")
        if self.samples < 0 or self.samples == 1:
            raise OptionError(f"--samples {self.samples}: it must be 0, or 2 or more to differ")
        if self.sample_meteor and not (self.samples and "meteor" in self.metrics):
            raise OptionError("--sample-meteor: it needs --samples, and meteor in --metrics")
        if self.importance_samples < 0:
            raise OptionError(
                f"--importance-samples {self.importance_samples}: it must be 0 or more"
            )


@dataclass(frozen=True)
class Evaluation:
    """What a system does on a split. ``captions`` are in the order of the images."""

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
    diversity: dict[str, Any]
    latents: dict[str, Any]
    disentanglement: dict[str, Any] | None  # where the split states factors
    attributes: dict[str, Any]
    composition: dict[str, Any] | None  # None where the cache holds nothing out

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
            "distinct_captions": self.diversity["captions"]["distinct"],
            "scores": self.scores.corpus,
            "notes": list(self.scores.notes),
            "diversity": {k: v for k, v in self.diversity.items() if k != "per_image"},
            "latents": self.latents,
            "disentanglement": self.disentanglement,
            "attributes": self.attributes,
            "composition": self.composition,
            "folder": str(self.folder),
        }


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Caption and score every image of a split that has a vector.

    Writes ``RUN/evaluation/SPLIT/``, or ``SPLIT-last/`` for the last checkpoint:
    ``captions.json`` (COCO results format), ``scores.json``, ``per_image.json``,
    ``diversity.json``, ``latents.json``, ``disentanglement.json`` where the split states factors
    and the system has latents, ``attributes.json``, ``composition.json`` where training held out
    pairs that the split shows, where samples are asked for ``samples.json`` and
    ``consensus.json``, and at the end ``evaluation.json``, which says how they were made.

    :raises PipelineError: the run and the cache do not belong together, or scoring failed.
    """
    run = load_run(options.run, choose_device(options.device), options.checkpoint)
    if options.samples and run.system.options.system == "base":
        raise OptionError("--samples: base has no latent space to sample from")
    cache = Cache.open(local_cache(options.cache))
    run.check_cache(cache)
    pairs = load_pairs(cache, options.split)
    training = cache.captions(run.config["options"]["train_split"]).texts
    ids = [pairs.captions.image_ids[image] for image in pairs.images]
    every = pairs.captions.references()
    references = {image_id: every[image_id] for image_id in ids}
    folder = evaluation_folder(options.run, options.split, options.checkpoint)
    for stale in (RECORD, SAMPLES, CONSENSUS, FACTORS, COMPOSITION):
        (folder / stale).unlink(missing_ok=True)

    captions = caption_features(
        run.system,
        pairs.features,
        run.vocabulary,
        width=options.beam,
        length_penalty=options.length_penalty,
    )
    said = dict(zip(ids, captions, strict=True))
    write_json(folder / CAPTIONS, results_format(said))  # kept even where scoring fails
    samples = _samples(run, pairs.features, ids, options)
    if samples:
        write_json(folder / SAMPLES, [{"image_id": i, "captions": c} for i, c in samples.items()])
    latents = latent_report(
        run.system, pairs, run.vocabulary, samples=options.importance_samples, seed=options.seed
    )
    write_json(folder / LATENTS, latents)
    disentanglement = _disentanglement(run, pairs, options.seed)
    if disentanglement:
        write_json(folder / FACTORS, disentanglement)
    attributes = attributes_of(pairs, said)
    write_json(folder / ATTRIBUTES, attributes)
    composition = composition_of(
        run, pairs, samples, width=options.beam, length_penalty=options.length_penalty
    )
    if composition is not None:
        write_json(folder / COMPOSITION, composition)
    scores = score_captions(references, said, options.metrics)
    write_scores(folder, scores)
    within = [m for m in options.metrics if m != "meteor" or options.sample_meteor]
    diversity = diversity_of(said, samples, references, training, within)
    if samples:
        write_json(folder / CONSENSUS, results_format(diversity.consensus))
    write_json(folder / DIVERSITY, diversity.report)
    pictures_digest, references_digest = digest_references(references)
    Record(
        system=run.system.options.system,
        split=options.split,
        checkpoint=options.checkpoint,
        step=run.step,
        beam=options.beam,
        length_penalty=options.length_penalty,
        samples=options.samples,
        seed=options.seed,
        metrics=tuple(options.metrics),
        images=len(ids),
        without_vector=pairs.without_vector,
        pictures_digest=pictures_digest,
        references_digest=references_digest,
        vocabulary_digest=run.vocabulary.digest,
        fingerprint=cache.spec.fingerprint,
        version=package_version(),
    ).save(folder)
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
        diversity=diversity.report,
        latents=latents,
        disentanglement=disentanglement,
        attributes=attributes,
        composition=composition,
    )


def _samples(
    run: Run, features: torch.Tensor, ids: Sequence[int | str], options: EvaluateOptions
) -> dict[int | str, list[str]]:
    """Return N captions an image, each from its own draw of the posterior; none for N = 0."""
    torch.manual_seed(options.seed)
    draws = [
        caption_features(
            run.system,
            features,
            run.vocabulary,
            width=options.beam,
            length_penalty=options.length_penalty,
            latents="sample",
        )
        for _ in range(options.samples)
    ]
    return {i: list(c) for i, *c in zip(ids, *draws, strict=True)} if draws else {}


@torch.no_grad()
def _disentanglement(run: Run, pairs: Pairs, seed: int) -> dict[str, Any] | None:
    """Return what the latents tell of the split's factors, if both are there."""
    stated = pairs.captions.factors
    if stated is None or run.system.options.system == "base":
        return None
    pairs, posterior = posterior_of(run.system, pairs)
    factors = read_factors([stated[image] for image in pairs.images])
    return score_factors(posterior, factors, seed) if factors else None
