"""Accuracy of the objects and attributes that captions name.

What a caption names is compared with all references of its image or, for a generated image, with
what was drawn. Objects that no reference names are counted as in CHAIR (Rohrbach et al. 2018),
without the instance annotations that CHAIR uses as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from multispace.data.language.nouns import OBJECT_OF, OBJECTS
from multispace.data.language.phrases import read_phrases
from multispace.data.language.words import ATTRIBUTE_CLASSES, attribute_of
from multispace.data.shapes import caption_accuracy, mentions
from multispace.data.shapes.scene import things_of
from multispace.pipeline.console.progress import Progress

AGREEMENT = 2  # references that must name a pair for it to count in recall
TRUE_CLASSES = ("colour", "size", "pattern")  # of generated images
OBJECTS_ROW = "objects"  # the name of objects beside those of the classes of attributes

ImageId = int | str
Fact = tuple[str, str, str]  # class, value, thing: ("colour", "red", "bus"); ("", "", "bus")


@dataclass
class Tally:
    """Counts over images; each fact counts once per image."""

    mentioned: int = 0
    right: int = 0
    agreed: int = 0  # facts that enough references name, or that are true
    found: int = 0  # those of them that the caption mentions

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        self.mentioned += other.mentioned
        self.right += other.right
        self.agreed += other.agreed
        self.found += other.found

    def to_json(self) -> dict[str, Any]:
        """Return the counts with precision and recall; these are None for a count of 0."""
        return {
            "mentioned": self.mentioned,
            "right": self.right,
            "precision": _share(self.right, self.mentioned),
            "agreed": self.agreed,
            "found": self.found,
            "recall": _share(self.found, self.agreed),
        }


@dataclass
class _Counts:
    classes: Sequence[str]
    tallies: dict[str, Tally] = field(default_factory=dict)
    images: int = 0
    with_hallucination: int = 0
    per_image: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tallies = {kind: Tally() for kind in ("", *self.classes)}

    def add(self, image_id: ImageId, named: set[Fact], known: set[Fact], agreed: set[Fact]) -> None:
        counts = {}
        for kind, tally in self.tallies.items():
            mine = {fact for fact in named if fact[0] == kind}
            theirs = {fact for fact in agreed if fact[0] == kind}
            own = Tally(len(mine), len(mine & known), len(theirs), len(mine & theirs))
            tally.add(own)
            if any(astuple(own)):
                counts[kind or OBJECTS_ROW] = [*astuple(own)]
        self.per_image.append({"image_id": image_id, "counts": counts})
        self.images += 1
        self.with_hallucination += any(not fact[0] and fact not in known for fact in named)

    def to_json(self) -> dict[str, Any]:
        together = Tally()
        for kind in self.classes:
            together.add(self.tallies[kind])
        things = self.tallies[""]
        return {
            "pictures": self.images,
            "objects": {
                **things.to_json(),
                "hallucination_rate": _share(things.mentioned - things.right, things.mentioned),
                "captions_with_hallucination": _share(self.with_hallucination, self.images),
            },
            "attributes": {kind: self.tallies[kind].to_json() for kind in self.classes},
            "all": together.to_json(),
            "per_image": self.per_image,
        }


def attribute_scores(
    references: Mapping[ImageId, Sequence[str]],
    captions: Mapping[ImageId, str],
    agreement: int = AGREEMENT,
) -> dict[str, Any]:
    """Score one caption per image by the objects and attributes that its references name.

    An attribute with its noun (synonyms and plurals folded) is right where a reference names the
    two together. It counts in recall where at least ``agreement`` references do. An object that
    no reference names is a hallucination. ``per_image`` has the counts of each image: mentioned,
    right, agreed and found, by class; a class without any is left out.

    :param references: of each image
    :param captions: the caption of each image
    """
    counts = _Counts(ATTRIBUTE_CLASSES)
    with Progress(len(captions), "images", "objects") as progress:
        for image_id, caption in captions.items():
            named = [_facts(reference) for reference in references[image_id]]
            known = set().union(*named)
            agreed = {fact for fact in known if sum(fact in each for each in named) >= agreement}
            counts.add(image_id, _facts(caption), known, agreed)
            progress.advance()
    return {"against": "references", "agreement": agreement, **counts.to_json()}


def true_attribute_scores(
    factors: Mapping[ImageId, Any], captions: Mapping[ImageId, str]
) -> dict[str, Any]:
    """Score one caption per generated image by what was drawn.

    Recall is over everything that is true, although a caption need not name all of it. ``main``
    is :func:`multispace.data.shapes.caption_accuracy`.

    :param factors: of each image
    :param captions: the caption of each image
    """
    counts = _Counts(TRUE_CLASSES)
    for image_id, caption in captions.items():
        true = _facts_of_shapes(things_of(factors[image_id]) or ())
        counts.add(image_id, _facts_of_shapes(mentions(caption)), true, true)
    keys = {str(image_id): image_id for image_id in captions}
    main = caption_accuracy(
        {key: captions[i] for key, i in keys.items()}, {key: factors[i] for key, i in keys.items()}
    )
    return {"against": "factors", **counts.to_json(), "main": main}


def named_and_wrong(
    caption: str, references: Sequence[str], factors: Any = None
) -> tuple[set[Fact], set[Fact]]:
    """Return the facts that a caption names, and those of them that its image does not have.

    :param references: of the image
    :param factors: what was drawn, if the image is generated; replaces the references
    """
    things = things_of(factors) if factors else None
    if things:
        named, known = _facts_of_shapes(mentions(caption)), _facts_of_shapes(things)
    else:
        named, known = _facts(caption), set().union(*map(_facts, references))
    return named, named - known


def attribute_table(scores: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table: what, mentioned, precision, recall."""
    head = [f"against {scores['against']}", "mentioned", "precision", "recall"]
    rows = {"objects": scores["objects"], **scores["attributes"], "attributes": scores["all"]}
    return head, [
        [name, str(row["mentioned"]), percent(row["precision"]), percent(row["recall"])]
        for name, row in rows.items()
    ]


def percent(share: float | None) -> str:
    """Return a fraction as a percentage with one decimal."""
    return "-" if share is None else f"{share:.1%}"


def _facts(caption: str) -> set[Fact]:
    facts: set[Fact] = set()
    for phrase in read_phrases(caption):
        thing = OBJECT_OF[phrase.noun]
        if thing in OBJECTS:
            facts.add(("", "", thing))
        for word in phrase.attributes:
            if found := attribute_of(word):
                facts.add((*found, thing))
    return facts


def _facts_of_shapes(things: Sequence[Any]) -> set[Fact]:
    """Return the facts of :class:`Thing` or :class:`Mention`, which have the same fields."""
    facts: set[Fact] = set()
    for thing in things:
        if thing.shape is not None:
            facts.add(("", "", thing.shape))
            values = ((kind, getattr(thing, kind)) for kind in TRUE_CLASSES)
            facts.update((kind, value, thing.shape) for kind, value in values if value)
    return facts


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
