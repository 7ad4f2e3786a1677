"""A run folder: the record of a training, and all that is needed to use its model.

An exported model (:mod:`multispace.pipeline.runs.model_files`) is a run folder without what only
training needs: it is loaded, and evaluations are written to it, like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.cache.reader import Cache
from multispace.data.captions.vocabulary import Vocabulary
from multispace.data.documents import (
    Boolean,
    DocumentFormat,
    Either,
    Integer,
    Kind,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Object,
    Text,
)
from multispace.data.files import write_json
from multispace.errors import ModelError, PipelineError, VocabularyError
from multispace.model.options import SystemOptions
from multispace.model.systems import build
from multispace.model.systems.captioner import Captioner
from multispace.model.systems.shapes import tensor_shapes
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.runs.checkpoint import (
    AVERAGE,
    WEIGHTS,
    load_checkpoint,
    parse_tensors,
)
from multispace.pipeline.runs.model_files import HINT, ModelFiles, is_model
from multispace.pipeline.runs.tensor_checks import check_tensors
from multispace.version import SOFTWARE, package_version

CONFIG = "config.json"
VOCABULARY = "vocabulary.json"
LAST = "checkpoints/last"
BEST = "checkpoints/best"


# Sizes far above any real model: a config from anywhere must not exhaust memory.
_SIZE = Integer(min=1, max=1 << 20)
_SIZES: dict[str, Kind] = {
    **dict.fromkeys(("embedding", "hidden", "z_size", "clusters", "words", "feature_size"), _SIZE),
    "layers": Integer(min=1, max=100),
    "categories": ListOf(Integer(min=2, max=1 << 20), min_items=1, max_items=1 << 10),
}
_OF_TYPE: dict[Any, Kind] = {
    int: Integer(),
    float: Number(),
    bool: Boolean(),
    str: Text(max_length=100),
    int | None: Nullable(Integer()),
    float | None: Nullable(Number()),
}
_SYSTEM = {f.name: _SIZES.get(f.name) or _OF_TYPE[f.type] for f in fields(SystemOptions)}
# An option in a JSON file.
OPTION_VALUE = Nullable(
    Either((Boolean(), Number(), Text(max_length=5000), ListOf(Number(), max_items=1 << 12)))
)
_DIGEST = Text(pattern="[0-9a-f]{64}")
CONFIG_FORMAT = DocumentFormat(
    Object(
        {
            "options": MapOf(OPTION_VALUE, max_items=1000),
            "system": Object(optional=_SYSTEM),
            "feature_spec": Object(others=Kind()),  # FeatureSpec.from_json checks it
            "fingerprint": _DIGEST,
            "vocabulary_digest": _DIGEST,
        },
        {
            "ranks": Integer(min=1, max=1 << 20),
            "parameters": Integer(min=0),
            "versions": MapOf(Text(max_length=200), max_items=100),
        },
    ),
    error=PipelineError,
    hint="restore the run",
    max_bytes=1 << 20,
    max_depth=8,
)


@dataclass(frozen=True)
class Run:
    """A trained captioner, with the vocabulary and the record of its training.

    :param config: the content of ``config.json``
    :param checkpoint: ``best`` or ``last``
    :param step: the optimizer step of the checkpoint
    """

    folder: Path
    config: dict[str, Any]
    vocabulary: Vocabulary
    system: Captioner
    checkpoint: str
    step: int

    @property
    def spec(self) -> FeatureSpec:
        """How the features that it was trained on were made."""
        return FeatureSpec.from_json(self.config["feature_spec"], str(self.folder / CONFIG))

    def check_spec(self, spec: FeatureSpec, where: str) -> None:
        """Check that features mean what those of the training mean.

        :param where: the cache or file of ``spec``, for the message
        :raises PipelineError: they do not; names both fingerprints and the fields that differ.
        """
        own = self.spec
        if own.fingerprint != spec.fingerprint:
            raise PipelineError(
                f"was trained on features {own.fingerprint[:12]}, {where} has "
                f"{spec.fingerprint[:12]}: {'; '.join(own.differences(spec))}",
                where=self.folder,
                hint="use the same features",
            )

    def check_cache(self, cache: Cache) -> None:
        """Check that the features and words of a cache mean what those of the training mean.

        :raises PipelineError: they do not; names both sides.
        """
        self.check_spec(cache.spec, str(cache.root))
        own, other = self.vocabulary.digest, cache.vocabulary().digest
        if own != other:
            raise PipelineError(
                f"was trained with vocabulary {own[:12]}, {cache.root} has {other[:12]}",
                where=self.folder,
                hint="use the cache that it was trained from",
            )


def write_config(
    folder: Path,
    options: TrainOptions,
    cache: Cache,
    vocabulary: Vocabulary,
    system: Captioner,
    processes: int,
) -> None:
    """Write the record of a training: its options, the versions, and what it was trained from.

    :param processes: how many train together, each with ``options.batch_size`` captions a step
    :raises PipelineError: a file cannot be written; names it.
    """
    versions = {n: metadata.version(n) for n in ("torch", "numpy")}
    config = {
        "options": options.to_json(),
        "ranks": processes,
        "system": system.options.to_json(),
        "parameters": sum(p.numel() for p in system.parameters()),
        "versions": {SOFTWARE: package_version(), **versions},
        "feature_spec": cache.spec.to_json(),
        "fingerprint": cache.spec.fingerprint,
        "vocabulary_digest": vocabulary.digest,
    }
    path = folder / VOCABULARY
    try:
        vocabulary.save(path)
        path = folder / CONFIG
        write_json(path, config)
    except OSError as error:
        raise PipelineError(
            f"not written ({error.strerror}); no training has begun",
            where=path,
            hint="make room and run the same command again",
        ) from error


def load_run(folder: Path, device: torch.device, checkpoint: str = "best") -> Run:
    """Load a run, or an exported model, to use it.

    :param checkpoint: ``best`` or ``last``; an exported model has one checkpoint, which is used
        for ``best``
    :raises PipelineError: this is not a run folder, or its files do not belong together.
    :raises CheckpointError: the checkpoint is missing, damaged, or does not fit the model.
    """
    if is_model(folder):
        return _load_model(ModelFiles.open(folder), device, checkpoint)
    config = read_run_config(folder)
    try:
        vocabulary = Vocabulary.load(folder / VOCABULARY)
    except VocabularyError as error:
        raise PipelineError(
            f"{error.what} (the run's own copy)",
            where=error.where,
            hint="restore the file, or train again",
        ) from error
    _check_vocabulary(vocabulary, config, folder)
    place = folder / (BEST if checkpoint == "best" else LAST)
    loaded = load_checkpoint(place)
    file = WEIGHTS if loaded.average is None else AVERAGE
    tensors = loaded.weights if loaded.average is None else loaded.average
    system = _build_checked(config["system"], tensors, folder, place / file)
    step = loaded.state.get("step", 0)
    return Run(folder, config, vocabulary, system.to(device).eval(), checkpoint, step)


def _load_model(files: ModelFiles, device: torch.device, checkpoint: str) -> Run:
    """Load an exported model, of which every file is checked.

    :raises PipelineError: a file is missing or was changed, or the other checkpoint is wanted.
    """
    folder, manifest = files.folder, files.manifest
    if checkpoint not in ("best", manifest.checkpoint):
        raise PipelineError(
            f"an exported model, of the {manifest.checkpoint} checkpoint",
            where=folder,
            hint=f"leave out --checkpoint {checkpoint}, or use the run that it was exported from",
        )
    files.check(besides=(CONFIG, VOCABULARY, WEIGHTS))
    config = CONFIG_FORMAT.parse_json(files.read(CONFIG), folder / CONFIG)
    try:
        vocabulary = Vocabulary.parse(files.read(VOCABULARY), folder / VOCABULARY)
    except VocabularyError as error:
        raise PipelineError(error.what, where=error.where, hint=HINT) from error
    _check_vocabulary(vocabulary, config, folder)
    path = folder / WEIGHTS
    tensors = parse_tensors(files.read(WEIGHTS), path)
    system = _build_checked(config["system"], tensors, folder, path).to(device).eval()
    return Run(folder, config, vocabulary, system, manifest.checkpoint, manifest.step)


def _check_vocabulary(vocabulary: Vocabulary, config: dict[str, Any], folder: Path) -> None:
    if not vocabulary.has_digest(config["vocabulary_digest"]):
        raise PipelineError(
            f"its vocabulary is {vocabulary.digest[:12]}, its {CONFIG} says "
            f"{config['vocabulary_digest'][:12]}",
            where=folder,
            hint="restore the run",
        )


def _build_checked(
    options: dict[str, Any], tensors: Mapping[str, Tensor], folder: Path, path: Path
) -> Captioner:
    """Return the model of a checkpoint, whose tensors are checked before it takes memory.

    :param path: the file of the tensors, for messages
    """
    try:
        built = SystemOptions.from_json(options)
        expected = tensor_shapes(built)
    except (ModelError, RuntimeError) as error:  # the latter where sizes multiply beyond 64 bits
        what = error.what if isinstance(error, ModelError) else "its sizes make no model"
        raise PipelineError(what, where=folder / CONFIG, hint="restore the run") from error
    check_tensors(tensors, expected, path)
    system = build(built)
    system.load_state_dict(tensors)
    return system


def read_run_config(folder: Path) -> dict[str, Any]:
    """Return the ``config.json`` of a run or of an exported model.

    :raises PipelineError: it is missing or damaged.
    """
    path = folder / CONFIG
    if is_model(folder):
        return CONFIG_FORMAT.parse_json(ModelFiles.open(folder).read(CONFIG), path)
    if not path.exists():
        raise PipelineError(
            "not found",
            where=path,
            hint=f"{folder} is not a run folder; `multispace train` makes one",
        )
    return CONFIG_FORMAT.read_json(path)
