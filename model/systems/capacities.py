"""Systems whose KLs are held at capacities."""

import math

from torch import Tensor

from multispace.model.latent.losses import capacity_penalty
from multispace.model.latent.schedules import Capacity, categorical_cap
from multispace.model.options import SystemOptions
from multispace.model.systems.captioner import Captioner

CROWDED = 3.0  # nats per dimension of z; its posterior then has a std of 0.05 or less


class CapacityControlled(Captioner):
    """A captioner whose loss holds each KL at a capacity.

    It pays ``gamma_z |KL_z - C_z(t)|``, and ``gamma_c |KL_c - C_c(t)|`` if it has c.
    Dupont 2018, equation 7; with z alone, Burgess 2018.
    """

    has_c = True  # whether the system has c

    def __init__(self, options: SystemOptions, condition: int) -> None:
        super().__init__(options, condition)
        self.capacity_z = _capacity(options, options.capacity_z_min, options.capacity_z_max)
        self.capacity_c = (
            _capacity(
                options,
                options.capacity_c_min,
                options.capacity_c_max,
                categorical_cap(options.categories),
            )
            if self.has_c
            else None
        )

    def warnings(self) -> list[str]:
        """Return a line for each capacity that its channel cannot, or should not, reach."""
        lines, options = [], self.options
        if self.capacity_c is not None and self.capacity_c.capped:
            lines.append(
                f"capacity_c_max {self.capacity_c.maximum:g} is above the "
                f"{self.capacity_c.cap:.3f} nats that categories {list(options.categories)} can "
                f"carry; {self.capacity_c.cap:.3f} is used"
            )
        each = options.capacity_z_max / options.z_size
        if each > CROWDED:
            lines.append(
                f"capacity_z_max {options.capacity_z_max:g} is {each:.1f} nats for each of "
                f"{options.z_size} dimensions of z; 1.2 is usual: choose it in proportion to "
                "--z-size"
            )
        return lines

    def penalty(self, kl_z: Tensor, kl_c: Tensor, step: int) -> Tensor:
        """Return ``gamma_z |KL_z - C_z|``, plus ``gamma_c |KL_c - C_c|`` with c."""
        total = capacity_penalty(kl_z, self.capacity_z(step), self.options.gamma_z)
        if self.capacity_c is not None:
            total = total + capacity_penalty(kl_c, self.capacity_c(step), self.options.gamma_c)
        return total

    def schedule(self, step: int) -> dict[str, float]:
        """Return the capacities and their weights, and the temperature with c."""
        numbers = {"capacity_z": self.capacity_z(step), "gamma_z": self.options.gamma_z}
        if self.capacity_c is not None:
            numbers["capacity_c"] = self.capacity_c(step)
            numbers["gamma_c"] = self.options.gamma_c
            numbers["temperature"] = self.temperature(step)
        return numbers


def _capacity(
    options: SystemOptions, minimum: float | None, maximum: float, cap: float = math.inf
) -> Capacity:
    """Return the capacity of a channel; without a minimum it is constant."""
    start = maximum if minimum is None else minimum
    return Capacity(start, maximum, options.capacity_steps, cap)
