"""Plots of what the latents hold: KL by dimension of z, and the use of the categories of c."""

from collections.abc import Mapping
from typing import Any

from multispace.pipeline.reporting.bar_plot import BarPlot, draw_bars

WORDS = 6  # of a category, in its text


def latent_plots(found: Mapping[str, Any]) -> list[BarPlot]:
    """Return the plots of the content of ``latents.json``."""
    plots = []
    if z := found.get("z"):
        plots.append(_dimensions(z["kl_by_dimension"]))
    meaning = found.get("c", {}).get("meaning")  # of earlier versions there is none
    for number, variable in enumerate(meaning["variables"] if meaning else ()):
        plots.append(_categories(number, variable, meaning["assigned"]))
    return plots


def _dimensions(kl: list[float]) -> BarPlot:
    order = sorted(range(len(kl)), key=lambda place: -kl[place])
    bars = [(kl[place], f"z{place}: {kl[place]:.3f} nats") for place in order]
    top = f"{max(kl, default=0.0):.2g} nats"
    return draw_bars(bars, f"KL of the {len(kl)} dimensions of z, largest first", top)


def _categories(number: int, variable: Mapping[str, Any], assigned: str) -> BarPlot:
    bars = []
    for entry in variable["categories"]:
        words = ", ".join(word["word"] for word in entry["words"][:WORDS])
        text = f"c{number}={entry['category']}: {entry['share']:.1%} of {assigned}"
        bars.append((entry["share"], f"{text}: {words}" if words else text))
    top = f"{max((share for share, _ in bars), default=0.0):.1%} of {assigned}"
    used = f"{variable['in_use']} of {variable['size']} categories of c{number} are used"
    return draw_bars(bars, f"{used}, the most frequent first", top)
