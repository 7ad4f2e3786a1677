"""Export a trained model: one folder that can be passed on, without anything of this machine."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from multispace.data.files import atomic_folder, json_bytes, read_file
from multispace.errors import DataError, OptionError, PipelineError
from multispace.pipeline.command_options.compare_options import CompareOptions
from multispace.pipeline.command_options.export_options import ModelExportOptions
from multispace.pipeline.command_options.train_options import without_places
from multispace.pipeline.compare import compare_groups
from multispace.pipeline.inference.onnx_graphs import onnx_graphs
from multispace.pipeline.reporting.model_card import CardScores, CardText, model_card
from multispace.pipeline.runs.checkpoint import WEIGHTS, tensor_bytes
from multispace.pipeline.runs.evaluation_reader import EvaluationFiles, find_evaluations
from multispace.pipeline.runs.groups import read_run
from multispace.pipeline.runs.model_files import CARD, write_model
from multispace.pipeline.runs.run_folder import CONFIG, VOCABULARY, Run, load_run
from multispace.pipeline.runs.signature import evaluation_signature

MAX_NOTES = 1 << 20  # bytes


@dataclass(frozen=True)
class ExportedModel:
    """Result of `export`.

    :param digest: over all files, as ``model.json`` has it
    :param files: the size of each file in bytes
    :param evaluations: the folders of the evaluations whose scores are in the card
    :param notes: evaluations that were left out, one line each
    """

    out: Path
    digest: str
    files: Mapping[str, int]
    evaluations: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "out": str(self.out)}

    def render(self) -> str:
        """Return what was written, and how to use it."""
        scored = ", ".join(self.evaluations) or "none; run `multispace evaluate` before you export"
        return "\n".join(
            [
                f"written to {self.out}: {', '.join(self.files)}; "
                f"{sum(self.files.values()) / 1e6:.1f} MB",
                f"evaluations in the card: {scored}",
                f"digest sha256:{self.digest}",
                f"use it: multispace caption {shlex.quote(str(self.out))} image.jpg",
            ]
        )


def export(options: ModelExportOptions) -> ExportedModel:
    """Write a model's weights, options, vocabulary, feature spec and card to a new folder.

    The folder appears whole. It is used like a run folder, and it names no place of this machine.

    :raises OptionError: the folder exists, the notes cannot be read, or a package is missing.
    :raises PipelineError: the run or one of its evaluations is damaged, or its graphs caption
        otherwise under onnxruntime.
    """
    if os.path.lexists(options.out):
        raise _exists(options.out)
    notes = _notes(options.notes)
    run = _published(load_run(options.run, torch.device("cpu"), options.checkpoint))
    evaluations, left_out = _evaluations(run)
    scores = [_scores(files, options.resamples) for files in evaluations]
    stated = CardText(
        options.name or options.out.absolute().name,
        options.license or "unknown",
        options.datasets,
        notes,
    )
    graphs = onnx_graphs(run) if options.format == "onnx" else {}
    contents = {
        CARD: model_card(run, stated, scores, list(graphs)).encode("utf-8", "replace"),
        CONFIG: json_bytes(run.config),
        VOCABULARY: run.vocabulary.to_bytes(),
        WEIGHTS: tensor_bytes(run.system.state_dict()),
        **graphs,
    }
    try:
        with atomic_folder(options.out) as folder:
            manifest = write_model(folder, contents, run.checkpoint, run.step)
    except FileExistsError as error:
        raise _exists(options.out) from error
    except OSError as error:
        raise PipelineError(
            f"not written ({error.strerror})",
            where=options.out,
            hint="make room, or choose another folder",
        ) from error
    return ExportedModel(
        out=options.out,
        digest=manifest.digest,
        files={name: len(content) for name, content in contents.items()},
        evaluations=tuple(files.folder.name for files in evaluations),
        notes=tuple(left_out),
    )


def _exists(out: Path) -> OptionError:
    return OptionError("is there already", where=f"--out {out}", hint="choose a new folder")


def _notes(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return read_file(path, MAX_NOTES).decode()
    except DataError as error:
        raise OptionError(error.what, where=f"--notes {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise OptionError(f"cannot be read ({reason})", where=f"--notes {path}") from error


def _published(run: Run) -> Run:
    """Return the run with a ``config`` that names no place of this machine."""
    options = without_places(run.config["options"])
    spec = run.spec.without_folder().to_json()
    return replace(run, config={**run.config, "options": options, "feature_spec": spec})


def _evaluations(run: Run) -> tuple[list[EvaluationFiles], list[str]]:
    """Return the evaluations of the exported weights, and a line for each of other weights."""
    of_model, others = [], []
    for files in find_evaluations(run.folder, run.checkpoint):
        if files.record.step == run.step:
            of_model.append(files)
        else:
            others.append(
                f"left out: {files.folder} evaluates step {files.record.step}, the checkpoint is "
                f"that of step {run.step}"
            )
    return of_model, others


def _scores(files: EvaluationFiles, resamples: int) -> CardScores:
    """Return the scores of an evaluation with their intervals.

    :raises PipelineError: it is damaged.
    """
    record = files.record
    member = read_run(files.folder, record.split, record.checkpoint)
    asked = CompareOptions((files.folder,), record.split, record.checkpoint, resamples=resamples)
    section, *_ = compare_groups({member.system: [member]}, asked).sections
    return CardScores(
        title=f"{record.split}, {record.images} images",
        metrics=record.metrics,
        rows=[
            (name, f"{found.mean:.3f}", f"{found.low:.3f} to {found.high:.3f}")
            for name, found in section.groups[member.system].items()
        ],
        signature=str(evaluation_signature(record, member.seed)),
        resamples=resamples,
    )
