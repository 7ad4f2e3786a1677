"""What `explore` wrote about a run: captions and words as single latents change."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from multispace.data.documents import DocumentFormat, Kind, ListOf, MapOf, Number, Object, Text
from multispace.errors import PipelineError
from multispace.pipeline.reporting.export_tables import Table

FOLDER, NAME = "exploration", "exploration.json"  # RUN/exploration/SPLIT/exploration.json
MAX_IMAGES = 8  # whose captions are shown
MAX_LATENTS = 64  # of an image, and whose words are shown

CHANGES = MapOf(Number(), max_items=1000)
EXPLORATION = DocumentFormat(
    Object(
        {
            "traversals": ListOf(
                Object(
                    {
                        "key": Text(),
                        "caption": Text(),
                        "latent": Text(),
                        "captions": MapOf(Text(), max_items=1000),
                    }
                )
            ),
            "words": ListOf(
                Object({"latent": Text(), "weight": Number(), "rise": CHANGES, "fall": CHANGES})
            ),
        },
        others=Kind(),
    ),
    error=PipelineError,
    hint="run `multispace explore` again, or remove the file",
)


def exploration_folder(run: Path, split: str) -> Path:
    """Return the folder of what `explore` found on a split."""
    return run / FOLDER / split


def read_traversals(run: Path, split: str) -> list[Table]:
    """Return tables of the words that each latent changes, and of the captions of each image.

    :returns: no tables where the run was not explored
    :raises PipelineError: the file is not as `explore` writes it.
    """
    path = exploration_folder(run, split) / NAME
    if not path.exists():
        return []
    found = EXPLORATION.read_json(path)
    return [_words(found["words"]), *_captions(found["traversals"])]


def _words(entries: Sequence[Mapping[str, Any]]) -> Table:
    head = ("latent", "KL or share", "words that rise", "words that fall")
    rows = [
        [entry["latent"], f"{entry['weight']:.2f}", _changes(entry["rise"]),
         _changes(entry["fall"])]
        for entry in entries[:MAX_LATENTS]
    ]  # fmt: skip
    return Table("words as a latent changes", head, rows)


def _changes(words: Mapping[str, float]) -> str:
    return ", ".join(f"{word} {change:+.0%}" for word, change in words.items()) or "-"


def _captions(traversals: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Yield a table for each image; captions that several values share are in one row."""
    images: dict[str, list[Mapping[str, Any]]] = {}
    for traversal in traversals:
        images.setdefault(traversal["key"], []).append(traversal)
    for key, own in list(images.items())[:MAX_IMAGES]:
        rows = []
        for traversal in own[:MAX_LATENTS]:
            values: dict[str, list[str]] = {}
            for value, caption in traversal["captions"].items():
                values.setdefault(caption, []).append(value)
            rows += [[traversal["latent"], ", ".join(v), caption] for caption, v in values.items()]
        yield Table(f"{key}: {own[0]['caption']}", ("latent", "value", "caption"), rows)
