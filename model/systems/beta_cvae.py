"""One Gaussian held to one capacity."""

from torch import Tensor

from multispace.model.latent.losses import capacity_penalty
from multispace.model.options import SystemOptions
from multispace.model.systems.latent import Gaussian
from multispace.model.systems.multispace import _crowded, capacity


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
