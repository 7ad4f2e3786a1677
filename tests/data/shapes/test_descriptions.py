import json
import random
from collections import Counter

import pytest

from multispace.data.shapes import (
    Scene,
    Thing,
    full_captions,
    generate_shapes,
    mentions,
    open_captions,
)
from multispace.data.shapes.descriptions import WAYS, Way, describe
from multispace.data.shapes.generator import WRITERS
from multispace.data.shapes.scene import draw_scene
from multispace.fields import declared_options
from multispace.pipeline.command_options.shapes_options import ShapesOptions

FIELDS = ("shape", "colour", "size", "pattern")
# Where an object is, from the coordinates of its centre alone.
PLACED = {
    "top": lambda x, y: y < 0.5 and abs(x - 0.5) < 0.1,
    "bottom": lambda x, y: y > 0.5 and abs(x - 0.5) < 0.1,
    "left": lambda x, y: x < 0.5 and abs(y - 0.5) < 0.1,
    "right": lambda x, y: x > 0.5 and abs(y - 0.5) < 0.1,
}
BETWEEN = {  # from the first object to the second
    "above": lambda right, down: down > 0.3,
    "over": lambda right, down: down > 0.3,
    "below": lambda right, down: down < -0.3,
    "under": lambda right, down: down < -0.3,
    "left": lambda right, down: right > 0.3,
    "right": lambda right, down: right < -0.3,
}


def scenes(count: int) -> list[Scene]:
    return [draw_scene(random.Random(f"scene {number}")) for number in range(count)]


def agrees(named, thing) -> bool:
    return named.shape == thing.shape and all(
        getattr(named, field) in (None, getattr(thing, field)) for field in FIELDS
    )


def is_true(caption: str, scene: Scene) -> bool:
    """Read a caption back and compare it with the scene, without looking at how it was made."""
    things = (scene.main, scene.other)
    named = mentions(caption)
    places = set(caption.split()) & {*PLACED, *BETWEEN}
    if len(named) == 1:
        return any(
            agrees(named[0], thing) and all(PLACED[place](thing.x, thing.y) for place in places)
            for thing in things
        )
    first, second = named
    return any(
        agrees(first, a)
        and agrees(second, b)
        and all(BETWEEN[place](b.x - a.x, b.y - a.y) for place in places)
        for a, b in (things, things[::-1])
    )


def test_every_way_describes_every_scene_correctly():
    for scene in scenes(100):
        for way in WAYS:
            caption = describe(scene, way)
            assert is_true(caption, scene), caption
            named = mentions(caption)
            assert len(named) == len(way.objects)
            for mention, which in zip(named, way.objects, strict=True):
                thing = getattr(scene, which)
                kinds = {kind for kind in FIELDS if getattr(mention, kind)}
                own = {*way.attributes} - ({"pattern"} if which == "other" else set())
                assert kinds == {"shape", *own}, caption
                assert agrees(mention, thing)


def test_a_wrong_caption_is_found_out():
    scene = Scene(
        Thing("circle", "red", "large", "plain", 0.5, 0.38),
        Thing("star", "blue", "small", "dotted", 0.5, 0.87),
        "above",
    )
    assert is_true("a red circle above a blue star", scene)
    assert is_true("one tiny star under one big disc", scene)
    for wrong in (
        "a red circle below a blue star",
        "a red star",
        "a blue star at the top",
        "a red circle and a blue cross",
        "one striped disc",
    ):
        assert not is_true(wrong, scene), wrong


@pytest.mark.parametrize(
    ("way", "caption"),
    [
        (Way(("main",), False, ("colour",), 0), "an orange circle"),
        (Way(("main",), True, ("colour", "size"), 1), "one big orange disc on the left"),
        (
            Way(("main", "other"), False, ("colour", "pattern"), 0),
            "an orange striped circle and a blue square",
        ),
        (
            Way(("other", "main"), True, ("size", "colour", "pattern"), 1),
            "one little blue box right of one big orange disc with stripes",
        ),
    ],
)
def test_a_way_fixes_the_caption(way, caption):
    scene = Scene(
        Thing("circle", "orange", "large", "striped", 0.38, 0.5),
        Thing("square", "blue", "small", "plain", 0.87, 0.5),
        "left",
    )
    assert describe(scene, way) == caption


def test_the_captions_of_an_image_differ_each_in_its_own_way():
    for number, scene in enumerate(scenes(300)):
        captions = open_captions(scene, random.Random(number))
        assert len(set(captions)) == 5
        assert all(is_true(caption, scene) for caption in captions)
        told = [next(w for w in WAYS if describe(scene, w) == caption) for caption in captions]
        assert len(set(told)) == 5


def test_two_objects_that_look_alike_still_have_five_captions():
    scene = Scene(
        Thing("star", "red", "large", "plain", 0.5, 0.38),
        Thing("star", "red", "small", "plain", 0.5, 0.87),
        "above",
    )
    for seed in range(100):
        assert len(set(open_captions(scene, random.Random(seed)))) == 5


def test_all_ways_are_taken_equally_often_whatever_the_image_shows():
    red, blue = Counter(), Counter()
    for number, scene in enumerate(scenes(3000)):
        captions = open_captions(scene, random.Random(number))
        counts = red if scene.main.colour in ("red", "orange", "yellow", "green") else blue
        counts.update((len(mentions(caption)), caption.split()[0] == "one") for caption in captions)
    for counts in (red, blue):
        total = counts.total()
        # Of the five views two name one object, and half of all captions say "one".
        assert counts[1, True] / total == pytest.approx(2 / 10, abs=0.02)
        assert counts[2, True] / total == pytest.approx(3 / 10, abs=0.02)


def test_equal_seeds_give_equal_captions():
    (scene,) = scenes(1)
    assert open_captions(scene, random.Random(1)) == open_captions(scene, random.Random(1))
    assert open_captions(scene, random.Random(1)) != open_captions(scene, random.Random(2))


def test_the_kind_of_captions_is_recorded_and_leaves_the_images_alone(tmp_path):
    read = {}
    for kind, writer in (("open", open_captions), ("full", full_captions)):
        out = generate_shapes(tmp_path / kind, 20, 0, size=16, captions=kind).out
        read[kind] = json.loads((out / "annotations" / "train.json").read_text())
        assert read[kind]["info"]["captions"] == kind
        rng = random.Random("0/0")
        expected = writer(draw_scene(rng), rng)
        assert [a["caption"] for a in read[kind]["annotations"][:5]] == expected
    assert read["open"]["images"] == read["full"]["images"]
    first = [(tmp_path / kind / "images" / "000000.png").read_bytes() for kind in read]
    assert first[0] == first[1]


def test_the_options_name_the_kinds_of_captions():
    declared = {f.name: (f.default, known.choices) for f, known in declared_options(ShapesOptions)}
    assert declared["captions"] == ("open", tuple(WRITERS))
