import pytest

from multispace.data.shapes.scene import Scene, Thing
from multispace.pipeline.metrics.content.combinations import (
    Example,
    composition_lines,
    composition_rows,
    composition_scores,
)


def example(agreeing: int, *captions: str) -> Example:
    references = ["a black dog"] * agreeing + ["an animal"] * (5 - agreeing)
    return Example(references, None, captions)


def test_recall_is_counted_at_each_level_of_agreement():
    examples = [
        example(5, "a dog", "a black puppy"),  # recalled
        example(3, "a black cat", "a black dog"),  # recalled
        example(3, "a dog", "a white dog"),
        example(1, "a cat", "a cat"),
        example(0, "a black dog", "a black dog"),  # shows no pair, by its references
    ]
    scores = composition_scores(["black dog", "red bus"], examples)
    assert scores["k"] == 2
    levels = scores["pairs"]["black dog"]["levels"]
    assert {level: (v["pictures"], v["recalled"]) for level, v in levels.items()} == {
        "1": (4, 2), "2": (3, 2), "3": (3, 2), "4": (1, 1), "5": (1, 1),
    }  # fmt: skip
    assert scores["pairs"]["black dog"]["noun_named"] == pytest.approx(5 / 8)
    assert scores["pairs"]["red bus"] == {
        "levels": {}, "recall_of_first": {}, "noun_named": None,
    }  # fmt: skip
    assert scores["mean_recall"]["1"] == 0.5  # of the pairs that have images
    head, rows = composition_rows(scores)
    assert head == ["pair", ">= 1", ">= 2", ">= 3", ">= 4", ">= 5", "noun"]
    assert rows[0] == ["black dog", "50.0% of 4", "66.7% of 3", "66.7% of 3", "100.0% of 1",
                       "100.0% of 1", "62.5%"]  # fmt: skip
    assert rows[-1][0] == "mean"


def test_the_mean_is_over_pairs_and_not_over_images():
    cats = Example(["a white cat"], None, ["a white cat"])
    dogs = Example(["a black dog"], None, ["a dog"])
    scores = composition_scores(["black dog", "white cat"], [cats, dogs, dogs, dogs])
    assert scores["mean_recall"]["1"] == 0.5


def test_recall_in_the_first_captions():
    cats = Example(["a white cat"], None, ["a cat"] * 5 + ["a white cat"] * 15)
    dogs = [
        Example(["a black dog"], None, ["a dog"] * 4 + ["a black dog"] * 16),
        Example(["a black dog"], None, ["a black dog", *["a dog"] * 19]),
        Example(["a black dog"], None, ["a dog"] * 20),
    ]
    scores = composition_scores(["black dog", "white cat"], [cats, *dogs])
    first = scores["pairs"]["black dog"]["recall_of_first"]
    assert first == pytest.approx({"1": 1 / 3, "5": 2 / 3, "20": 2 / 3})
    assert scores["pairs"]["white cat"]["recall_of_first"] == {"1": 0, "5": 0, "20": 1}
    assert scores["mean_recall_of_first"] == pytest.approx({"1": 1 / 6, "5": 1 / 3, "20": 5 / 6})
    line = "mean recall in the first captions of an image: 16.7% in 1, 33.3% in 5, 83.3% in 20"
    assert composition_lines(scores) == [line]
    assert composition_lines({"k": 20}) == []  # of an earlier version


def test_generated_images_are_judged_by_what_was_drawn():
    red = Thing("circle", "red", "large", "plain")
    other = Thing("star", "blue", "small", "plain")
    shows, shows_not = (
        Scene(main, other, "above").factors()
        for main in (red, Thing("square", "red", "large", "plain"))
    )
    examples = [
        Example(["a disc"], shows, ["a red disc above a star"]),
        Example(["a red circle"], shows, ["a circle above a red star"]),
        Example(["a red circle"], shows_not, ["a red circle"]),
    ]
    scores = composition_scores(["red circle", "ride woman"], examples)
    assert scores["pairs"]["red circle"] == {
        "levels": {"true": {"pictures": 2, "recalled": 1, "recall": 0.5}},
        "recall_of_first": {"1": 0.5}, "noun_named": 1.0,
    }  # fmt: skip
    assert scores["pairs"]["ride woman"]["levels"] == {}
    assert composition_rows(scores)[0] == ["pair", "true", "noun"]
