"""Train and evaluate the runs of docs/results.md, and print its tables.

    python benchmarks/results.py --cache CACHE --runs RUNS --set captions

`results.yaml` lists the runs of each set. What is already trained or evaluated is not done again,
so that the command continues where it was interrupted. The tables go to standard output; how long
each run took is in RUNS/SET/times.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measurement  # noqa: F401  makes the project importable
import numpy as np
import yaml

import multispace

PLAN = Path(__file__).with_name("results.yaml")
LATENT_ROWS = {  # of latents.json: the column, and where its number is
    "KL of z": ("z", "kl"),
    "KL of c": ("c", "kl"),
    "z shuffled": ("ablation", "shuffled", "z", "nats"),
    "c shuffled": ("ablation", "shuffled", "c", "nats"),
    "both shuffled": ("ablation", "shuffled", "both", "nats"),
}


@dataclass(frozen=True)
class Job:
    """One run: what to train, and how to evaluate it."""

    name: str
    folder: Path
    train: Sequence[str]
    evaluations: Sequence[Sequence[str]]

    @property
    def marker(self) -> Path:
        """The file that is written when all of it is done; it holds the seconds that it took."""
        return self.folder.with_name(f"{self.folder.name}.done.json")

    def run(self, environment: Mapping[str, str]) -> None:
        """Train and evaluate, unless it is done already.

        :raises SystemExit: a command fails; names its log.
        """
        if self.marker.exists():
            return
        began = time.monotonic()
        resume = ["--resume"] if (self.folder / "config.json").exists() else []
        self._call(["train", *self.train, *resume], environment)
        trained = time.monotonic()
        for options in self.evaluations:
            self._call(["evaluate", str(self.folder), *options], environment)
        seconds = {"train": trained - began, "evaluate": time.monotonic() - trained}
        self.marker.write_text(json.dumps(seconds))

    def _call(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        log = self.folder.with_name(f"{self.folder.name}.log")
        with log.open("a") as file:
            done = subprocess.run(
                [sys.executable, "-m", "multispace", *arguments],
                env=environment, stdout=file, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{self.name}: {arguments[0]} failed; see {log}")


def read_jobs(plan: Mapping[str, Any], args: argparse.Namespace) -> dict[str, list[Job]]:
    """Return the jobs of a set by the name of their system."""
    device = ["--device", args.device]
    jobs: dict[str, list[Job]] = {}
    for name, asked in plan["systems"].items():
        for seed in range(args.seeds or plan["seeds"]):
            folder = args.runs / args.set / f"{name}-{seed}"
            options = {**plan["train"], **asked["train"]}
            system = options.pop("system")
            where = {"cache": args.cache, "run": folder, "seed": seed}
            searches = asked.get("evaluations", [{}])
            usual = {**plan["evaluate"], **asked.get("evaluate", {}), "split": plan["split"]}
            jobs.setdefault(name, []).append(
                Job(
                    name,
                    folder,
                    [system, *flags({**options, **where}), *device],
                    [
                        [*flags({**usual, **search, "cache": args.cache}), *device]
                        for search in searches
                    ],
                )
            )
    return jobs


def flags(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield options as words of a command line."""
    for name, value in options.items():
        yield f"--{name}"
        if value is not True:
            yield str(value)


def run_jobs(jobs: Sequence[Job], count: int) -> None:
    """Run jobs, ``count`` of them at a time."""
    threads = max(1, (os.cpu_count() or 1) // count)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path])),
    }

    def run(job: Job) -> None:
        job.run(environment)
        print(f"done: {job.folder.name}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, jobs))


def print_tables(jobs: Mapping[str, Sequence[Job]], split: str) -> None:
    """Print the comparison of all systems, their latents, and what was held out."""
    runs = [job.folder for of_system in jobs.values() for job in of_system]
    print(multispace.compare(runs, split=split).render("markdown"))
    print(table("nats per caption", LATENT_ROWS, jobs, split, "latents.json"))
    held = {"recall of held-out pairs": ("mean_recall", "1")}
    print(table("unseen combinations", held, jobs, split, "composition.json"))
    seconds = {"training": ("train",), "evaluation": ("evaluate",)}
    print(table("seconds", seconds, jobs, split, None))


def table(
    title: str,
    columns: Mapping[str, Sequence[str]],
    jobs: Mapping[str, Sequence[Job]],
    split: str,
    name: str | None,
) -> str:
    """Return a Markdown table of numbers in JSON files: mean and std over the runs of a system.

    :param columns: by title, the keys that lead to the number
    :param name: the file in the evaluation; None for the times of the runs
    """
    lines = [f"| {title} | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    for system, of_system in jobs.items():
        documents = []
        for job in of_system:
            path = job.folder / "evaluation" / split / name if name else job.marker
            documents.append(json.loads(path.read_text()) if path.exists() else {})
        cells = [
            cell([find(document, keys) for document in documents]) for keys in columns.values()
        ]
        if any(text != "-" for text in cells):
            lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def find(document: Any, keys: Sequence[str]) -> float | None:
    """Return the number that the keys lead to, or None where there is none."""
    for key in keys:
        if not isinstance(document, dict) or key not in document:
            return None
        document = document[key]
    return document


def cell(values: Sequence[float | None]) -> str:
    """Return the mean with the std over the values that are there."""
    present = [value for value in values if value is not None]
    if not present:
        return "-"
    spread = f" ± {np.std(present, ddof=1):.2f}" if len(present) > 1 else ""
    return f"{np.mean(present):.2f}{spread}"


def main(argv: Sequence[str] | None = None) -> None:
    """Train and evaluate what is missing, then print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", type=Path, default=PLAN, help="the YAML file of runs")
    parser.add_argument("--set", default="captions", help="the set of runs in the plan")
    parser.add_argument("--cache", type=Path, required=True, help="the feature cache")
    parser.add_argument("--runs", type=Path, required=True, help="the folder for all runs")
    parser.add_argument("--seeds", type=int, help="fewer seeds than the plan has")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--device", default="auto", help="device of all runs")
    args = parser.parse_args(argv)
    plan = yaml.safe_load(args.plan.read_text())[args.set]
    jobs = read_jobs(plan, args)
    (args.runs / args.set).mkdir(parents=True, exist_ok=True)
    by_seed = [job for group in zip(*jobs.values(), strict=True) for job in group]
    run_jobs(by_seed, args.jobs)
    print_tables(jobs, plan["split"])


if __name__ == "__main__":
    main()
