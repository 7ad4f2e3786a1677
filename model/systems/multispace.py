"""The joint continuous and discrete latent space."""

import math

from torch import Tensor

from multispace.model.encoder import Words
from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.losses import capacity_penalty
from multispace.model.latent.posterior import Posterior
from multispace.model.latent.schedules import Capacity, categorical_cap
from multispace.model.options import SystemOptions
from multispace.model.systems.captioner import Captioner, read_features, read_gaussian

# Categories begin as random cells of the feature space, most images being sure of theirs: from
# all alike, KL_c can reach its capacity by a few categories that serve all images.
SURE = 12.0


CROWDED = 3.0  # nats a dimension of z, of deviation 0.05 then or less


class Multispace(Captioner):
    """The joint space: z Gaussian and c categorical, each held to its own capacity."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size + sum(options.categories))
        self.z_parameters = read_gaussian(options)
        self.c_parameters = read_features(options, sum(options.categories), SURE)
        self.capacity_z = capacity(options.capacity_z_min, options.capacity_z_max, options)
        self.capacity_c = capacity(
            options.capacity_c_min,
            options.capacity_c_max,
            options,
            cap=categorical_cap(options.categories),
        )

    def warnings(self) -> list[str]:
        """Say so where a channel cannot, or should not, carry what is asked of it."""
        c, lines = self.capacity_c, []
        if c.capped:
            lines = [f"capacity_c_max {c.maximum:g} is above the {c.cap:.3f} nats that categories "
                     f"{list(self.options.categories)} can carry; {c.cap:.3f} is used"]  # fmt: skip
        return lines + _crowded(self.options)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z, c | v) = q(z | v) q(c | v)."""
        standard = self.standardise(features)
        return Posterior(
            z=DiagonalGaussian.from_parameters(self.z_parameters(standard)),
            c=Categoricals.from_parameters(self.c_parameters(standard), self.options.categories),
        )

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return gamma_z |KL_z - C_z(step)| + gamma_c |KL_c - C_c(step)|."""
        return capacity_penalty(
            kl_z, self.capacity_z(step), self.options.gamma_z
        ) + capacity_penalty(kl_c, self.capacity_c(step), self.options.gamma_c)

    def schedule(self, step: int) -> dict[str, float]:
        """Return the targets and weights of both channels and the temperature."""
        return {
            "capacity_z": self.capacity_z(step),
            "capacity_c": self.capacity_c(step),
            "gamma_z": self.options.gamma_z,
            "gamma_c": self.options.gamma_c,
            "temperature": self.temperature(step),
        }


def capacity(
    least: float | None, most: float, options: SystemOptions, cap: float = math.inf
) -> Capacity:
    """Return a channel's target, which is constant where ``least`` is None."""
    return Capacity(most if least is None else least, most, options.capacity_steps, cap)


def _crowded(options: SystemOptions) -> list[str]:
    most, size = options.capacity_z_max, options.z_size
    if most / size <= CROWDED:
        return []
    return [f"capacity_z_max {most:g} is {most / size:.1f} nats for each of {size} dimensions of "
            "z; 1.2 is usual, so give it in proportion to --z-size"]  # fmt: skip
