"""What a training writes down as it goes: ``metrics.jsonl`` and TensorBoard events."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from multispace.model.latent.losses import Loss

METRICS = "metrics.jsonl"


class Log:
    """Appends one JSON object a line, and the same numbers for TensorBoard.

    :param after: optimizer steps already done; lines of later steps, left by a killed run, are
        taken away, for those steps are done again.
    """

    def __init__(self, folder: Path, after: int) -> None:
        path = folder / METRICS
        kept = [line for line in read_log(path) if line["step"] <= after] if after else []
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=after or None)

    def write(self, step: int, split: str, numbers: dict[str, float]) -> None:
        """Record ``numbers`` of ``split`` at ``step``."""
        self._file.write(json.dumps({"step": step, "split": split, **numbers}) + "\n")
        self._file.flush()
        for name, number in numbers.items():
            self._board.add_scalar(f"{split}/{name}", number, step)

    def histograms(self, step: int, split: str, values: Mapping[str, Tensor]) -> None:
        """Record the distributions of ``values``, for TensorBoard only."""
        for name, tensor in values.items():
            self._board.add_histogram(f"{split}/{name}", tensor, step)

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()
        self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a ``metrics.jsonl``, up to one cut short; none where there is none."""
    if not path.exists():
        return []
    whole = []
    for text in path.read_text().splitlines():
        try:
            whole.append(json.loads(text))
        except ValueError:
            break  # the line in hand when the run was killed
    return whole


class Meter:
    """Running means since the last line of the log, and the pace of training alone."""

    def __init__(self) -> None:
        self._sums = np.zeros(5)  # loss, recon, kl_z, kl_c, gradient norm
        self._batches = self._captions = self._tokens = 0
        self.skipped = 0  # steps whose gradients overflowed
        self._seconds = self._mark = 0.0
        self._all_tokens, self._all_seconds = 0, 0.0
        self._last = ""

    def start(self) -> None:
        """Begin to count time; call it when training goes on after something else."""
        self._mark = time.monotonic()

    def count(self, loss: Loss, norm: Tensor, captions: int, tokens: int) -> None:
        """Add a step; of its gradient only a norm that is a finite number."""
        *terms, length = (term.item() for term in (*loss, norm))
        if not math.isfinite(length):
            self.skipped, length = self.skipped + 1, 0.0
        self._sums += [*terms, length]
        self._batches += 1
        self._captions += captions
        self._tokens += tokens
        now = time.monotonic()
        self._seconds += now - self._mark
        self._all_seconds += now - self._mark
        self._all_tokens += tokens
        self._mark = now

    def take(self, schedule: dict[str, float]) -> dict[str, float]:
        """Return the means since the last call, with the schedule's values."""
        loss, recon, kl_z, kl_c, norm = (self._sums / self._batches).tolist()
        norm *= self._batches / max(self._batches - self.skipped, 1)
        numbers = {
            "loss": loss,
            "recon": recon,
            "kl_z": kl_z,
            "kl_c": kl_c,
            "perplexity": math.exp(min(recon * self._captions / self._tokens, 50)),
            "gradient_norm": norm,
            **schedule,
            "tokens_per_second": self._tokens / self._seconds,
        }
        self._sums[:] = 0
        self._batches = self._captions = self._tokens = self.skipped = 0
        self._seconds = 0.0
        targets = (schedule.get(f"capacity_{channel}") for channel in "zc")
        z, c = ("" if target is None else f" of {target:.1f}" for target in targets)
        self._last = (
            f"loss {loss:.2f} nats, perplexity {numbers['perplexity']:.1f}, KL_z {kl_z:.2f}{z}, "
            f"KL_c {kl_c:.2f}{c}, {numbers['tokens_per_second']:.0f} tokens/s"
        )
        return numbers

    def text(self) -> str:
        """Return the last means as a person reads them."""
        return self._last

    def rate(self) -> float:
        """Return tokens a second over all steps so far."""
        return self._all_tokens / self._all_seconds if self._all_seconds else 0.0
