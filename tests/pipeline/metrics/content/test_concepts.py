from types import SimpleNamespace

import pytest

from multispace.data.shapes import generate_shapes, read_factors
from multispace.pipeline.metrics.content.concepts import (
    CONCEPT_CLASSES,
    concepts_of,
    named_concepts,
    named_shapes,
)

EMPTY = {name: set() for name in CONCEPT_CLASSES}


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("Two pups and a girl in a red shirt .",
         {"noun": {"dog", "girl", "shirt"}, "number": {"two"}, "colour": {"red"}}),
        ("a huge wooden bench and a grayish plaid hat",
         {"noun": {"bench", "hat"}, "size": {"big"}, "material": {"wooden"}, "colour": {"grey"},
          "pattern": {"checked"}}),
        ("men and boys", {"noun": {"man", "boy"}}),
        ("something else", {}),
    ],
)  # fmt: skip
def test_concepts_of_a_caption(caption, named):
    assert named_concepts(caption) == EMPTY | named


def test_concepts_of_a_generated_caption():
    named = {"noun": {"circle", "cross"}, "colour": {"red"}, "size": {"large"},
             "pattern": {"dotted"}}  # fmt: skip
    assert named_shapes("a big red disc above a cross with dots") == EMPTY | named


def test_captions_of_generated_images_are_read_as_such(tmp_path):
    generate_shapes(tmp_path / "shapes", images=10, seed=0, size=32)
    factors = tuple(read_factors(tmp_path / "shapes" / "annotations" / "train.json").values())
    pairs = SimpleNamespace(captions=SimpleNamespace(factors=factors))
    assert concepts_of(pairs, ["a cross"]) == [EMPTY | {"noun": {"cross"}}]
    pairs.captions.factors = (*factors, None)
    assert concepts_of(pairs, ["a cross"]) == [EMPTY]
    pairs.captions.factors = None
    assert concepts_of(pairs, ["a dog"]) == [EMPTY | {"noun": {"dog"}}]
