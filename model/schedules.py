"""Weights and targets that change with the optimiser step."""

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
        """Return the weight at ``step`` optimiser steps, within [0, 1]."""
        return 0.5 * (1 + math.tanh(0.5 * self.slope * (step - self.midpoint)))


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
        """Return the target at ``step`` optimiser steps, in nats."""
        done = 1.0 if self.steps == 0 else min(step / self.steps, 1.0)
        return min(self.minimum + (self.maximum - self.minimum) * done, self.cap)

    @property
    def capped(self) -> bool:
        """Whether the maximum lies above what the channel can carry."""
        return self.maximum > self.cap


def categorical_cap(sizes: Sequence[int]) -> float:
    """Return the most nats that independent categoricals carry: the sum of log K_i."""
    return math.fsum(math.log(size) for size in sizes)
