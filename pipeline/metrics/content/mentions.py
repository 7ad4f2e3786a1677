"""Objects, attributes and held-out pairs in the captions of a split."""

from collections.abc import Mapping
from typing import Any

from multispace.data.batches import Pairs
from multispace.data.captions.vocabulary import Vocabulary
from multispace.data.held_out import shows
from multispace.data.language.pairs import Pair
from multispace.data.shapes.scene import things_of
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.inference.decoding import hypotheses
from multispace.pipeline.metrics.content.attributes import attribute_scores, true_attribute_scores
from multispace.pipeline.metrics.content.combinations import Example, composition_scores


def attributes_of(pairs: Pairs, captions: Mapping[int | str, str]) -> dict[str, Any]:
    """Score captions against what was drawn if all images are generated, else the references.

    :param captions: the caption of each image, by image id
    """
    factors = pairs.captions.factors or ()
    if factors and all(things_of(entry) for entry in factors):
        return true_attribute_scores(
            dict(zip(pairs.captions.image_ids, factors, strict=True)), captions
        )
    return attribute_scores(pairs.captions.references(), captions)


def composition_of(
    system: Captioner,
    pairs: Pairs,
    vocabulary: Vocabulary,
    samples: Mapping[int | str, list[str]],
    *,
    width: int,
    length_penalty: float,
) -> dict[str, Any] | None:
    """Score held-out pairs over the samples of each image, or over all hypotheses of a beam.

    :param samples: by image id; empty where none were drawn
    :param width: of the beam
    :returns: None where the cache holds nothing out, or no image of the split shows a pair
    """
    captions = pairs.captions
    if captions.held_out is None:
        return None
    held = [Pair.parse(text) for text in captions.held_out.pairs]
    references = captions.references()
    examples = []  # only the images that show a pair need a second search
    for row, image in enumerate(pairs.images):
        texts = references[captions.image_ids[image]]
        factors = captions.factors[image] if captions.factors else None
        if any(shows(texts, factors, pair) for pair in held):
            examples.append((row, texts, factors))
    if not examples:
        return None
    rows = [row for row, _, _ in examples]
    if samples:
        made = [samples[captions.image_ids[pairs.images[row]]] for row in rows]
    else:
        made = hypotheses(
            system,
            pairs.features[rows],
            vocabulary,
            width=width,
            length_penalty=length_penalty,
        )
    return {
        "captions": "samples" if samples else "beam",
        **composition_scores(
            captions.held_out.pairs,
            [Example(t, f, m) for (_, t, f), m in zip(examples, made, strict=True)],
        ),
    }
