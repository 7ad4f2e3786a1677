"""What the categories of c mean: their words, their shares, their examples, and a summary."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from multispace.data.batches import Pairs
from multispace.data.captions.vocabulary import Vocabulary
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.console.printable import one_line
from multispace.pipeline.metrics.content.concepts import CONCEPT_CLASSES, NOUN, concepts_of
from multispace.pipeline.metrics.latents.assignment import Assignment, Numbers, assign
from multispace.pipeline.metrics.latents.category_words import (
    TellingWord,
    caption_words,
    telling_words,
)
from multispace.pipeline.metrics.latents.concept_information import (
    ConceptInformation,
    NamedConcepts,
    concept_information,
)

MAX_CAPTIONS = 25_000  # of a split, that are examined
WORDS = 10  # of a category
EXAMPLES = 3  # of a category, each of another image
MIN_UNITS = 5  # per combination of categories, for the information of all variables together
MIN_EXPLAINED = 0.05  # fraction of the entropy of concepts that c is said to be about
PLURALS = {NOUN: "nouns", "number": "counts", "colour": "colours", "size": "sizes",
           "pattern": "patterns", "material": "materials"}  # fmt: skip
SUMMARIZED = (NOUN, "number", "colour")  # in the line of the summary
LABEL_WORDS = 3
UNUSED = "not in use"
ROW_WORDS = 6
ROW_EXAMPLE = 100  # characters

Informations = Mapping[str, ConceptInformation]  # by class of concepts


def category_report(
    system: Captioner, pairs: Pairs, vocabulary: Vocabulary, seed: int = 0
) -> dict[str, Any] | None:
    """Return what the categories of c mean on a split; None for a system without c.

    Captions, or images where q(c) reads only the image, are assigned to the arg max of q(c).
    ``variables`` has an entry for each variable: the number of its categories (``size``), of those
    that something is assigned to (``in_use``), the ``concepts`` (see
    :class:`.concept_information.ConceptInformation`), and the ``categories`` in use, the most
    frequent first, with the number and fraction of captions or images, telling words, and
    examples, evenly spaced over the split. ``together`` has the concepts of all variables as one,
    if there are several and at least five captions or images per combination. ``sentence`` says
    what c is about.

    :param seed: of the shuffled categories
    """
    found = assign(system, pairs, MAX_CAPTIONS)
    if found is None:
        return None
    texts = _texts(pairs)
    named = concepts_of(pairs, [texts[i] for i in found.captions])
    classes = {kind: NamedConcepts.of([each[kind] for each in named]) for kind in CONCEPT_CLASSES}
    words = caption_words(pairs, vocabulary, found.captions)
    variables: list[dict[str, Any]] = []
    informations = []
    for variable, size in enumerate(found.sizes):
        categories = found.categories[:, variable]
        informations.append(_informations(categories, found, classes, seed))
        telling = telling_words(categories[found.units], words, WORDS)
        entries = _entries(categories, telling, _examples(found, variable, pairs, texts))
        variables.append(
            {
                "size": size,
                "in_use": len(entries),
                "fraction_in_use": len(entries) / size,
                "concepts": _to_json(informations[-1]),
                "categories": entries,
            }
        )
    report: dict[str, Any] = {
        "assigned": "captions" if found.of_captions else "images",
        "count": len(found.categories),
        "captions": len(found.captions),
        "variables": variables,
    }
    combined = np.unique(found.categories, axis=0, return_inverse=True)[1].reshape(-1)
    in_use = int(combined.max()) + 1
    if len(variables) > 1 and len(combined) >= MIN_UNITS * in_use:
        informations = [_informations(combined, found, classes, seed)]
        report["together"] = {"in_use": in_use, "concepts": _to_json(informations[0])}
    return {**report, "sentence": about(informations)}


def about(informations: Sequence[Informations]) -> str:
    """Return one sentence on what c is about, by the entropy of concepts that it explains.

    :param informations: of each variable, of which the best counts, or of all together
    """
    best: dict[str, float] = {}
    for kind, information in (item for each in informations for item in each.items()):
        best[kind] = max(best.get(kind, 0.0), information.explained)
    ranked = sorted(best, key=lambda kind: -best[kind])
    subject = "it" if len(informations) == 1 else "its best variable"
    if not ranked or best[ranked[0]] < MIN_EXPLAINED:
        return (
            "c is not about the nouns, counts or attributes that captions name: beyond chance, "
            f"{subject} explains less than {MIN_EXPLAINED:.0%} of the entropy of each"
        )
    first, *others = ranked
    rest = "".join(f", {best[kind]:.0%} of {PLURALS[kind]}" for kind in others)
    return (
        f"c is about {PLURALS[first]} first: beyond chance, {subject} explains {best[first]:.0%} "
        f"of the entropy of the {PLURALS[first]} that captions name{rest}"
    )


def category_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the line of numbers and the sentence about :func:`category_report`."""
    variables = report["variables"]
    used, size = (sum(variable[name] for variable in variables) for name in ("in_use", "size"))
    several = len(variables) > 1
    parts = []
    for kind in SUMMARIZED:
        known = [
            (number, variable["concepts"][kind])
            for number, variable in enumerate(variables)
            if kind in variable["concepts"]
        ]
        if known:
            number, best = max(known, key=lambda item: item[1]["explained"])
            where = f"c{number}, " if several else ""
            nmi, chance = (_decimal(best[name]) for name in ("nmi", "nmi_by_chance"))
            parts.append(f"{PLURALS[kind]} {nmi} ({where}chance {chance})")
    what = "highest NMI of a variable" if several else "NMI"
    numbers = f"; {what} with {', '.join(parts)}" if parts else ""
    return [
        f"c: {report['assigned']} are assigned to {used} of {size} categories{numbers}",
        report["sentence"],
    ]


def category_table(
    report: Mapping[str, Any], rows: int | None = None
) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table of the categories in use: name, share, words, example.

    :param rows: maximum number of categories of each variable; None for all
    """
    head = ["category", report["assigned"], "words", "example"]
    table = []
    for number, variable in enumerate(report["variables"]):
        for entry in variable["categories"][:rows]:
            example = ""
            if entry["examples"]:
                text, image = (one_line(entry["examples"][0][k]) for k in ("caption", "image"))
                text = text if len(text) <= ROW_EXAMPLE else text[: ROW_EXAMPLE - 3] + "..."
                example = f"{text} ({image})"
            table.append(
                [
                    f"c{number}={entry['category']}",
                    f"{entry['count']} ({entry['share']:.1%})",
                    _words(entry, ROW_WORDS),
                    example,
                ]
            )
    return head, table


def category_labels(report: Mapping[str, Any], words: int = LABEL_WORDS) -> list[list[str]]:
    """Return the label of each category of each variable, such as those of a menu.

    A label is "category 3.5: dog, running, grass", that of category 5 of variable 3, both counted
    from 0. With a single variable it is "category 5: dog, running, grass".

    :param report: the result of :func:`category_report`
    :param words: maximum number of words of a label
    """
    several, labels = len(report["variables"]) > 1, []
    for number, variable in enumerate(report["variables"]):
        name = f"category {number}." if several else "category "
        telling = {
            entry["category"]: _words(entry, words) or "no word stands out"
            for entry in variable["categories"]
        }
        labels.append([f"{name}{k}: {telling.get(k, UNUSED)}" for k in range(variable["size"])])
    return labels


def _texts(pairs: Pairs) -> list[str]:
    """Return the raw text of each caption."""
    captions = pairs.captions
    # ``tokens`` has all captions of the split, each between BOS and EOS.
    starts = captions.offsets[:-1] + 2 * np.arange(len(captions.texts))
    return [captions.texts[i] for i in np.searchsorted(starts, pairs.starts).tolist()]


def _informations(
    categories: Numbers, found: Assignment, classes: Mapping[str, NamedConcepts], seed: int
) -> Informations:
    """Return the information about each class of concepts of which captions name several."""
    every = {
        kind: concept_information(categories, found.units, named, seed)
        for kind, named in classes.items()
    }
    return {kind: information for kind, information in every.items() if information}


def _to_json(informations: Informations) -> dict[str, dict[str, float]]:
    return {kind: information.to_json() for kind, information in informations.items()}


def _entries(
    categories: Numbers,
    telling: Mapping[int, Sequence[TellingWord]],
    examples: Mapping[int, Sequence[Mapping[str, str]]],
) -> list[dict[str, Any]]:
    """Return an entry for each category in use, the most frequent first."""
    in_use, counts = np.unique(categories, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [
        {
            "category": k,
            "count": count,
            "share": count / len(categories),
            "words": [asdict(word) for word in telling.get(k, ())],
            "examples": list(examples[k]),
        }
        for k, count in zip(in_use[order].tolist(), counts[order].tolist(), strict=True)
    ]


def _examples(
    found: Assignment, variable: int, pairs: Pairs, texts: Sequence[str]
) -> dict[int, list[dict[str, str]]]:
    """Return captions of each category, of different images, evenly spaced over the split."""
    categories, images = found.categories[:, variable], pairs.rows[found.first]
    in_pair = categories * len(pairs.features) + images
    units = np.unique(in_pair, return_index=True)[1]  # by category, one of each image
    in_use, starts = np.unique(categories[units], return_index=True)
    keys = pairs.keys
    examples = {}
    for k, group in zip(in_use.tolist(), np.split(units, starts[1:]), strict=True):
        count = min(EXAMPLES, len(group))
        examples[k] = [
            {"image": keys[images[unit]], "caption": texts[found.first[unit]]}
            for unit in group[(2 * np.arange(count) + 1) * len(group) // (2 * count)].tolist()
        ]
    return examples


def _words(entry: Mapping[str, Any], count: int) -> str:
    return ", ".join(one_line(word["word"]) for word in entry["words"][:count])


def _decimal(number: float) -> str:
    """Return a fraction as ``.31``."""
    return f"{number:.2f}".replace("0.", ".", 1)
