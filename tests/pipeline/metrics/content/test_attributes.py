import pytest

from multispace.data.shapes.scene import Scene, Thing
from multispace.pipeline.metrics.content.attributes import (
    attribute_scores,
    attribute_table,
    true_attribute_scores,
)

REFERENCES = {
    1: ["a big red bus", "a large bus that is red", "the bus on the road"],
    2: ["two black dogs", "two dogs and a man", "a pair of puppies with a ball"],
    3: ["a cat on a striped couch", "a kitten", "a wooden table"],
}


def test_planted_mistakes_are_counted_by_hand():
    said = {
        1: "a blue bus beside a huge red automobile",  # blue bus, big car, red car: wrong; a car
        2: "two dogs and a red ball",  # red ball is wrong
        3: "a cat on a striped sofa",  # all right
    }
    scores = attribute_scores(REFERENCES, said)
    assert scores["pictures"] == 3
    objects = scores["objects"]
    assert (objects["mentioned"], objects["right"]) == (6, 5)
    assert objects["hallucination_rate"] == pytest.approx(1 / 6)
    assert objects["captions_with_hallucination"] == pytest.approx(1 / 3)
    # Named by two: bus, dog, cat.
    assert (objects["agreed"], objects["found"], objects["recall"]) == (3, 3, 1)
    counts = {
        kind: tuple(row[n] for n in ("mentioned", "right", "agreed", "found"))
        for kind, row in scores["attributes"].items()
    }
    assert counts == {
        "colour": (3, 0, 1, 0),  # red bus is agreed
        "size": (1, 0, 1, 0),  # big bus is
        "number": (1, 1, 1, 1),  # two dogs: all three say so
        "pattern": (1, 1, 0, 0),
        "material": (0, 0, 0, 0),
    }
    by_image = {entry["image_id"]: entry["counts"] for entry in scores["per_image"]}
    assert by_image[2] == {
        "objects": [2, 2, 1, 1], "colour": [1, 0, 0, 0], "number": [1, 1, 1, 1]
    }  # fmt: skip
    assert scores["attributes"]["pattern"]["recall"] is None
    assert scores["all"]["precision"] == pytest.approx(2 / 6)
    rows = {row[0]: row[1:] for row in attribute_table(scores)[1]}
    assert rows["colour"] == ["3", "0.0%", "0.0%"]
    assert rows["material"] == ["0", "-", "-"]


def test_agreement_is_how_many_references_say_so():
    said = {1: "a red bus"}
    for agreement, agreed in ((1, 1), (2, 1), (3, 0)):
        scores = attribute_scores(REFERENCES, said, agreement)
        assert scores["attributes"]["colour"]["agreed"] == agreed


def test_synonyms_plurals_and_case_do_not_matter():
    scores = attribute_scores({1: ["a grey puppy"]}, {1: "Two GRAY dogs"})
    assert scores["attributes"]["colour"]["precision"] == 1
    assert scores["attributes"]["number"]["precision"] == 0
    assert scores["objects"]["hallucination_rate"] == 0


def test_surroundings_are_not_hallucinated():
    scores = attribute_scores({1: ["a dog"]}, {1: "a dog on green grass with a cat"})
    assert scores["objects"]["mentioned"] == 2
    assert scores["objects"]["hallucination_rate"] == 0.5
    assert scores["attributes"]["colour"]["right"] == 0


def test_generated_images_are_scored_exactly():
    scene = Scene(
        Thing("circle", "red", "large", "striped"), Thing("star", "blue", "small", "plain"), "above"
    )
    said = {7: "a big red disc with dots above a green star", 8: "a red circle and a square"}
    scores = true_attribute_scores({7: scene.factors(), 8: scene.factors()}, said)
    assert scores["against"] == "factors"
    rows = {kind: (row["mentioned"], row["right"], row["agreed"], row["found"])
            for kind, row in scores["attributes"].items()}  # fmt: skip
    assert rows == {"colour": (3, 2, 4, 2), "size": (1, 1, 4, 1), "pattern": (1, 0, 4, 0)}
    assert scores["objects"]["hallucination_rate"] == pytest.approx(1 / 4)
    assert scores["objects"]["recall"] == pytest.approx(3 / 4)
    assert scores["main"] == {"colour": 1, "shape": 1}
