"""The folder of one evaluation: its name, its files, and the record of how it was made.

``RUN/evaluation/`` has a folder for each thing that was asked of ``evaluate``. The first
evaluation of a split is ``SPLIT/``, that of the last checkpoint ``SPLIT-last/``. One with other
options gets a folder of its own, whose name lists them: ``test,beam=1,samples=20/``. The default
options always get ``SPLIT/``; an evaluation with other options that is there moves to its own
name. A folder appears whole by a rename, and ``evaluation.json`` holds the SHA-256 of each of its
files.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from multispace.fields import shown_value
from multispace.pipeline.command_options.evaluate_options import EvaluateOptions
from multispace.pipeline.metrics.captions.metric_names import METRICS

EVALUATIONS = "evaluation"  # the folder of a run that holds its evaluations
RECORD = "evaluation.json"
CAPTIONS = "captions.json"
SAMPLES = "samples.json"
CONSENSUS = "consensus.json"
SCORES = "scores.json"
PER_IMAGE = "per_image.json"
DIVERSITY = "diversity.json"
SAMPLE_SCORES = "sample_scores.json"
CURVE = "diversity_curve.json"
LATENTS = "latents.json"
FACTORS = "disentanglement.json"
ATTRIBUTES = "attributes.json"
COMPOSITION = "composition.json"
FILES = (
    RECORD, CAPTIONS, SAMPLES, CONSENSUS, SCORES, PER_IMAGE, DIVERSITY, SAMPLE_SCORES, CURVE,
    LATENTS, FACTORS, ATTRIBUTES, COMPOSITION,
)  # fmt: skip

SIGNATURE = "signature"  # an entry of scores.json, beside the scores
REPLACED = ".replaced-"  # before the name of a folder that another is about to replace
NAMES_ON_DISK = {"images": "pictures"}  # names that differ in evaluation.json


@dataclass(frozen=True)
class Request:
    """What `evaluate` is asked for, which names the folder. The defaults are those of `evaluate`.

    :param single_caption: how the single caption of an image is made, if not as the run says
    :param samples: captions per image from draws of the latent
    :param temperature: of the words of samples; 0 searches with the beam
    :param top_p: probability of the words that samples are drawn from
    :param latent_temperature: of the latents of samples
    :param guidance: of the words of samples by their latents
    :param curve: further temperatures of samples, in ascending order
    :param curve_of: what has these temperatures, the words or the latents
    :param importance_samples: draws per caption of the importance-weighted likelihood
    :param disentanglement: whether the latents are compared with known factors
    :param seed: of all draws
    """

    split: str
    checkpoint: str = EvaluateOptions.checkpoint
    beam: int = EvaluateOptions.beam
    length_penalty: float = EvaluateOptions.length_penalty
    single_caption: str | None = EvaluateOptions.single_caption
    samples: int = EvaluateOptions.samples
    temperature: float = EvaluateOptions.temperature
    top_p: float = EvaluateOptions.top_p
    latent_temperature: float = EvaluateOptions.latent_temperature
    guidance: float = EvaluateOptions.guidance
    curve: tuple[float, ...] = EvaluateOptions.curve
    curve_of: str = EvaluateOptions.curve_of
    sample_meteor: bool = EvaluateOptions.sample_meteor
    importance_samples: int = EvaluateOptions.importance_samples
    disentanglement: bool = EvaluateOptions.disentanglement
    metrics: tuple[str, ...] = EvaluateOptions.metrics
    seed: int = EvaluateOptions.seed

    def changes(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, without split and checkpoint."""
        values = {f.name: getattr(self, f.name) for f in fields(Request)}
        values["metrics"] = tuple(m for m in METRICS if m in self.metrics)
        return {
            f.name: values[f.name]
            for f in fields(Request)
            if f.name not in ("split", "checkpoint") and values[f.name] != f.default
        }

    @property
    def folder_name(self) -> str:
        """The name of the folder: ``test``, or ``test-last,beam=1,metrics=bleu+cider``."""
        words = [base_name(self.split, self.checkpoint)]
        for name, value in self.changes().items():
            text = shown_value(value).replace(",", "+")
            option = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(option if value else f"no-{option}")
            else:
                words.append(f"{option}={text}")
        return ",".join(words)


@dataclass(frozen=True, kw_only=True)
class Record(Request):
    """How an evaluation was made and of what; the content of ``evaluation.json``."""

    system: str
    step: int
    images: int
    without_vector: int
    pictures_digest: str  # of the image ids
    references_digest: str  # of the image ids with their references
    vocabulary_digest: str
    fingerprint: str  # of the features
    version: str
    captions_from: str = "mode"  # how the single captions were made, by the run or by the request

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``evaluation.json``, without the digests of the files."""
        return {NAMES_ON_DISK.get(name, name): value for name, value in asdict(self).items()}


def base_name(split: str, checkpoint: str) -> str:
    """Return the name of the folder of the default evaluation of a checkpoint."""
    return split if checkpoint == "best" else f"{split}-{checkpoint}"


def digest_references(references: Mapping[int | str, Sequence[str]]) -> tuple[str, str]:
    """Return the SHA-256 of the image ids, and of the ids with their references.

    The order of the images makes no difference; that of an image's references does.
    """
    ids = sorted(references, key=str)
    content = ([str(i) for i in ids], [[str(i), list(references[i])] for i in ids])
    first, second = (hashlib.sha256(json.dumps(part).encode()).hexdigest() for part in content)
    return first, second
