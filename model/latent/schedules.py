"""Weights and targets that change with the optimizer step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LogisticAnnealing:
    """The KL weight 1 / (1 + exp(-slope (step - midpoint))), Bowman 2016.

    With the defaults: 0.0019 at step 0, 0.5 at 2,500, 0.998 at 5,000.
    """

    midpoint: float = 2500
    slope: float = 0.0025

    def __call__(self, step: int) -> float:
        """Return the weight at ``step`` optimizer steps, within [0, 1]."""
        return 0.5 * (1 + math.tanh(0.5 * self.slope * (step - self.midpoint)))


@dataclass(frozen=True)
class CyclicalAnnealing:
    """The KL weight rises from 0 to 1 ``cycles`` times, Fu 2019.

    A cycle lasts ``steps / cycles``; the weight rises in a line over the first ``rising`` of it
    and is 1 over the rest, and 1 for good after ``steps``.
    """

    steps: int
    cycles: int = 4
    rising: float = 0.5

    def __call__(self, step: int) -> float:
        """Return the weight at ``step`` optimizer steps, within [0, 1]."""
        if step >= self.steps:
            return 1.0
        return min((step * self.cycles / self.steps) % 1 / self.rising, 1.0)


def linear_annealing(steps: int) -> CyclicalAnnealing:
    """Return the KL weight min(step / steps, 1): one cycle that rises to its end."""
    return CyclicalAnnealing(steps, cycles=1, rising=1.0)


@dataclass(frozen=True)
class Temperature:
    """The Gumbel-softmax's temperature max(minimum, start exp(-rate step)), Jang 2017.

    Constant where the rate is 0.
    """

    start: float
    minimum: float = 0.5
    rate: float = 0.0

    def __call__(self, step: int) -> float:
        """Return the temperature at ``step`` optimizer steps."""
        if self.rate == 0:
            return self.start
        return max(self.minimum, self.start * math.exp(-self.rate * step))


@dataclass(frozen=True)
class LearningRate:
    """A learning rate that warms up in a line and may then decay to the last step.

    With n counting the run's steps from 1 to ``steps``: rate n / warmup up to n = warmup; then
    ``constant`` stays there; ``linear`` and ``cosine`` fall to ``minimum`` at n = ``steps``, as
    minimum + (rate - minimum) f(p) with p = (n - warmup) / (steps - warmup) and f(p) = 1 - p or
    (1 + cos(pi p)) / 2 (Loshchilov & Hutter 2017, without restarts).
    """

    rate: float
    steps: int
    kind: str = "constant"
    warmup: int = 0
    minimum: float = 0.0

    def __call__(self, step: int) -> float:
        """Return the rate of the ``step``-th optimizer step, the first being 1."""
        if step < self.warmup:
            return self.rate * step / self.warmup
        if self.kind == "constant":
            return self.rate
        done = min((step - self.warmup) / (self.steps - self.warmup), 1.0)
        left = 1 - done if self.kind == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.minimum + (self.rate - self.minimum) * left


@dataclass(frozen=True)
class Capacity:
    """A channel's target KL in nats, rising in a line and then constant, Dupont 2018.

    min((maximum - minimum) step / steps + minimum, maximum), and never above ``cap``, the most
    that the channel can carry (:func:`categorical_cap`).
    """

    minimum: float
    maximum: float
    steps: int
    cap: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum:
            raise ValueError(
                f"capacity from {self.minimum} to {self.maximum} nats: "
                "it must start at 0 or more and not fall"
            )
        if self.steps < 0:
            raise ValueError(f"capacity steps is {self.steps}: it must be 0 or more")

    def __call__(self, step: int) -> float:
        """Return the target at ``step`` optimizer steps, in nats."""
        done = 1.0 if self.steps == 0 else min(step / self.steps, 1.0)
        return min(self.minimum + (self.maximum - self.minimum) * done, self.cap)

    @property
    def capped(self) -> bool:
        """Whether the maximum lies above what the channel can carry."""
        return self.maximum > self.cap


def categorical_cap(sizes: Sequence[int]) -> float:
    """Return the most nats that independent categoricals carry: the sum of log K_i."""
    return math.fsum(math.log(size) for size in sizes)
