"""The result of `preprocess`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multispace.exit_status import SKIPPED
from multispace.pipeline.console.table import text_table
from multispace.pipeline.preparation.skipped_inputs import skipped_messages


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split.

    :param unknown: fraction of the tokens that are not in the vocabulary
    :param with_vectors: images that have features; None if none were extracted
    """

    images: int
    captions: int
    tokens: int
    unknown: float
    with_vectors: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        values: dict[str, Any] = {
            "pictures": self.images,
            "captions": self.captions,
            "tokens": self.tokens,
            "unknown": self.unknown,
        }
        return (
            values if self.with_vectors is None else {**values, "with_vectors": self.with_vectors}
        )


@dataclass(frozen=True)
class Summary:
    """Result of a `preprocess` run; for several caches ``added`` and ``vectors`` are totals.

    :param format: format of the annotations
    :param skipped_file: file that lists ``skipped``
    :param words: words in the vocabulary, without special tokens
    :param vocabulary_made: whether this run made the vocabulary
    :param added: features that this run extracted
    :param vectors: features in the cache
    :param skipped: kind of fault -> a line for each input
    :param held_out: held-out pair -> split -> images
    """

    format: str
    skipped_file: Path
    words: int
    vocabulary_made: bool
    splits: dict[str, SplitSummary]
    added: int
    vectors: int
    skipped: dict[str, list[str]]
    held_out: dict[str, dict[str, int]]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            **asdict(self),
            "skipped_file": str(self.skipped_file),
            "splits": {name: split.to_json() for name, split in self.splits.items()},
            "notes": list(self.notes),
        }

    def render(self) -> str:
        """Return the vocabulary, a table of the splits, and counts of features."""
        made = "made" if self.vocabulary_made else "reused"
        lines = [
            f"vocabulary {made}: {self.words} words, and four special tokens",
            text_table(
                ["split", "images", "with vectors", "captions", "tokens", "unknown"],
                [
                    [
                        name,
                        split.images,
                        "-" if split.with_vectors is None else split.with_vectors,
                        split.captions,
                        split.tokens,
                        f"{split.unknown:.2%}",
                    ]
                    for name, split in self.splits.items()
                ],
            ),
        ]
        for pair, moved in self.held_out.items():
            counts = ", ".join(f"{count} in {split!r}" for split, count in moved.items())
            lines.append(f"held out: {pair}: {counts or 'in no image'}")
        if any(split.with_vectors is not None for split in self.splits.values()):
            lines.append(f"vectors: {self.vectors} in the cache, {self.added} of them new")
        return "\n".join(lines)

    @property
    def exit_status(self) -> int:
        """3 if inputs were skipped."""
        return SKIPPED if self.skipped else 0

    def messages(self) -> list[str]:
        """Return the skipped inputs for the terminal: counts, and the first of each kind."""
        return skipped_messages(self.skipped_file, self.skipped)
