"""The generated collection: pictures of two shapes, their captions, and the truth about both.

Every picture shows a main object (large or medium) and another, small one above, below, left
or right of it. Each object has a shape, a colour, a size and a pattern, drawn independently and
uniformly, so that whatever a model says about a picture can be checked exactly.
"""

import itertools
import json
import math
import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from data.atomic import sync_folder
from data.errors import AnnotationError, DataError

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (205, 40, 60),
    "orange": (244, 134, 36),
    "yellow": (250, 222, 70),
    "green": (40, 168, 88),
    "blue": (48, 100, 206),
    "purple": (130, 62, 188),
    "pink": (236, 120, 200),
    "black": (50, 50, 56),
}
# The first word of each tuple is the value's own name, the others its synonyms in captions.
SHAPES = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross",),
}
SIZES = {
    "large": ("large", "big"),
    "medium": ("medium",),
    "small": ("small", "little", "tiny"),
}
PATTERNS = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripes"),
    "dotted": ("dotted", "spotted", "dots", "spots"),
}
NOUNS = {"stripes", "dots", "spots"}  # pattern words that follow "with"
RELATIONS = {
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "left": ("to the left of", "left of", "beside"),
    "right": ("to the right of", "right of", "beside"),
}
OPPOSITE = {"above": "below", "below": "above", "left": "right", "right": "left"}
ARTICLES = ("a", "an", "the")

MAIN_SIZES = ("large", "medium")  # the other object is always small
RADIUS = {"large": 0.29, "medium": 0.23, "small": 0.08}  # of the picture's side
PLACE_JITTER = 0.02  # of the picture's side
SIZE_JITTER = 0.04  # of the radius
PATTERN_TINT = 0.5  # how far stripes and dots are from the colour towards white
BACKGROUND: Colour = (247, 245, 240)
PICTURE_SIDE = 128  # pixels
SUPERSAMPLING = 3
CAPTIONS_PER_PICTURE = 5
FEWEST_IMAGES = 10  # below it the 80/10/10 division leaves a split empty


@dataclass(frozen=True)
class Thing:
    """One object; ``x``, ``y`` (centre) and ``radius`` are fractions of the picture's side."""

    shape: str
    colour: str
    size: str
    pattern: str
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.25


@dataclass(frozen=True)
class Scene:
    """What one picture shows: the main object stands ``relation`` the other."""

    main: Thing
    other: Thing
    relation: str

    def factors(self) -> dict[str, Any]:
        """Give the true factors: ``objects`` (main first), ``relation``, and ``flat``.

        ``flat`` maps the names of :func:`factor_values`, in that order, to this picture's values.
        """
        main, other = asdict(self.main), asdict(self.other)
        flat = {name: main[name] for name in ("shape", "colour", "size", "pattern")}
        flat["relation"] = self.relation
        flat |= {f"other_{name}": other[name] for name in ("shape", "colour", "pattern")}
        return {"objects": [main, other], "relation": self.relation, "flat": flat}


@dataclass(frozen=True)
class Mention:
    """One object as a caption names it; None where the caption does not say."""

    shape: str | None
    colour: str | None
    size: str | None
    pattern: str | None


@dataclass(frozen=True)
class ShapesSummary:
    """What :func:`generate_shapes` wrote: pictures of each split, and captions in all."""

    out: Path
    pictures: dict[str, int]
    captions: int
    held_out: tuple[str, ...]


def factor_values() -> dict[str, tuple[str, ...]]:
    """Give the flat factors of a picture and the values that each can take."""
    every = {"shape": tuple(SHAPES), "colour": tuple(COLOURS), "pattern": tuple(PATTERNS)}
    main = {"shape": every["shape"], "colour": every["colour"], "size": MAIN_SIZES}
    main |= {"pattern": every["pattern"], "relation": tuple(RELATIONS)}
    return main | {f"other_{name}": values for name, values in every.items()}


def generate_shapes(
    out: Path, images: int, seed: int, hold_out: Sequence[str] = (), size: int = PICTURE_SIDE
) -> ShapesSummary:
    """Write a collection of ``images`` pictures of ``size`` x ``size`` pixels in COCO form.

    ``out`` gets ``images/*.png`` and ``annotations/{train,val,test}.json`` (80, 10 and 10 per
    cent). Each combination in ``hold_out`` ("red circle": a colour, size or pattern and a shape)
    is kept out of these; ``annotations/held-out.json`` then has a further ``images // 10``
    pictures (at least one a combination), each of which shows one of them, in the main object
    unless the combination says small. An image entry holds ``factors`` (see
    :meth:`Scene.factors`). Equal arguments give equal bytes under equal versions of Pillow, and a
    picture that no combination touches is the same with and without ``hold_out``.

    ``out`` appears only when whole. Raises :class:`DataError` where ``out`` has contents,
    ``images`` is below 10, ``size`` is below 16, a combination is not known, or the combinations
    leave nothing to draw.
    """
    if images < FEWEST_IMAGES:
        raise DataError(f"images is {images}; give at least {FEWEST_IMAGES}, so no split is empty")
    if size < 16:
        raise DataError(f"size is {size} pixels; give at least 16, so that shapes can be told")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: already has contents; give another folder, or remove it first")
    held = _parse_hold_out(hold_out)
    tenth = images // 10
    counts = {"train": images - 2 * tenth, "val": tenth, "test": tenth}
    if held:
        counts["held-out"] = max(tenth, len(held))
    names = tuple(f"{attribute} {shape}" for attribute, shape in held)

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        whole = Path(temporary) / "collection"
        (whole / "images").mkdir(parents=True)
        (whole / "annotations").mkdir()
        first = 0
        for split, count in counts.items():
            entries, annotations = [], []
            for index in range(first, first + count):
                rng = random.Random(f"{seed}/{index}")
                show = held[index % len(held)] if split == "held-out" else None
                scene = _draw_scene(rng, held, show)
                file_name = f"{index:06d}.png"
                render(scene, size).save(whole / "images" / file_name, compress_level=3)
                entries.append(
                    {
                        "id": index,
                        "file_name": file_name,
                        "width": size,
                        "height": size,
                        "factors": scene.factors(),
                    }
                )
                for number, caption in enumerate(captions_of(scene, rng)):
                    identity = index * CAPTIONS_PER_PICTURE + number
                    annotations.append({"id": identity, "image_id": index, "caption": caption})
            info = {
                "description": "generated shapes",
                "split": split,
                "seed": seed,
                "held_out": names,
                "factors": factor_values(),
            }
            document = {"info": info, "images": entries, "annotations": annotations}
            text = json.dumps(document, indent=None, separators=(",", ":"))
            (whole / "annotations" / f"{split}.json").write_text(text, encoding="utf-8")
            first += count
        os.sync()  # once for thousands of small files, instead of one fsync for each
        os.replace(whole, out)
    sync_folder(out.parent)
    return ShapesSummary(out, counts, first * CAPTIONS_PER_PICTURE, names)


def read_factors(path: Path) -> dict[str, dict[str, Any]]:
    """Read the true factors of a generated annotation file, by the pictures' file names."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {entry["file_name"]: entry["factors"] for entry in document["images"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnnotationError(
            f"{path}: no factors can be read ({error!r}); give an annotation file of `shapes`"
        ) from error


def render(scene: Scene, size: int = PICTURE_SIDE) -> Image.Image:
    """Draw ``scene`` as an RGB picture of ``size`` x ``size`` pixels."""
    side = size * SUPERSAMPLING
    picture = Image.new("RGB", (side, side), BACKGROUND)
    for thing in (scene.main, scene.other):
        radius = thing.radius * side
        width = math.ceil(2.6 * radius)  # holds the star, the widest outline
        mask = Image.new("L", (width, width), 0)
        outline = _outline(thing.shape, width / 2, radius)
        if outline:
            ImageDraw.Draw(mask).polygon(outline, fill=255)
        else:
            box = (width / 2 - radius,) * 2 + (width / 2 + radius,) * 2
            ImageDraw.Draw(mask).ellipse(box, fill=255)
        corner = (round(thing.x * side - width / 2), round(thing.y * side - width / 2))
        picture.paste(_patterned(thing, width, radius), corner, mask)
    return picture.reduce(SUPERSAMPLING)


def captions_of(scene: Scene, rng: random.Random) -> list[str]:
    """Draw five different captions, all true; the main object comes first in each, and its
    shape and colour are always named.
    """
    captions: dict[str, None] = {}
    while len(captions) < CAPTIONS_PER_PICTURE:
        captions[_caption(scene, rng)] = None
    return list(captions)


def mentions(caption: str) -> list[Mention]:
    """Give the objects that ``caption`` names, in its order, synonyms resolved.

    An object begins at an article and reaches to the next; in it the first word of each kind
    counts. Stretches that name neither a shape nor a colour ("to the left of") are no objects.
    """
    groups: list[list[str]] = [[]]
    for word in caption.lower().replace(",", " ").replace(".", " ").split():
        if word in ARTICLES:
            groups.append([])
        groups[-1].append(word)
    found = [
        Mention(*(next((known[w] for w in group if w in known), None) for known in _VALUES))
        for group in groups
    ]
    return [mention for mention in found if mention.shape or mention.colour]


def caption_accuracy(
    captions: Mapping[str, str], factors: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Give the shares of ``captions`` right about the main object's ``colour`` and ``shape``.

    Both map a picture's key to its caption or its factors. The object that the caption names
    first is held against the picture's main object, each factor on its own; one that is not
    named is wrong. Raises :class:`DataError` where a caption's picture has no factors.
    """
    if not captions:
        raise DataError("there is no caption to judge; give the captions of at least one picture")
    right = {"colour": 0, "shape": 0}
    for key, caption in captions.items():
        if key not in factors:
            raise DataError(f"{key}: has a caption but no factors; give its split's annotations")
        named = mentions(caption)
        for factor in right if named else ():
            right[factor] += getattr(named[0], factor) == factors[key]["objects"][0][factor]
    return {factor: count / len(captions) for factor, count in right.items()}


_VALUES: list[dict[str, str]] = [
    {word: value for value, words in names.items() for word in words}
    for names in (SHAPES, {colour: (colour,) for colour in COLOURS}, SIZES, PATTERNS)
]


def _parse_hold_out(hold_out: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Give (attribute, shape) pairs without repeats."""
    known = (*COLOURS, *SIZES, *PATTERNS)
    pairs: dict[tuple[str, str], None] = {}
    for text in hold_out:
        words = text.split()
        if len(words) != 2 or words[0] not in known or words[1] not in SHAPES:
            raise DataError(
                f"hold-out {text!r} is not an attribute and a shape; "
                f"attributes: {', '.join(known)}; shapes: {', '.join(SHAPES)}"
            )
        pairs[words[0], words[1]] = None
    for sizes in (MAIN_SIZES, ("small",)):
        every = itertools.starmap(Thing, itertools.product(SHAPES, COLOURS, sizes, PATTERNS))
        if all(_shows(thing, tuple(pairs)) for thing in every):
            raise DataError(f"hold-outs {list(hold_out)} leave nothing to draw; hold out fewer")
    return tuple(pairs)


def _shows(thing: Thing, pairs: Sequence[tuple[str, str]]) -> bool:
    attributes = (thing.colour, thing.size, thing.pattern)
    return any(thing.shape == shape and attribute in attributes for attribute, shape in pairs)


def _draw_scene(
    rng: random.Random, held: Sequence[tuple[str, str]], show: tuple[str, str] | None
) -> Scene:
    """Draw a scene with none of ``held`` in it or, where ``show`` is given, with that one."""
    avoided = () if show else held
    main = _draw_thing(rng, MAIN_SIZES, avoided)
    other = _draw_thing(rng, ("small",), avoided)
    if show:
        attribute, shape = show
        if attribute == "small":
            other = replace(other, shape=shape)
        elif attribute in COLOURS:
            main = replace(main, shape=shape, colour=attribute)
        elif attribute in SIZES:
            main = replace(main, shape=shape, size=attribute)
        else:
            main = replace(main, shape=shape, pattern=attribute)
    relation = rng.choice(list(RELATIONS))
    # Positions vary little: average pooling mixes place with shape, and an untrained network
    # then tells shapes apart far less well.
    along = (0.38, 0.87) if relation in ("above", "left") else (0.62, 0.13)
    for_x = relation in ("left", "right")
    placed = []
    for thing, middle in zip((main, other), along, strict=True):
        x, y = (middle, 0.5) if for_x else (0.5, middle)
        placed.append(
            replace(
                thing,
                x=round(x + rng.uniform(-PLACE_JITTER, PLACE_JITTER), 4),
                y=round(y + rng.uniform(-PLACE_JITTER, PLACE_JITTER), 4),
                radius=round(RADIUS[thing.size] * rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER), 4),
            )
        )
    return Scene(placed[0], placed[1], relation)


def _draw_thing(
    rng: random.Random, sizes: Sequence[str], avoided: Sequence[tuple[str, str]]
) -> Thing:
    while True:
        thing = Thing(
            shape=rng.choice(list(SHAPES)),
            colour=rng.choice(list(COLOURS)),
            size=rng.choice(sizes),
            pattern=rng.choice(list(PATTERNS)),
        )
        if not _shows(thing, avoided):
            return thing


def _caption(scene: Scene, rng: random.Random) -> str:
    main = _phrase(scene.main, rng, article=rng.choice(("a", "a", "the")), full=True)
    other = _phrase(scene.other, rng, article="a", full=False)
    relation = rng.choice(RELATIONS[scene.relation])
    opposite = rng.choice(RELATIONS[OPPOSITE[scene.relation]])
    return rng.choice(
        (
            f"{main} {relation} {other}",
            f"{main} {relation} {other}",
            f"{main} is {relation} {other}",
            f"there is {main} {relation} {other}",
            f"a picture of {main} {relation} {other}",
            f"{main} and {other} {opposite} it",
        )
    )


def _phrase(thing: Thing, rng: random.Random, *, article: str, full: bool) -> str:
    """Name ``thing``; colour always where ``full``, size and pattern now and then."""
    shape = rng.choice(SHAPES[thing.shape])
    size = rng.choice(SIZES[thing.size]) if rng.random() < 0.6 else ""
    colour = thing.colour if full or rng.random() < 0.7 else ""
    pattern = rng.choice(PATTERNS[thing.pattern]) if rng.random() < (0.6 if full else 0.2) else ""
    if pattern in NOUNS:
        words = [size, colour, shape, "with", pattern]
    elif colour and pattern and rng.random() < 0.2:
        words = [size, shape, "that", "is", colour, "and", pattern]
    else:
        words = [size, *rng.choice(((colour, pattern), (pattern, colour))), shape]
    words = [word for word in words if word]
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join((article, *words))


def _outline(shape: str, middle: float, radius: float) -> list[tuple[float, float]]:
    """Give the corners of ``shape`` in a square of side 2 ``middle``; none for a circle."""
    if shape == "circle":
        return []
    if shape == "square":
        spokes = [(45.0 + 90 * k, 1.33) for k in range(4)]
    elif shape == "triangle":
        spokes = [(120.0 * k, 1.2) for k in range(3)]
        middle_y = middle + 0.2 * radius  # centres the triangle by its height
        return _corners(spokes, middle, middle_y, radius)
    elif shape == "star":
        spokes = [(36.0 * k, 0.48 if k % 2 else 1.18) for k in range(10)]
    else:  # cross
        arm, notch = 18.4, 0.47
        spokes = [
            corner
            for k in range(4)
            for corner in ((90 * k - arm, 1.05), (90 * k + arm, 1.05), (90 * k + 45, notch))
        ]
    return _corners(spokes, middle, middle, radius)


def _corners(
    spokes: Sequence[tuple[float, float]], x: float, y: float, radius: float
) -> list[tuple[float, float]]:
    """Turn (degrees clockwise from the top, length in radii) into points around (x, y)."""
    return [
        (
            x + length * radius * math.sin(math.radians(degrees)),
            y - length * radius * math.cos(math.radians(degrees)),
        )
        for degrees, length in spokes
    ]


def _patterned(thing: Thing, width: int, radius: float) -> Image.Image:
    """Give a square of ``thing``'s colour and pattern, to be cut out by its outline."""
    colour = COLOURS[thing.colour]
    tile = Image.new("RGB", (width, width), colour)
    light = tuple(round(value + (255 - value) * PATTERN_TINT) for value in colour)
    draw = ImageDraw.Draw(tile)
    if thing.pattern == "striped":
        period = radius * 0.5
        for k in range(math.ceil(2 * width / period)):
            left = k * period - width
            half = period / 2
            corners = [(left, width), (left + half, width), (left + half + width, 0)]
            draw.polygon([*corners, (left + width, 0)], fill=light)
    elif thing.pattern == "dotted":
        period, dot = radius * 0.5, radius * 0.15
        reach = math.ceil(width / period)
        for row, column in itertools.product(range(-reach, reach + 1), repeat=2):
            x = width / 2 + (column + row % 2 / 2) * period
            y = width / 2 + row * period * 0.87
            draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=light)
    return tile
