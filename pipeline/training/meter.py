"""Means of the loss between two lines of the metrics log, and the speed of training."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Sums:
    """Sums over the steps since the last line of the log."""

    terms: list[float] = field(default_factory=lambda: [0.0] * 5)  # loss, recon, KLs, norm
    steps: int = 0
    captions: int = 0
    tokens: int = 0
    skipped: int = 0  # steps whose gradients overflowed
    seconds: float = 0.0


class Meter:
    """Sums up steps, and returns their means for each line of the log.

    The sums are part of a checkpoint, so that a resumed run logs the numbers of a whole one.
    """

    def __init__(self) -> None:
        self.sums = Sums()
        self._mark = 0.0
        self._all_tokens, self._all_seconds = 0, 0.0
        self._details, self._summary = "", ""

    def to_json(self) -> dict[str, Any]:
        """Return the sums as plain values."""
        return asdict(self.sums)

    def load(self, value: Mapping[str, Any]) -> None:
        """Continue from the sums that :meth:`to_json` returned."""
        self.sums = Sums(**value)

    def start(self) -> None:
        """Start the clock; call it when training continues after something else."""
        self._mark = time.monotonic()

    def count(self, loss: Sequence[float], norm: float, captions: int, tokens: int) -> None:
        """Add a step.

        :param loss: the four terms
        :param norm: of the gradient; a step with an infinite one counts as skipped
        """
        sums = self.sums
        if not math.isfinite(norm):
            sums.skipped, norm = sums.skipped + 1, 0.0
        sums.terms = [total + term for total, term in zip(sums.terms, (*loss, norm), strict=True)]
        sums.steps += 1
        sums.captions += captions
        sums.tokens += tokens
        now = time.monotonic()
        sums.seconds += now - self._mark
        self._all_seconds += now - self._mark
        self._all_tokens += tokens
        self._mark = now

    def take(self, schedule: Mapping[str, float]) -> dict[str, float]:
        """Return the means since the last call, and start anew.

        :param schedule: weights and targets of this step, which are returned too
        """
        sums, self.sums = self.sums, Sums()
        loss, recon, kl_z, kl_c, norm = (total / sums.steps for total in sums.terms)
        numbers = {
            "loss": loss,
            "recon": recon,
            "kl_z": kl_z,
            "kl_c": kl_c,
            "perplexity": math.exp(min(recon * sums.captions / sums.tokens, 50)),
            "gradient_norm": norm * sums.steps / max(sums.steps - sums.skipped, 1),
            **schedule,
            "tokens_per_second": sums.tokens / sums.seconds if sums.seconds else 0.0,
        }
        targets = (schedule.get(f"capacity_{channel}") for channel in "zc")
        z, c = ("" if target is None else f" of {target:.1f}" for target in targets)
        self._summary = f"loss {loss:.2f}"
        self._details = (
            f"perplexity {numbers['perplexity']:.1f}, KL_z {kl_z:.2f}{z}, "
            f"KL_c {kl_c:.2f}{c}, {numbers['tokens_per_second']:.0f} tokens/s"
        )
        return numbers

    def details(self) -> str:
        """Return the last means but the loss as text for people."""
        return self._details

    def summary(self) -> str:
        """Return the last mean of the loss, in nats, as text that fits beside a bar."""
        return self._summary

    def rate(self) -> float:
        """Return tokens per second over all steps of this process."""
        return self._all_tokens / self._all_seconds if self._all_seconds else 0.0
