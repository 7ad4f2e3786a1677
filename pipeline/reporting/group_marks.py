"""What tells groups apart in plots: a color and, for readers who do not see it, a shape."""

from dataclasses import dataclass

# Okabe & Ito's colours for the colour-blind, without those that are faint on white or black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SHAPES = {  # a marker of matplotlib, and the path of the same shape around (0, 0)
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "s": "M-3.6-3.6h7.2v7.2h-7.2z",
    "^": "M0-4.6L4.8 3.6h-9.6z",
    "D": "M0-5L5 0L0 5L-5 0z",
    "v": "M0 4.6L4.8-3.6h-9.6z",
    "P": "M-1.6-4.5h3.2v2.9h2.9v3.2h-2.9v2.9h-3.2v-2.9h-2.9v-3.2h2.9z",
}


@dataclass(frozen=True)
class GroupMark:
    """The color of a group, and the marker of its points."""

    colour: str
    marker: str

    @property
    def path(self) -> str:
        """The shape of the marker around (0, 0), as a path of SVG."""
        return SHAPES[self.marker]


def group_mark(place: int) -> GroupMark:
    """Return the mark of the group at a place; colors repeat, in other shapes."""
    shapes, turn = tuple(SHAPES), place // len(COLOURS)
    return GroupMark(COLOURS[place % len(COLOURS)], shapes[(place + turn) % len(shapes)])
