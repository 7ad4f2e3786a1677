"""The log of a training run: ``metrics.jsonl``, and the same numbers for TensorBoard."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from multispace.data.documents import DocumentFormat, Integer, Number, Object, Text
from multispace.data.files import atomic_write
from multispace.errors import PipelineError
from multispace.pipeline.training.tensorboard_file import EventFile

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
RESUME_HINT = "make room and run the same command with --resume"

LINE = DocumentFormat(
    Object(
        {"step": Integer(min=0), "split": Text(max_length=100)},
        others=Number(finite=False),  # earlier versions wrote NaN
    ),
    error=PipelineError,
    hint="remove the line, or restore the file",
    max_bytes=1 << 16,
    max_depth=2,
)
MAX_BYTES = 1 << 30


class Follower(Protocol):
    """What receives all that is logged, to show it elsewhere."""

    def write(self, step: int, split: str, numbers: Mapping[str, float]) -> None:
        """Receive numbers of a split at an optimizer step."""

    def histograms(self, step: int, split: str, values: Mapping[str, Tensor]) -> None:
        """Receive the values of distributions."""


class MetricsLog:
    """Appends one JSON object a line to ``metrics.jsonl``, and to a TensorBoard event file.

    :param after: optimizer steps that are done. A killed run leaves lines of later steps, which
        are done again; those lines are removed.
    :param steps_per_epoch: optimizer steps, from which each line has its ``epoch``: how many times
        the training captions were seen, as a decimal number; earlier versions did not write it
    :param lines: how many lines the log had at that step, if that is known
    :raises PipelineError: a file cannot be written, there or in any method; names the file.
    """

    def __init__(
        self, folder: Path, after: int, steps_per_epoch: int, lines: int | None = None
    ) -> None:
        self.follower: Follower | None = None
        self._path, self._steps_per_epoch = folder / METRICS, steps_per_epoch
        kept = read_log(self._path)[:lines] if after else []
        kept = [line for line in kept if line["step"] <= after]
        self.lines = len(kept)
        with self._names(self._path):
            with atomic_write(self._path) as file:
                file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
            self._file = self._path.open("a", encoding="utf-8")
        with self._names(folder / TENSORBOARD):
            self._events = EventFile(folder / TENSORBOARD, first_step=after + 1)

    def write(self, step: int, split: str, numbers: Mapping[str, float]) -> None:
        """Record ``numbers`` of ``split`` at an optimizer step."""
        with self._names(self._path):
            epoch = round(step / self._steps_per_epoch, 4)
            line = {"step": step, "epoch": epoch, "split": split, **numbers}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        self.lines += 1
        with self._names(self._events.path):
            for name, number in numbers.items():
                self._events.scalar(f"{split}/{name}", number, step)
        if self.follower is not None:
            self.follower.write(step, split, numbers)

    def histograms(self, step: int, split: str, values: Mapping[str, Tensor]) -> None:
        """Record the distributions of ``values``, which are not in ``metrics.jsonl``."""
        with self._names(self._events.path):
            for name, tensor in values.items():
                self._events.histogram(f"{split}/{name}", tensor, step)
        if self.follower is not None:
            self.follower.histograms(step, split, values)

    def close(self) -> None:
        """Close the files. All lines are written already."""
        for file in (self._file, self._events):
            with suppress(OSError):  # a line that could not be written was reported before
                file.close()

    @contextmanager
    def _names(self, path: Path) -> Iterator[None]:
        """Raise an error that names ``path`` where it cannot be written."""
        try:
            yield
        except OSError as error:
            raise PipelineError(
                f"not written ({error.strerror}); the last checkpoint is kept",
                where=path,
                hint=RESUME_HINT,
            ) from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a ``metrics.jsonl``, without a last one that was cut short.

    :returns: no lines where there is no file
    :raises PipelineError: a line is not one that a training run writes; names the line.
    """
    return LINE.read_json_lines(path, max_bytes=MAX_BYTES) if path.exists() else []
