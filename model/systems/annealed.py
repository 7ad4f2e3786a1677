"""Systems whose KL term has a weight that rises during training."""

from collections.abc import Callable

from torch import Tensor

from multispace.model.latent.schedules import CyclicalAnnealing, LogisticAnnealing, linear_annealing
from multispace.model.options import SystemOptions
from multispace.model.systems.captioner import Captioner


class Annealed(Captioner):
    """A system whose KL is paid for by a weight that rises."""

    def __init__(self, options: SystemOptions, condition: int) -> None:
        super().__init__(options, condition)
        rises: dict[str, Callable[[int], float]] = {
            "logistic": LogisticAnnealing(options.annealing_midpoint, options.annealing_slope),
            "linear": linear_annealing(options.annealing_steps),
            "cyclical": CyclicalAnnealing(options.annealing_steps, options.annealing_cycles),
            "none": lambda _: 1.0,
        }
        self.rise = rises[options.annealing]

    def weight(self, step: int) -> float:
        """Return a(step) w, which rises to w = ``kl_weight``."""
        return self.options.kl_weight * self.rise(step)

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return a(step) w KL, the KL with free bits where they are asked for."""
        return self.weight(step) * kl_z

    def schedule(self, step: int) -> dict[str, float]:
        """Return the KL's weight."""
        return {"weight_kl": self.weight(step)}
