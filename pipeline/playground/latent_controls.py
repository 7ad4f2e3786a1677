"""The latents of a system that a page lets people set: sliders for z, menus for c."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from multispace.errors import OptionError, shown
from multispace.model.latent.posterior import Posterior
from multispace.pipeline.metrics.latents.category_report import UNUSED

LIMIT = 4.0  # of a slider: 4 standard deviations of the prior
DECIMALS = 2
MENUS = 4  # variables of c with a menu, those with the largest KL


@dataclass(frozen=True)
class Slider:
    """One dimension of z.

    :param kl: its mean KL over a split, in nats: how much it says about an image
    """

    dimension: int
    kl: float

    @property
    def label(self) -> str:
        """The name of the dimension, with its KL."""
        return f"z{self.dimension} ({self.kl:.2f} nats)"

    def own(self, row: Sequence[float]) -> float:
        """Return where an image's own latents put the slider.

        :param row: [z ; c] of the image
        """
        return round(min(LIMIT, max(-LIMIT, row[self.dimension])), DECIMALS)

    def change(self, row: list[float], value: object) -> None:
        """Set the dimension, if the slider was moved from the image's own value.

        :raises OptionError: the value is not a number within the limits.
        """
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OptionError(f"{shown(value)} is not a number", where=self.label)
        if not (math.isfinite(value) and abs(value) <= LIMIT):
            raise OptionError(f"{value} is not from {-LIMIT:g} to {LIMIT:g}", where=self.label)
        if value != self.own(row):  # the image's own latents have more digits
            row[self.dimension] = float(value)


@dataclass(frozen=True)
class Menu:
    """One variable of c, whose entries are its categories.

    :param kl: its mean KL over a split, in nats
    :param start: its first column in [z ; c]
    :param entries: the labels of its categories, all different
    """

    variable: int
    kl: float
    start: int
    entries: tuple[str, ...]

    @property
    def label(self) -> str:
        """The name of the variable, with its KL."""
        return f"c{self.variable} ({self.kl:.2f} nats)"

    @property
    def ordered(self) -> list[str]:
        """The entries as a menu shows them: those that are in use first."""
        return sorted(self.entries, key=lambda entry: entry.endswith(UNUSED))

    def own(self, row: Sequence[float]) -> str:
        """Return the entry of an image's own category.

        :param row: [z ; c] of the image, with c one-hot
        """
        part = row[self.start : self.start + len(self.entries)]
        return self.entries[max(range(len(part)), key=part.__getitem__)]

    def change(self, row: list[float], value: object) -> None:
        """Set the variable to the category of an entry.

        :raises OptionError: there is no such entry.
        """
        if value not in self.entries:
            raise OptionError(f"there is no category {shown(value)}", where=self.label)
        for place, entry in enumerate(self.entries):
            row[self.start + place] = float(entry == value)


@dataclass(frozen=True)
class LatentControls:
    """The sliders and menus of a system; none for a system without latents."""

    sliders: tuple[Slider, ...] = ()
    menus: tuple[Menu, ...] = ()

    @property
    def each(self) -> tuple[Slider | Menu, ...]:
        """All of them, in the order of their values."""
        return (*self.sliders, *self.menus)

    @property
    def names(self) -> str:
        """The latents that can be set: "z", "c", "z and c", or ""."""
        return " and ".join(["z"] * bool(self.sliders) + ["c"] * bool(self.menus))

    def own(self, latents: Tensor) -> list[float | str]:
        """Return where an image's own latents put the controls.

        :param latents: [z ; c] of the image, (1, L)
        """
        (row,) = latents.tolist()
        return [control.own(row) for control in self.each]

    def apply(self, latents: Tensor, values: Sequence[object]) -> Tensor:
        """Return an image's latents with what was set by hand. (1, L)

        :param latents: the image's own [z ; c], (1, L)
        :param values: of all controls
        :raises OptionError: there are more or fewer values than controls, or one is not allowed.
        """
        if len(values) != len(self.each):
            raise OptionError(f"{len(values)} values for {len(self.each)} controls")
        (row,) = latents.tolist()
        for control, value in zip(self.each, values, strict=True):
            control.change(row, value)
        return latents.new_tensor([row])


def choose_controls(
    posterior: Posterior, dims: int, labels: Sequence[Sequence[str]] = ()
) -> LatentControls:
    """Return controls for the dimensions of z and the variables of c with the largest mean KL.

    :param posterior: of the images of a split
    :param dims: the number of sliders
    :param labels: names of the categories of each variable; without them they are numbered
    """
    sliders: list[Slider] = []
    start = 0
    if posterior.z is not None:
        kl = posterior.z.kl().mean(0)
        start = len(kl)
        order = kl.argsort(descending=True)[:dims].tolist()
        sliders = [Slider(dimension, float(kl[dimension])) for dimension in order]
    menus: list[Menu] = []
    if posterior.c is not None:
        sizes = posterior.c.sizes
        usable = [len(names) for names in labels] == sizes
        kl = posterior.c.kl().mean(0)
        for variable in sorted(kl.argsort(descending=True)[:MENUS].tolist()):
            names = [
                _entry(k, labels[variable][k] if usable else "") for k in range(sizes[variable])
            ]
            first = start + sum(sizes[:variable])
            menus.append(Menu(variable, float(kl[variable]), first, tuple(names)))
    return LatentControls(tuple(sliders), tuple(menus))


def _entry(category: int, label: str) -> str:
    """Return the entry of a category; its label says its number in other words."""
    words = label.partition(": ")[2]
    return f"{category}: {words}" if words else f"category {category}"
