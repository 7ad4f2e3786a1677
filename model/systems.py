"""The systems: each says what its posterior is and what its latent space costs."""

import math
from collections.abc import Callable

from torch import Tensor

from model.conditional import AGCVAE, CVAE
from model.encoder import Words
from model.errors import ModelError
from model.latents import Categoricals, DiagonalGaussian
from model.objective import capacity_penalty
from model.options import SystemOptions
from model.posterior import Posterior
from model.schedules import Capacity, categorical_cap
from model.share import Share
from model.system import Annealed, System, read_features, read_gaussian

# Categories begin as random cells of the feature space, most pictures being sure of theirs: from
# all alike, KL_c can reach its capacity by a few categories that serve all pictures.
SURE = 12.0
CROWDED = 3.0  # nats a dimension of z, of deviation 0.05 then or less


class Base(System):
    """CNN + RNN, trained by teacher forcing: e = W v is the condition."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.embedding)
        self.embed = read_features(options, options.embedding)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return a posterior without channels."""
        return Posterior()

    def condition(self, features: Tensor, *, sample: bool = False) -> Tensor:
        """Return e = W v. (B, embedding)

        :raises ModelError: a sample is asked for; there is nothing to sample.
        """
        if sample:
            raise ModelError("base has no latent space to sample from; use another system")
        return self.embed(self.standardise(features))

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return 0."""
        return kl_z

    def schedule(self, step: int) -> dict[str, float]:
        """Return nothing: the loss does not change with time."""
        return {}

    def _drawn(
        self, features: Tensor, words: Words, step: int, share: Share
    ) -> tuple[Tensor, Posterior]:
        """Return e = W v, and nothing drawn: the loss is the reconstruction alone."""
        return self.condition(features), self.posterior(features)


class Gaussian(System):
    """What `latent` and `beta-cvae` share: q(z | v), a Gaussian, is all that the decoder reads."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options, condition=options.z_size)
        self.z_parameters = read_gaussian(options)

    def posterior(self, features: Tensor, words: Words | None = None) -> Posterior:
        """Return q(z | v)."""
        parameters = self.z_parameters(self.standardise(features))
        return Posterior(z=DiagonalGaussian.from_parameters(parameters))


class Latent(Gaussian, Annealed):
    """The variational baseline: one Gaussian, its KL annealed by a weight."""


class BetaCVAE(Gaussian):
    """One Gaussian held to one capacity, Burgess 2018: `multispace` without c."""

    def __init__(self, options: SystemOptions) -> None:
        super().__init__(options)
        self.capacity_z = capacity(options.capacity_z_min, options.capacity_z_max, options)

    def warnings(self) -> list[str]:
        """Say so where z is asked for more than it should carry."""
        return _crowded(self.options)

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return gamma_z |KL - C(step)|."""
        return capacity_penalty(kl_z, self.capacity_z(step), self.options.gamma_z)

    def schedule(self, step: int) -> dict[str, float]:
        """Return the target and its weight."""
        return {"capacity_z": self.capacity_z(step), "gamma_z": self.options.gamma_z}


class Multispace(System):
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


SYSTEMS: dict[str, Callable[[SystemOptions], System]] = {
    "base": Base,
    "latent": Latent,
    "multispace": Multispace,
    "cvae": CVAE,
    "ag-cvae": AGCVAE,
    "beta-cvae": BetaCVAE,
}


def build(options: SystemOptions) -> System:
    """Return a new system, its weights drawn from torch's generator."""
    return SYSTEMS[options.system](options)
