import hashlib
import itertools
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from multispace.data.shapes import (
    Mention,
    Scene,
    Thing,
    caption_accuracy,
    factor_values,
    generate_shapes,
    mentions,
    read_factors,
    render,
)
from multispace.errors import AnnotationError, DataError

SPLITS = ("train", "val", "test")


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def document(folder: Path, split: str) -> dict:
    return json.loads((folder / "annotations" / f"{split}.json").read_text())


def shows(factors: dict, attribute: str, shape: str) -> bool:
    return any(
        thing["shape"] == shape and attribute in (thing["colour"], thing["size"], thing["pattern"])
        for thing in factors["objects"]
    )


def scene(main: dict | None = None, other: dict | None = None, relation: str = "above") -> Scene:
    plain = {"shape": "square", "colour": "blue", "pattern": "plain"}
    place = {"above": (0.5, 0.38), "right": (0.62, 0.5)}[relation]
    away = {"above": (0.5, 0.87), "right": (0.13, 0.5)}[relation]
    return Scene(
        Thing(**{**plain, "size": "large", **(main or {})}, x=place[0], y=place[1], radius=0.29),
        Thing(**{**plain, "size": "small", **(other or {})}, x=away[0], y=away[1], radius=0.08),
        relation,
    )


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """A thousand images with full captions."""
    out = tmp_path_factory.mktemp("shapes") / "thousand"
    generate_shapes(out, images=1000, seed=3, size=16, captions="full")
    return out


def test_the_layout_is_coco_captions_with_disjoint_splits(thousand):
    names: list[str] = []
    for split, count in zip(SPLITS, (800, 100, 100), strict=True):
        read = document(thousand, split)
        assert read["info"]["split"] == split
        assert len(read["images"]) == count
        captions = Counter(annotation["image_id"] for annotation in read["annotations"])
        assert captions == dict.fromkeys((image["id"] for image in read["images"]), 5)
        names += [image["file_name"] for image in read["images"]]
    assert len(set(names)) == 1000
    assert sorted(names) == sorted(os.listdir(thousand / "images"))
    assert not (thousand / "annotations" / "held-out.json").exists()
    with Image.open(thousand / "images" / names[0]) as image:
        assert (image.size, image.mode) == ((16, 16), "RGB")


def test_equal_arguments_give_equal_bytes_and_seeds_differ(tmp_path):
    made = [
        generate_shapes(tmp_path / name, 20, seed, ["red circle"], size=24).out
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, again, other = map(digests, made)
    assert first == again
    same = [name for name in first if name in other and first[name] == other[name]]
    assert len(first) == 20 + 2 + 4
    assert not same


@pytest.mark.parametrize("captions", ["open", "full"])
def test_every_word_passes_the_count_threshold_at_a_thousand_images(captions, thousand, tmp_path):
    if captions == "open":
        thousand = generate_shapes(tmp_path / "s", 1000, 3, size=16).out
    annotations = document(thousand, "train")["annotations"]
    words = Counter(word for each in annotations for word in each["caption"].split())
    assert 30 <= len(words) <= 60
    assert min(words.values()) >= 10


def test_captions_of_an_image_differ_and_are_true(thousand):
    for split in SPLITS:
        read = document(thousand, split)
        factors = {image["id"]: image["factors"] for image in read["images"]}
        seen = Counter((each["image_id"], each["caption"]) for each in read["annotations"])
        assert set(seen.values()) == {1}
        for each in read["annotations"]:
            objects = factors[each["image_id"]]["objects"]
            named = mentions(each["caption"])
            assert len(named) == 2, each["caption"]
            assert named[0].shape
            assert named[0].colour
            assert named[1].shape
            for mention, thing in zip(named, objects, strict=True):
                for factor in ("shape", "colour", "size", "pattern"):
                    assert getattr(mention, factor) in (None, thing[factor]), each["caption"]


WHERE = {
    **dict.fromkeys(("above", "over"), "above"),
    **dict.fromkeys(("below", "under", "beneath"), "below"),
}
BACK = {"above": "below", "below": "above", "left": "right", "right": "left"}


def test_relations_in_captions_and_places_are_true(thousand):
    read = document(thousand, "train")
    factors = {image["id"]: image["factors"] for image in read["images"]}
    for each in factors.values():
        main, other = each["objects"]
        right, down = main["x"] - other["x"], main["y"] - other["y"]
        along, sign = (right, {"left": -1, "right": 1}) if abs(right) > abs(down) else (
            down, {"above": -1, "below": 1})  # fmt: skip
        assert along * sign[each["relation"]] > 0.3
    for each in read["annotations"]:
        words = each["caption"].split()
        said = {WHERE.get(word, word) for word in words} & {*BACK, "beside"}
        assert len(said) == 1
        relation = factors[each["image_id"]]["relation"]
        wanted = BACK[relation] if words[-1] == "it" else relation
        assert said == {wanted} or (said == {"beside"} and wanted in ("left", "right"))


def test_flat_factors_are_fixed_known_and_independent_of_the_split(thousand):
    values = factor_values()
    read = {split: document(thousand, split) for split in SPLITS}
    for each in read.values():
        assert each["info"]["factors"] == {name: list(known) for name, known in values.items()}
        for image in each["images"]:
            flat = image["factors"]["flat"]
            assert list(flat) == list(values)
            assert all(flat[name] in values[name] for name in values)
    for name, known in values.items():
        counts = Counter(i["factors"]["flat"][name] for i in read["train"]["images"])
        expected = 800 / len(known)
        # Chi-squared of 1 to 7 degrees of freedom: far beyond chance.
        statistic = sum((counts[value] - expected) ** 2 / expected for value in known)
        assert statistic < 5 * max(len(known) - 1, 3)
    # Chi-squared of every pair against independence, again far beyond chance.
    rows = [image["factors"]["flat"] for each in read.values() for image in each["images"]]
    for one, two in itertools.combinations(values, 2):
        pairs = Counter((row[one], row[two]) for row in rows)
        expected = len(rows) / len(values[one]) / len(values[two])
        freedom = len(values[one]) * len(values[two]) - 1
        statistic = sum(
            (pairs[pair] - expected) ** 2 / expected
            for pair in itertools.product(values[one], values[two])
        )
        assert statistic < 2 * freedom + 20, (one, two)


@pytest.mark.parametrize("text", ["red circle", "small star", "striped cross", "large square"])
def test_what_is_held_out_shows_only_in_its_own_split(tmp_path, text):
    attribute, shape = text.split()
    summary = generate_shapes(tmp_path / "s", 100, 0, [text, text], size=16, captions="full")
    assert summary.images == {"train": 80, "val": 10, "test": 10, "held-out": 10}
    assert summary.captions == 550
    assert summary.held_out == (text,)
    assert json.loads(json.dumps(summary.to_json())) == summary.to_json()
    lines = summary.render().splitlines()
    assert lines[-1] == f"held-out: 10 images, {tmp_path / 's' / 'annotations' / 'held-out.json'}"
    for split in SPLITS:
        for image in document(tmp_path / "s", split)["images"]:
            assert not shows(image["factors"], attribute, shape)
    held = document(tmp_path / "s", "held-out")
    assert held["info"]["held_out"] == [text]
    for image in held["images"]:
        assert shows(image["factors"], attribute, shape)
        main = image["factors"]["objects"][0]
        assert attribute == "small" or main["shape"] == shape
    truth = read_factors(tmp_path / "s" / "annotations" / "held-out.json")
    captions = {image["id"]: image["file_name"] for image in held["images"]}
    said = {captions[each["image_id"]]: each["caption"] for each in held["annotations"]}
    assert caption_accuracy(said, truth) == {"colour": 1.0, "shape": 1.0}


def test_every_combination_has_its_turn_in_the_held_out_split(tmp_path):
    texts = [f"{colour} star" for colour in ("red", "green", "blue")]
    summary = generate_shapes(tmp_path / "s", 10, 0, texts, size=16)
    assert summary.images["held-out"] == 3
    images = document(tmp_path / "s", "held-out")["images"]
    assert {image["factors"]["flat"]["colour"] for image in images} == {"red", "green", "blue"}


def test_holding_out_changes_only_images_that_showed_it(tmp_path):
    generate_shapes(tmp_path / "all", 50, 0, size=16)
    generate_shapes(tmp_path / "held", 50, 0, ["red circle", "black star"], size=16)
    kept = changed = 0
    for split in SPLITS:
        before = read_factors(tmp_path / "all" / "annotations" / f"{split}.json")
        after = read_factors(tmp_path / "held" / "annotations" / f"{split}.json")
        for name, factors in before.items():
            if shows(factors, "red", "circle") or shows(factors, "black", "star"):
                changed += 1
                assert after[name] != factors
            else:
                kept += 1
                assert after[name] == factors
    assert changed > 0 < kept


@pytest.mark.parametrize(
    "text", ["purple cow", "crimson circle", "circle", "red", "", "circle red"]
)
def test_an_unknown_combination_is_refused_with_the_known_words(tmp_path, text):
    with pytest.raises(DataError, match=r"red, orange.*striped.*circle, square") as caught:
        generate_shapes(tmp_path / "s", 10, 0, [text])
    assert repr(text) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_holding_everything_out_is_refused(tmp_path):
    shapes = factor_values()["shape"]
    with pytest.raises(DataError, match="nothing is left"):
        generate_shapes(tmp_path / "s", 10, 0, [f"small {shape}" for shape in shapes])
    every = [f"{size} {shape}" for size in ("large", "medium") for shape in shapes]
    with pytest.raises(DataError, match="nothing is left"):
        generate_shapes(tmp_path / "s", 10, 0, every)


def test_too_few_images_or_pixels_are_refused(tmp_path):
    with pytest.raises(DataError, match="9 images.*at least 10"):
        generate_shapes(tmp_path / "s", 9, 0)
    with pytest.raises(DataError, match="size 15"):
        generate_shapes(tmp_path / "s", 10, 0, size=15)
    assert generate_shapes(tmp_path / "s", 10, 0, size=16).images == {
        "train": 8, "val": 1, "test": 1}  # fmt: skip


def test_a_folder_with_contents_is_left_alone_and_an_empty_one_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    generate_shapes(tmp_path / "empty", 10, 0, size=16)
    before = digests(tmp_path / "empty")
    with pytest.raises(DataError, match="not an empty folder"):
        generate_shapes(tmp_path / "empty", 10, 1, size=16)
    assert digests(tmp_path / "empty") == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="file: exists"):
        generate_shapes(tmp_path / "file", 10, 1, size=16)


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def failing(scene, size):
        calls.append(scene)
        if len(calls) == 5:
            raise OSError("disk full")
        return render(scene, size)

    monkeypatch.setattr("multispace.data.shapes.generator.render", failing)
    with pytest.raises(OSError, match="disk full"):
        generate_shapes(tmp_path / "s", 10, 0, size=16)
    assert not list(tmp_path.iterdir())


def test_the_written_folder_has_the_users_permissions(tmp_path):
    generate_shapes(tmp_path / "s", 10, 0, size=16)
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "s").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_image_shows_the_scene():
    image = render(scene({"colour": "red"}, {"colour": "green"}, "right"), 100)
    paper = image.getpixel((2, 2))
    assert min(paper) > 230
    red, green, blue = image.getpixel((62, 50))
    assert red > 2 * max(green, blue)
    red, green, blue = image.getpixel((13, 50))
    assert green > 1.5 * max(red, blue)
    # 100 x 100 pixels: the square reaches 0.29 * 1.33 / sqrt(2) = 0.273 from its centre (62, 50).
    assert image.getpixel((62 + 25, 50 + 25)) != paper
    assert image.getpixel((62 + 29, 50)) == paper


def test_shapes_patterns_and_sizes_look_different():
    variants = [
        scene({"shape": shape, "pattern": pattern})
        for shape in factor_values()["shape"]
        for pattern in factor_values()["pattern"]
    ]
    images = [render(variant, 64) for variant in variants]
    assert len({image.tobytes() for image in images}) == len(variants)
    circle = render(scene({"shape": "circle"}), 100)
    # A circle of radius 29 round (50, 38): inside at 20 px along both axes, outside at 22.
    assert circle.getpixel((50 + 20, 38 - 20)) != circle.getpixel((1, 1))
    assert circle.getpixel((50 + 22, 38 - 22)) == circle.getpixel((1, 1))
    plain, dotted = (
        render(scene({"pattern": pattern}), 100).crop((35, 20, 65, 55)).getcolors(2000)
        for pattern in ("plain", "dotted")
    )
    assert len(plain) == 1 < len(dotted)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            "a large red striped circle above a small blue square",
            [("circle", "red", "large", "striped"), ("square", "blue", "small", None)],
        ),
        (
            "The big disc that is black and spotted, to the left of a tiny box.",
            [("circle", "black", "large", "dotted"), ("square", None, "small", None)],
        ),
        (
            "an orange cross with dots and a little solid star below it",
            [("cross", "orange", None, "dotted"), ("star", None, "small", "plain")],
        ),
        ("a picture of the red", [(None, "red", None, None)]),
        ("red triangle over a", [("triangle", "red", None, None)]),
        ("there is a to the left of it", []),
        ("", []),
    ],
)
def test_captions_are_read_back(caption, expected):
    assert mentions(caption) == [Mention(*each) for each in expected]


def test_accuracy_counts_colour_and_shape_of_the_main_object_apart():
    truth = scene({"shape": "circle", "colour": "red"}, {"shape": "star", "colour": "green"})
    captions = {
        "both": "a red disc above a green star",
        "colour": "a red square above a green circle",
        "shape": "a green circle above a red star",
        "other": "a green star below a red circle",
        "silent": "a picture of",
        "part": "the red",
    }
    scores = caption_accuracy(captions, dict.fromkeys(captions, truth.factors()))
    assert scores == {"colour": pytest.approx(3 / 6), "shape": pytest.approx(2 / 6)}


def test_accuracy_without_captions_or_factors_is_refused():
    with pytest.raises(DataError, match="no caption"):
        caption_accuracy({}, {})
    with pytest.raises(DataError, match=r"x\.png"):
        caption_accuracy({"x.png": "a red circle"}, {})


@pytest.mark.parametrize("text", [None, "{", '{"images": [{"file_name": "a.png"}]}', "[1]"])
def test_a_file_without_factors_is_refused(tmp_path, text):
    path = tmp_path / "train.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AnnotationError, match=r"train\.json: .*`multispace shapes`"):
        read_factors(path)
