"""What the captions of a split mention, against what its images show."""

from collections.abc import Mapping
from typing import Any

from multispace.data.batches import Pairs
from multispace.data.held_out import shows
from multispace.data.language.pairs import Pair
from multispace.data.shapes.scene import things_of
from multispace.pipeline.inference.decoding import hypotheses
from multispace.pipeline.metrics.content.attributes import attribute_scores, true_attribute_scores
from multispace.pipeline.metrics.content.combinations import Example, composition_scores
from multispace.pipeline.runs.run_folder import Run


def attributes_of(pairs: Pairs, said: Mapping[int | str, str]) -> dict[str, Any]:
    """Score against what was drawn where all images are generated, else the references."""
    factors = pairs.captions.factors or ()
    if factors and all(things_of(entry) for entry in factors):
        return true_attribute_scores(
            dict(zip(pairs.captions.image_ids, factors, strict=True)), said
        )
    return attribute_scores(pairs.captions.references(), said)


def composition_of(
    run: Run,
    pairs: Pairs,
    samples: Mapping[int | str, list[str]],
    *,
    width: int,
    length_penalty: float,
) -> dict[str, Any] | None:
    """Score held-out pairs over the samples, or else over all hypotheses of a beam.

    Return None where the cache holds nothing out, or no image of the split shows it.

    :param samples: by image id; none at all where none were drawn
    """
    captions = pairs.captions
    if captions.held_out is None:
        return None
    held = [Pair.parse(text) for text in captions.held_out.pairs]
    references = captions.references()
    examples = []  # of the images that show a pair: the rest need no second search
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
            run.system,
            pairs.features[rows],
            run.vocabulary,
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
