"""Systems whose KL has a weight that rises during training."""

from collections.abc import Callable

from torch import Tensor

from multispace.model.latent.schedules import CyclicalAnnealing, LogisticAnnealing, linear_annealing
from multispace.model.options import SystemOptions
from multispace.model.systems.captioner import Captioner


class Annealed(Captioner):
    """A captioner that pays a(t) w KL for z, where a(t) rises from 0 to 1."""

    def __init__(self, options: SystemOptions, condition: int) -> None:
        super().__init__(options, condition)
        annealings: dict[str, Callable[[int], float]] = {
            "logistic": LogisticAnnealing(options.annealing_midpoint, options.annealing_slope),
            "linear": linear_annealing(options.annealing_steps),
            "cyclical": CyclicalAnnealing(options.annealing_steps, options.annealing_cycles),
            "none": lambda _: 1.0,
        }
        self.annealing = annealings[options.annealing]

    def weight(self, step: int) -> float:
        """Return a(step) w, with w = ``kl_weight``."""
        return self.options.kl_weight * self.annealing(step)

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return a(step) w KL_z."""
        return self.weight(step) * kl_z

    def schedule(self, step: int) -> dict[str, float]:
        """Return the weight of the KL."""
        return {"weight_kl": self.weight(step)}
