"""Train and evaluate the runs of docs/results.md, and print its tables.

    python benchmarks/results.py --cache CACHE --runs RUNS --set captions

`results.yaml` lists the runs of each set. What is already trained or evaluated is not done again,
so that the command continues where it was interrupted. The tables go to standard output, the
output of each run to a file beside its folder.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measurement  # noqa: F401  makes the project importable
import numpy as np
import yaml

PLAN = Path(__file__).with_name("results.yaml")
LATENTS = {  # columns of the table of latents: where each number is in latents.json
    "KL of z": ("z", "kl"),
    "KL of c": ("c", "kl"),
    "z shuffled": ("ablation", "shuffled", "z", "nats"),
    "c shuffled": ("ablation", "shuffled", "c", "nats"),
    "both shuffled": ("ablation", "shuffled", "both", "nats"),
}
LAST = {  # columns of the table of the validation after the last step
    "CIDEr of its captions": ("cider",),
    "reconstruction": ("recon",),
    "KL of z": ("kl_z",),
    "KL of c": ("kl_c",),
    "z shuffled": ("shuffled_z",),
    "c shuffled": ("shuffled_c",),
    "both shuffled": ("shuffled_both",),
}
HELD_OUT = {  # of composition.json
    "recall in 5 samples": ("mean_recall_of_first", "5"),
    "in 20": ("mean_recall_of_first", "20"),
}
SECONDS = {"training": ("train",), "evaluation": ("evaluate",)}  # of the times of the runs


@dataclass(frozen=True)
class Job:
    """Commands that make one folder, in order. A file beside it says that they are done."""

    folder: Path
    train: Sequence[str]
    evaluations: Sequence[Sequence[str]] = ()

    @property
    def done(self) -> Path:
        """The file that is written at the end; it holds the seconds that the commands took."""
        return self.folder.with_name(f"{self.folder.name}.done.json")

    def run(self, environment: Mapping[str, str]) -> None:
        """Run the commands, unless they are done already.

        :raises SystemExit: a command fails; names its log.
        """
        if self.done.exists():
            return
        began = time.monotonic()
        resume = ["--resume"] if (self.folder / "config.json").exists() else []
        self._call([*self.train, *resume], environment)
        trained = time.monotonic()
        for arguments in self.evaluations:
            self._call(arguments, environment)
        seconds = {"train": trained - began, "evaluate": time.monotonic() - trained}
        self.done.write_text(json.dumps(seconds))
        print(f"done: {self.folder}", file=sys.stderr, flush=True)

    def _call(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        log = self.folder.with_name(f"{self.folder.name}.log")
        with log.open("a") as file:
            print("multispace", *arguments, file=file, flush=True)
            result = subprocess.run(
                [sys.executable, "-m", "multispace", *arguments],
                env=environment, stdout=file, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        if result.returncode:
            raise SystemExit(f"multispace {arguments[0]} failed; see {log}")


@dataclass(frozen=True)
class Experiments:
    """A set of runs.

    :param plan: the set in the YAML file
    :param folder: of its runs
    """

    plan: Mapping[str, Any]
    folder: Path
    cache: Path
    device: str
    seeds: int

    @property
    def split(self) -> str:
        """The split that all runs are evaluated on."""
        return str(self.plan["evaluate"]["split"])

    def searches(self) -> list[Job]:
        """Return the searches for the options of each system, if there are any."""
        if "tune" not in self.plan:
            return []
        fixed = ("batch-size", "hidden", "embedding", "precision")
        given = {name: self.plan["train"][name] for name in fixed}
        first = {k: v for k, v in self.plan["train"].items() if k not in (*fixed, "steps")}
        jobs = []
        for name, asked in self.plan["systems"].items():
            start = self.folder / "tune" / f"{name}-first.yaml"
            start.parent.mkdir(parents=True, exist_ok=True)
            start.write_text(yaml.safe_dump({k.replace("-", "_"): v for k, v in first.items()}))
            options = {**self.plan["tune"], **given, "config": start, "cache": self.cache}
            run = self.folder / "tune" / name
            words = flags({**options, "run": run, "device": self.device})
            jobs.append(Job(run, ["tune", asked["system"], *words]))
        return jobs

    def runs(self) -> dict[str, list[Job]]:
        """Return the trainings with their evaluations, one per seed, by name."""
        return {
            name: [self._run(name, asked, seed) for seed in range(self.seeds)]
            for name, asked in self.plan["systems"].items()
        }

    def _run(self, name: str, asked: Mapping[str, Any], seed: int) -> Job:
        folder = self.folder / f"{name.replace(' ', '-')}-{seed}"
        train = {**self.plan["train"], **asked.get("train", {})}
        if "tune" in self.plan:
            train = {"steps": train["steps"], "config": self.folder / "tune" / name / "best.yaml"}
        place = {"cache": self.cache, "device": self.device}
        train |= {**place, "run": folder, "seed": seed}
        usual = {**self.plan["evaluate"], **asked.get("evaluate", {}), **place}
        evaluations = [["evaluate", str(folder), *flags(usual)]]
        for way, splits in asked.get("ways", {}).items():
            for split in splits:
                one = {"split": split, "single-caption": way, "importance-samples": 0, **place}
                evaluations.append(["evaluate", str(folder), *flags(one)])
        return Job(folder, ["train", asked["system"], *flags(train)], evaluations)


def flags(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield options as words of a command line."""
    for name, value in options.items():
        yield from (f"--{name}", str(value))


def run_jobs(jobs: Sequence[Job], count: int) -> None:
    """Run jobs, ``count`` of them at a time."""
    environment = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda job: job.run(environment), jobs))


def print_tables(jobs: Mapping[str, Sequence[Job]], split: str) -> None:
    """Print the comparison of all systems, their latents, and what was held out."""
    import multispace

    runs = [job.folder for of_system in jobs.values() for job in of_system]
    print(multispace.compare(runs, split=split).render("markdown"))
    print(table("nats per caption", LATENTS, jobs, evaluated(split, "latents.json")))
    print(table("val, after the last step", LAST, jobs, last_validation))
    print(table("unseen combinations", HELD_OUT, jobs, evaluated(split, "composition.json")))
    print(table("seconds", SECONDS, jobs, lambda job: read_json(job.done)))


def evaluated(split: str, name: str) -> Callable[[Job], Any]:
    """Return what reads a JSON file of the evaluation of a job."""
    return lambda job: read_json(job.folder / "evaluation" / split / name)


def last_validation(job: Job) -> Any:
    """Return the numbers of the last validation of a training."""
    path = job.folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [line for line in map(json.loads, lines) if line.get("split") == "val"]
    return found[-1] if found else {}


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; nothing where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def table(
    title: str,
    columns: Mapping[str, Sequence[str]],
    jobs: Mapping[str, Sequence[Job]],
    read: Callable[[Job], Any],
) -> str:
    """Return a Markdown table of numbers in documents: mean and std over the runs of a system.

    :param columns: by title, the keys that lead to the number
    :param read: returns the document of a run
    """
    lines = [f"| {title} | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    for system, of_system in jobs.items():
        documents = [read(job) for job in of_system]
        cells = [cell([find(one, keys) for one in documents]) for keys in columns.values()]
        if any(text != "-" for text in cells):
            lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def find(document: Any, keys: Sequence[str]) -> float | None:
    """Return the number that the keys lead to, or None where there is none."""
    for key in keys:
        if not isinstance(document, dict) or key not in document:
            return None
        document = document[key]
    return float(document)


def cell(values: Sequence[float | None]) -> str:
    """Return the mean with the std over the values that are there."""
    present = [value for value in values if value is not None]
    if not present:
        return "-"
    spread = f" ± {np.std(present, ddof=1):.3f}" if len(present) > 1 else ""
    return f"{np.mean(present):.3f}{spread}"


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
    parser.add_argument("--no-tables", action="store_true", help="only train and evaluate")
    args = parser.parse_args(argv)
    plan = yaml.safe_load(args.plan.read_text())[args.set]
    seeds = args.seeds or plan["seeds"]
    folder = args.runs / args.set
    folder.mkdir(parents=True, exist_ok=True)
    experiments = Experiments(plan, folder, args.cache, args.device, seeds)
    run_jobs(experiments.searches(), args.jobs)
    jobs = experiments.runs()
    run_jobs([job for of_seed in zip(*jobs.values(), strict=True) for job in of_seed], args.jobs)
    if not args.no_tables:
        print_tables(jobs, experiments.split)


if __name__ == "__main__":
    main()
