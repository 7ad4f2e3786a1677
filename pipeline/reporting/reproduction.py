"""How evaluated runs were made, and the commands that reproduce them."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from multispace.fields import default_of, option_words, shown_value
from multispace.model.options import is_used
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.reporting.export_tables import Table
from multispace.pipeline.runs.evaluation_folder import Request
from multispace.pipeline.runs.groups import INCIDENTAL, EvaluatedRun
from multispace.pipeline.runs.run_folder import read_run_config
from multispace.version import SOFTWARE

CACHE = "CACHE"  # stands for the place of the cache, which every reader has elsewhere
DIGITS = 12  # of a digest in a table; the lines below the table have all of it

Groups = Mapping[str, Sequence[EvaluatedRun]]


def options_table(groups: Groups) -> tuple[Table, list[str]]:
    """Return a table of the options that differ, a column per group, and the others as words."""
    every = [members[0].options for members in groups.values()]
    rows, shared = [], []
    for name in dict.fromkeys(name for options in every for name in options):
        values = [_shown(options.get(name)) for options in every]
        if len(set(values)) > 1:
            rows.append([name, *values])
        else:
            shared.append(f"{name} {values[0]}")
    return Table("options that differ", ("", *groups), rows), shared


def data_line(groups: Groups) -> list[str]:
    """Return the caches that the runs were trained on, and the networks of their features."""
    caches: dict[str, None] = {}
    networks: dict[str, None] = {}
    for run in (run for members in groups.values() for run in members):
        config = read_run_config(run.folder)
        spec = config["feature_spec"]
        network = str(spec.get("architecture", "of a network that is not recorded"))
        weights = f", weights {spec['weights']}" if spec.get("weights") else ""
        cache = config["options"].get("cache")
        caches[f"dataset {_dataset(str(cache)) if cache else 'not recorded'}"] = None
        networks[f"features {network}{weights}"] = None
    return [*caches, *networks]


def _dataset(cache: str) -> str:
    """Return the name of a cache or, where it has none of its own, of the folder around it."""
    names = [part for part in cache.split("/") if part] or [cache]
    return names[-2] if len(names) > 1 and names[-1] == "cache" else names[-1]


def runs_table(groups: Groups) -> tuple[Table, list[str]]:
    """Return a table with a row per run, and lines with the digests and versions in full."""
    head = ("run", "group", "seed", "checkpoint", "step", "parameters", "features", "vocabulary")
    rows, lines = [], []
    for name, members in groups.items():
        for run in members:
            config, record = read_run_config(run.folder), run.scored.record
            spec, versions = config["feature_spec"], config.get("versions", {})
            digests = record.fingerprint, record.vocabulary_digest
            rows.append([
                str(run.folder), name, str(run.seed), record.checkpoint, f"{record.step:,}",
                _shown(config.get("parameters")), *(digest[:DIGITS] for digest in digests),
            ])  # fmt: skip
            trained = ", ".join(f"{what} {version}" for what, version in versions.items())
            lines += [
                f"features {digests[0]} ({spec.get('architecture', 'network not recorded')})",
                f"vocabulary {digests[1]}",
                f"trained with {trained or 'versions that are not recorded'}",
                f"evaluated with {SOFTWARE} {record.version}",
            ]
    return Table("runs", head, rows), sorted(set(lines))


def commands(groups: Groups, *closing: Sequence[str]) -> list[str]:
    """Return the commands that train and evaluate the runs again, then those of ``closing``."""
    runs = [run for members in groups.values() for run in members]
    trained = {run.folder: train_command(run) for run in runs}  # once for both checkpoints
    return [*trained.values(), *map(evaluate_command, runs), *map(shlex.join, closing)]


def train_command(run: EvaluatedRun) -> str:
    """Return the command that trains a run again, with the options that are not the defaults."""
    config = read_run_config(run.folder)
    ranks = config.get("ranks", 1)
    start = ["torchrun", "--nproc-per-node", str(ranks), "--", "cli.py"] if ranks > 1 else None
    words = [*(start or ["multispace"]), "train", run.system]
    words += ["--run", str(run.folder), "--cache", CACHE]
    usual = {f.name: default_of(f, run.system) for f in fields(TrainOptions)}
    for name, value in config["options"].items():
        value = tuple(value) if isinstance(value, list) else value
        if name in INCIDENTAL or not is_used(name, run.system):
            continue
        if value is not None and value != usual.get(name):
            words += option_words(name, value)
    return shlex.join([*words, "--seed", str(run.seed)])


def evaluate_command(run: EvaluatedRun) -> str:
    """Return the command that evaluates a run again, with the options that are not the defaults."""
    record = run.scored.record
    words = ["multispace", "evaluate", str(run.folder), "--split", record.split]
    if record.checkpoint != Request.checkpoint:
        words += option_words("checkpoint", record.checkpoint)
    for name, value in record.changes().items():
        words += option_words(name, value)
    return shlex.join(words)


def _shown(value: Any) -> str:
    return "-" if value is None else shown_value(value)
