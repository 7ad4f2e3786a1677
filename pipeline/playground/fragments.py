"""Pieces of the page in HTML. All text comes from data and is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from multispace.pipeline.console.printable import one_line
from multispace.pipeline.playground.image_choice import ChosenImage
from multispace.pipeline.playground.player import Drawn

WAYS = {
    "mode": "single caption, from the mode of the latents",
    "left-out": "single caption, with the latents left out",
    "reranked": "single caption, the one of the beam that is most like samples",
    "consensus": "single caption, a consensus of samples",
    "categories": "single caption, a consensus of all categories",
}

NO_WORDS = "(no words)"  # in place of an empty caption


def picture(image: ChosenImage) -> str:
    """Return the picture of an image, its name, and the captions that people wrote."""
    shown = (
        f'<img src="{escape(image.picture)}" alt="{_text(image.name)}">'
        if image.picture
        else f'<p class="ms-none">{_text(image.missing)}</p>'
    )
    references = ""
    if image.references:
        references = f"<p class='ms-label'>references</p>{_list('ul', image.references)}"
    return f'<div class="ms-picture">{shown}<p>{_text(image.name)}</p>{references}</div>'


def answer(beam: Sequence[str], single: str | None, way: str, latents: str) -> str:
    """Return the captions of a system.

    :param beam: captions of the beam, best first
    :param single: the run's single caption, where it is not made from the latents as set
    :param way: how it is made
    :param latents: which of them are set below: "z", "c", "z and c", or ""
    """
    parts = []
    if single is not None:
        parts.append(_caption(WAYS.get(way, way), single))
    parts.append(
        _caption(f"caption with {latents} as set below" if latents else "caption", beam[0])
    )
    if len(beam) > 1:
        label = f"next in the beam ({len(beam)} in all)"
        parts.append(f"<p class='ms-label'>{label}</p>{_list('ol', beam[1:], start=2)}")
    return f'<div class="ms-answer">{"".join(parts)}</div>'


def drawn(found: Drawn) -> str:
    """Return samples, each once with its count, and their consensus."""
    counts = {text: found.samples.count(text) for text in found.samples}
    lines = [f"{text} ({count} times)" if count > 1 else text for text, count in counts.items()]
    agreed = (
        _caption("consensus of the samples", found.consensus)
        if found.consensus is not None
        else failure(f"no consensus: {found.reason}")
    )
    label = f"{len(found.samples)} samples, {len(counts)} different"
    samples = f"<p class='ms-label'>{label}</p>{_list('ul', lines)}"
    return f'<div class="ms-answer">{agreed}{samples}</div>'


def failure(text: str) -> str:
    """Return one line that says what is wrong."""
    return f'<p class="ms-error" role="alert">{_text(text)}</p>'


def heading(name: str, summary: str, note: str) -> str:
    """Return the heading of a system."""
    below = f"<p class='ms-none'>{_text(note)}</p>" if note else ""
    return f"<div class='ms-heading'><h2>{_text(name)}</h2><p>{_text(summary)}</p>{below}</div>"


def _caption(label: str, text: str) -> str:
    return (
        f"<p class='ms-label'>{_text(label)}</p><p class='ms-caption'>{_text(text) or NO_WORDS}</p>"
    )


def _list(kind: str, texts: Iterable[str], start: int = 1) -> str:
    first = f' start="{start}"' if kind == "ol" else ""
    items = "".join(f"<li>{_text(text) or NO_WORDS}</li>" for text in texts)
    return f"<{kind}{first}>{items}</{kind}>"


def _text(text: str) -> str:
    return escape(one_line(text))
