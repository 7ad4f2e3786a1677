"""Caption a split with a run's system, score the captions, and examine the latent space."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from multispace.data.batches import Pairs
from multispace.data.caption_results import results_format
from multispace.data.files import json_bytes
from multispace.errors import PipelineError
from multispace.pipeline.command_options.evaluate_options import WORDS, EvaluateOptions
from multispace.pipeline.console.table import text_table
from multispace.pipeline.evaluation_inputs import EvaluationInputs
from multispace.pipeline.inference.split_posterior import posterior_of
from multispace.pipeline.metrics.captions.coco_metrics import Scores, scored_beside, scores_table
from multispace.pipeline.metrics.captions.metric import ImageId
from multispace.pipeline.metrics.content.attributes import attribute_table
from multispace.pipeline.metrics.content.combinations import composition_lines, composition_rows
from multispace.pipeline.metrics.content.mentions import attributes_of, composition_of
from multispace.pipeline.metrics.java import find_java
from multispace.pipeline.metrics.latents.factors import (
    factor_lines,
    factor_table,
    read_factors,
    score_factors,
)
from multispace.pipeline.metrics.latents.latent_report import (
    latent_lines,
    latent_report,
    latent_table,
)
from multispace.pipeline.metrics.samples.diversity_curve import NOTE as CURVE_NOTE
from multispace.pipeline.metrics.samples.diversity_curve import DiversityCurve, diversity_curve
from multispace.pipeline.metrics.samples.diversity_report import (
    Diversity,
    diversity_of,
    diversity_text,
)
from multispace.pipeline.runs.evaluation_folder import (
    ATTRIBUTES,
    CAPTIONS,
    COMPOSITION,
    CONSENSUS,
    CURVE,
    DIVERSITY,
    FACTORS,
    LATENTS,
    SAMPLE_SCORES,
    SAMPLES,
    Record,
    Request,
    digest_references,
)
from multispace.pipeline.runs.evaluation_writer import (
    curve_content,
    entries_content,
    scores_content,
    write_evaluation,
)
from multispace.pipeline.runs.run_folder import Run
from multispace.pipeline.runs.signature import evaluation_signature
from multispace.version import package_version


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`: captions of a split, their scores, and what the latents carry.

    ``captions`` are in the order of ``keys``. ``signature`` is a line to paste below a table of
    the scores.
    """

    run: str
    folder: Path
    record: Record
    keys: tuple[str, ...]
    captions: tuple[str, ...]
    scores: Scores
    signature: str
    diversity: dict[str, Any]
    curve: DiversityCurve | None  # None where no temperatures are given
    latents: dict[str, Any]
    disentanglement: dict[str, Any] | None  # None if not asked for, or the split has no factors
    attributes: dict[str, Any]
    composition: dict[str, Any] | None  # None where the cache holds nothing out

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation without what is reported per image."""
        return {
            "run": self.run,
            "system": self.record.system,
            "split": self.record.split,
            "checkpoint": self.record.checkpoint,
            "step": self.record.step,
            "beam": self.record.beam,
            "pictures": len(self.keys),
            "without_vector": self.record.without_vector,
            "distinct_captions": self.diversity["captions"]["distinct"],
            "scores": self.scores.corpus,
            "signature": self.signature,
            "notes": list(self.scores.notes),
            "diversity": {k: v for k, v in self.diversity.items() if k != "per_image"},
            "curve": self.curve and self.curve.to_json(),
            "latents": self.latents,
            "disentanglement": self.disentanglement,
            "attributes": {k: v for k, v in self.attributes.items() if k != "per_image"},
            "composition": self.composition,
            "folder": str(self.folder),
        }

    def render(self) -> str:
        """Return the tables of all that was measured."""
        return "\n".join(self._lines())

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the tables should know, one line each."""
        sampled = self.diversity["notes"] if "samples" in self.diversity else ()
        left = self.record.without_vector
        drawn = [CURVE_NOTE] if self.curve else []
        missing = [f"{left} images without a vector were left out"] if left else []
        return (*self.scores.notes, *sampled, *drawn, *missing)

    def _lines(self) -> Iterator[str]:
        record = self.record
        made = "" if record.captions_from == "mode" else f", captions from {record.captions_from}"
        yield (
            f"{record.system} ({record.checkpoint} checkpoint, step {record.step}) on "
            f"{len(self.keys)} images of {record.split!r}, beam {record.beam}{made}: "
            f"{self.diversity['captions']['distinct']} distinct captions"
        )
        yield scores_table({record.system: self.scores.corpus})
        yield f"signature: {self.signature}"
        yield diversity_text(self.diversity)
        if self.curve:
            yield self.curve.render()
        yield text_table(*attribute_table(self.attributes))
        if (found := self.composition) is not None:
            yield f"held-out pairs, recall over {found['k']} {found['captions']}:"
            yield text_table(*composition_rows(found))
            yield from composition_lines(found)
        head, rows = latent_table(self.latents)
        if rows:
            yield text_table(head, rows)
        yield from latent_lines(self.latents)
        if self.disentanglement:
            yield text_table(*factor_table(self.disentanglement))
            yield from factor_lines(self.disentanglement)
        yield f"written to {self.folder}"


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Caption and score every image of a split that has a vector.

    Writes a folder in ``RUN/evaluation/``, whole or not at all: ``SPLIT/``, or ``SPLIT-last/`` for
    the last checkpoint, or another folder if that one has an evaluation with other options; see
    :mod:`multispace.pipeline.runs.evaluation_folder`.

    :raises PipelineError: the run and the cache do not belong together, or scoring failed.
    """
    find_java()  # scoring comes last: do not decode for minutes to find that Java is missing
    inputs = EvaluationInputs.load(options)
    run, pairs = inputs.run, inputs.pairs
    search: dict[str, Any] = {"width": options.beam, "length_penalty": options.length_penalty}

    captions = inputs.captions()
    with scored_beside(inputs.references, captions, options.metrics) as scores_when_done:
        diversity = _diversity(inputs, captions, options)
        curve = _curve(inputs, options)
        latents = latent_report(
            run.system, pairs, run.vocabulary, samples=options.importance_samples, seed=options.seed
        )
        factors = _disentanglement(run, pairs, options.seed) if options.disentanglement else None
        attributes = attributes_of(pairs, captions)
        composition = composition_of(run.system, pairs, run.vocabulary, inputs.samples, **search)
        scores = scores_when_done()

    record = _record(inputs, options)
    contents = _contents(inputs, captions, diversity, latents, factors, attributes, composition)
    if curve:
        contents[CURVE] = curve_content(curve)
    signature = str(evaluation_signature(record, run.config["options"].get("seed")))
    contents |= scores_content(scores, signature)
    folder = write_evaluation(run.folder, record, contents)
    return Evaluation(
        run=str(run.folder),
        folder=folder,
        record=record,
        keys=tuple(pairs.keys),
        captions=tuple(captions.values()),
        scores=scores,
        signature=signature,
        diversity=diversity.report,
        curve=curve,
        latents=latents,
        disentanglement=factors,
        attributes=attributes,
        composition=composition,
    )


def _diversity(
    inputs: EvaluationInputs,
    captions: dict[ImageId, str],
    options: EvaluateOptions,
) -> Diversity:
    metrics = [m for m in options.metrics if m != "meteor" or options.sample_meteor]
    return diversity_of(captions, inputs.samples, inputs.references, inputs.training, metrics)


def _curve(inputs: EvaluationInputs, options: EvaluateOptions) -> DiversityCurve | None:
    """Return the curve over the temperatures that are asked for, if there are any."""
    if not options.curve:
        return None
    own = options.temperature if options.curve_of == WORDS else options.latent_temperature
    others = [temperature for temperature in options.curve if temperature != own]
    draws = inputs.samples_by_temperature(others, options.curve_of)
    if own in options.curve:
        draws[own] = inputs.samples
    return diversity_curve(draws, inputs.references, inputs.training)


@torch.no_grad()
def _disentanglement(run: Run, pairs: Pairs, seed: int) -> dict[str, Any] | None:
    """Return how the latents hold the factors of the split; None where either is missing."""
    stated = pairs.captions.factors
    if stated is None or run.system.options.system == "base":
        return None
    pairs, posterior = posterior_of(run.system, pairs)
    factors = read_factors([stated[image] for image in pairs.images])
    return score_factors(posterior, factors, seed) if factors else None


def _record(inputs: EvaluationInputs, options: EvaluateOptions) -> Record:
    pictures_digest, references_digest = digest_references(inputs.references)
    asked = {known.name: getattr(options, known.name) for known in fields(Request)}
    way = inputs.single_caption
    usual = way == inputs.run.system.options.single_caption
    asked |= {
        "metrics": tuple(options.metrics),
        "single_caption": None if usual else way,
        "checkpoint": inputs.run.checkpoint,  # the only one of an exported model
    }
    return Record(
        **asked,
        captions_from=way,
        system=inputs.run.system.options.system,
        step=inputs.run.step,
        images=len(inputs.ids),
        without_vector=inputs.pairs.without_vector,
        pictures_digest=pictures_digest,
        references_digest=references_digest,
        vocabulary_digest=inputs.run.vocabulary.digest,
        fingerprint=inputs.fingerprint,
        version=package_version(),
    )


def _contents(
    inputs: EvaluationInputs,
    captions: dict[ImageId, str],
    diversity: Diversity,
    latents: dict[str, Any],
    factors: dict[str, Any] | None,
    attributes: dict[str, Any],
    composition: dict[str, Any] | None,
) -> dict[str, bytes]:
    """Return the content of each file of the evaluation's folder but those of the scores."""
    drawn = [{"image_id": i, "captions": texts} for i, texts in inputs.samples.items()]
    names = dict(zip(inputs.ids, inputs.pairs.keys, strict=True))
    values = {
        CAPTIONS: results_format(captions, names),
        SAMPLES: drawn or None,
        CONSENSUS: results_format(diversity.consensus, names) or None,
        DIVERSITY: diversity.report,
        LATENTS: latents,
        FACTORS: factors,
        ATTRIBUTES: attributes,
        COMPOSITION: composition,
    }
    contents = {name: _json(name, value) for name, value in values.items() if value is not None}
    if diversity.sample_scores:
        contents[SAMPLE_SCORES] = entries_content(diversity.sample_scores)
    return contents


def _json(name: str, value: Any) -> bytes:
    try:
        return json_bytes(value)
    except ValueError as error:  # JSON has no NaN
        raise PipelineError(
            f"a number of {name} is not finite",
            hint="the weights are damaged or the training diverged; evaluate another checkpoint",
        ) from error
