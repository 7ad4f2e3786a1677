"""A run folder: what a training was asked for and all that is needed to use what came of it."""

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from multispace.data.cache.reader import Cache
from multispace.data.cache.spec import FeatureSpec
from multispace.data.cache.vocabulary import Vocabulary
from multispace.data.files import write_json
from multispace.errors import CheckpointError, PipelineError, VocabularyError
from multispace.model.options import SystemOptions
from multispace.model.systems import build
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.runs.checkpoint import load_checkpoint
from multispace.pipeline.training.train_options import TrainOptions
from multispace.version import package_version

CONFIG = "config.json"
VOCABULARY = "vocabulary.json"
LAST = "checkpoints/last"
BEST = "checkpoints/best"


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) training, ready to caption with."""

    folder: Path
    config: dict[str, Any]
    vocabulary: Vocabulary
    system: Captioner
    checkpoint: str
    step: int

    @property
    def spec(self) -> FeatureSpec:
        """How the vectors that it was trained on were made."""
        return FeatureSpec.from_json(self.config["feature_spec"], str(self.folder / CONFIG))

    def check_spec(self, spec: FeatureSpec, where: str) -> None:
        """Refuse vectors of another meaning.

        :raises PipelineError: names both fingerprints and the fields that differ.
        """
        own = self.spec
        if own.fingerprint != spec.fingerprint:
            raise PipelineError(
                f"{self.folder} was trained on features {own.fingerprint[:12]}, {where} has "
                f"{spec.fingerprint[:12]}: {'; '.join(own.differences(spec))}; use the same"
            )

    def check_cache(self, cache: Cache) -> None:
        """Refuse a cache whose vectors or words mean something else.

        :raises PipelineError: names both sides.
        """
        self.check_spec(cache.spec, str(cache.root))
        own, held = self.vocabulary.digest, cache.vocabulary().digest
        if own != held:
            raise PipelineError(
                f"{self.folder} was trained with vocabulary {own[:12]}, {cache.root} has "
                f"{held[:12]}; evaluate on the cache that it was trained from"
            )


def write_config(
    folder: Path,
    options: TrainOptions,
    cache: Cache,
    vocabulary: Vocabulary,
    system: Captioner,
    ranks: int,
) -> None:
    """Record what makes the run: every option, the versions, what it read.

    :param ranks: processes, each with ``options.batch_size`` captions a step
    """
    vocabulary.save(folder / VOCABULARY)
    versions = {n: metadata.version(n) for n in ("torch", "numpy")}
    write_json(
        folder / CONFIG,
        {
            "options": options.to_json(),
            "ranks": ranks,
            "system": system.options.to_json(),
            "parameters": sum(p.numel() for p in system.parameters()),
            "versions": {"multispace-captioning": package_version(), **versions},
            "feature_spec": cache.spec.to_json(),
            "fingerprint": cache.spec.fingerprint,
            "vocabulary_digest": vocabulary.digest,
        },
    )


def load_run(folder: Path, device: torch.device, checkpoint: str = "best") -> Run:
    """Open a run to use its system.

    :param checkpoint: ``best`` or ``last``
    :raises PipelineError: this is not a run folder, or it does not fit together.
    """
    config = read_run_config(folder)
    try:
        vocabulary = Vocabulary.load(folder / VOCABULARY)
    except VocabularyError as error:
        raise PipelineError(f"{error} (the run's copy; train again or restore it)") from error
    if vocabulary.digest != config["vocabulary_digest"]:
        raise PipelineError(
            f"{folder}: its vocabulary is {vocabulary.digest[:12]}, its config.json says "
            f"{str(config['vocabulary_digest'])[:12]}; restore the run"
        )
    system = build(SystemOptions.from_json(config["system"]))
    place = folder / (BEST if checkpoint == "best" else LAST)
    loaded = load_checkpoint(place)
    try:
        system.load_state_dict(loaded.weights if loaded.average is None else loaded.average)
    except RuntimeError as error:
        raise CheckpointError(f"{place}: its weights do not fit config.json ({error})") from error
    step = int(loaded.state.get("step", 0))
    return Run(folder, config, vocabulary, system.to(device).eval(), checkpoint, step)


def read_run_config(folder: Path) -> dict[str, Any]:
    """Return the ``config.json`` of a run.

    :raises PipelineError: it is missing or damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise PipelineError(f"{path}: not found; {folder} is not a run folder made by `train`")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise PipelineError(f"{path}: not JSON ({error}); restore the run") from error
    for needed in ("options", "system", "feature_spec", "fingerprint", "vocabulary_digest"):
        if not isinstance(config, dict) or needed not in config:
            raise PipelineError(f"{path}: lacks {needed!r}; restore the run")
    return config
