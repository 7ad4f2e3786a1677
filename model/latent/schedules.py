"""Weights, targets and rates that change with the optimizer step."""

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
    """A KL weight that rises from 0 to 1 ``cycles`` times, Fu 2019.

    Each cycle takes ``steps / cycles`` steps. The weight rises linearly over the fraction
    ``rising`` of a cycle and is 1 for the rest of it. After ``steps`` it is always 1.
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
    """Return the KL weight min(step / steps, 1): a single cycle that rises until its end."""
    return CyclicalAnnealing(steps, cycles=1, rising=1.0)


@dataclass(frozen=True)
class Temperature:
    """The temperature of the Gumbel-softmax, max(minimum, start exp(-rate step)), Jang 2017.

    With a rate of 0 it is constant.
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
    """A learning rate with a linear warm-up and an optional decay until the last step.

    Step n of 1 ... ``steps`` has the rate

    - rate n / warmup up to n = warmup, then
    - ``constant``: rate,
    - ``linear``, ``cosine``: minimum + (rate - minimum) f(p) with p = (n - warmup) / (steps -
      warmup) and f(p) = 1 - p or (1 + cos(pi p)) / 2 (Loshchilov & Hutter 2017, no restarts).
    """

    rate: float
    steps: int
    kind: str = "constant"
    warmup: int = 0
    minimum: float = 0.0

    def __call__(self, step: int) -> float:
        """Return the rate of optimizer step number ``step``; the first step is number 1."""
        if step < self.warmup:
            return self.rate * step / self.warmup
        if self.kind == "constant":
            return self.rate
        done = min((step - self.warmup) / (self.steps - self.warmup), 1.0)
        left = 1 - done if self.kind == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.minimum + (self.rate - self.minimum) * left


@dataclass(frozen=True)
class Capacity:
    """The target KL of a channel in nats: it rises linearly, then stays constant, Dupont 2018.

    min((maximum - minimum) step / steps + minimum, maximum), limited to ``cap``, the largest KL
    that the channel can have (:func:`categorical_cap`).
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
        """Whether the maximum is above the cap."""
        return self.maximum > self.cap


def categorical_cap(sizes: Sequence[int]) -> float:
    """Return the largest KL of independent categoricals to the uniform prior: sum log K_i."""
    return math.fsum(math.log(size) for size in sizes)
