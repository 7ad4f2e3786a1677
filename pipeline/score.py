"""Score captions in COCO's results format against the references of an annotation file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multispace.data.annotations import read_collection
from multispace.errors import PipelineError, shown
from multispace.pipeline.metrics.captions.coco_metrics import (
    Scores,
    score_captions,
    scores_table,
)
from multispace.pipeline.metrics.captions.metric import TIME_LIMIT, ImageId
from multispace.pipeline.metrics.captions.registry import METRICS, check_metrics

FORMAT = '[{"image_id": ..., "caption": "..."}, ...]'
SHOWN = 3  # image ids in an error message


@dataclass(frozen=True, kw_only=True)
class ScoredResults(Scores):
    """Result of `score`.

    :param name: of the results, in the table
    """

    name: str

    def to_json(self) -> dict[str, Any]:
        """Return the corpus scores."""
        return {
            "pictures": len(self.per_image),
            "scores": self.corpus,
            "notes": list(self.notes),
        }

    def render(self) -> str:
        """Return the corpus scores as a table."""
        return f"{len(self.per_image)} images\n{scores_table({self.name: self.corpus})}"


def score_results(
    results: Path,
    annotations: Path,
    metrics: Sequence[str] = METRICS,
    *,
    time_limit: float = TIME_LIMIT,
) -> ScoredResults:
    """Score a results file, ours or another's, by the COCO metrics.

    Only the images in the results are scored, in the order of the annotations. Image ids are
    compared as text, so 42 and "42" name the same image; the scores carry the annotations'.

    :param results: COCO results format, one caption an image.
    :param annotations: captions in any format that ``read_collection`` knows.
    :param metrics: names from METRICS.
    :param time_limit: seconds for each of the Java programs behind the metrics.

    Raises PipelineError for a results file that cannot be used, AnnotationError for such
    annotations, and what ``score_captions`` raises.
    """
    check_metrics(metrics)
    captions = read_results(results)
    names = {str(image_id): image_id for image_id in captions}
    references: dict[ImageId, Sequence[str]] = {}
    hypotheses: dict[ImageId, str] = {}
    for image in read_collection(annotations).images:
        named = names.pop(str(image.image_id), None)
        if named is not None:
            references[image.image_id] = image.captions
            hypotheses[image.image_id] = captions[named]
    if names:
        first = ", ".join(shown(image_id) for image_id in list(names.values())[:SHOWN])
        raise PipelineError(
            f"{results}: {len(names)} of its {len(captions)} images, such as image_id {first}, "
            f"have no captions in {annotations}; score against the annotations of these images"
        )
    scores = score_captions(references, hypotheses, metrics, time_limit)
    return ScoredResults(**vars(scores), name=results.stem)


def read_results(path: Path) -> dict[ImageId, str]:
    """Return the captions of a COCO results file by image id, in its order.

    Raises PipelineError that names the file, the value and the mend.
    """
    try:
        entries = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{path}: is not JSON ({error}); expected {FORMAT}") from error
    captions: dict[ImageId, str] = {}
    taken: set[str] = set()
    for place, image_id, caption in _entries(path, entries):
        if str(image_id) in taken:
            raise PipelineError(
                f"{path}: {place} is a second caption of image_id {shown(image_id)}; keep one"
            )
        taken.add(str(image_id))
        captions[image_id] = caption
    return captions


def results_format(captions: Mapping[ImageId, str]) -> list[dict[str, Any]]:
    """Return captions in COCO results format, as :func:`read_results` reads them."""
    return [{"image_id": image_id, "caption": text} for image_id, text in captions.items()]


def _entries(path: Path, entries: Any) -> Iterator[tuple[str, ImageId, str]]:
    if not isinstance(entries, list):
        raise PipelineError(f"{path}: holds {shown(entries)}; expected {FORMAT}")
    if not entries:
        raise PipelineError(f"{path}: holds no captions; expected {FORMAT}")
    for index, entry in enumerate(entries):
        place = f"entry {index}"
        if not isinstance(entry, dict):
            raise PipelineError(f"{path}: {place} is {shown(entry)}; expected {FORMAT}")
        for field in ("image_id", "caption"):
            if field not in entry:
                raise PipelineError(f"{path}: {place} has no {field!r}; expected {FORMAT}")
        image_id, caption = entry["image_id"], entry["caption"]
        # bool is a subclass of int, and no image is called true
        if not isinstance(image_id, int | str) or isinstance(image_id, bool):
            raise PipelineError(
                f"{path}: image_id {shown(image_id)} of {place} is neither a whole number nor "
                "text; write the id that the annotations have"
            )
        if not isinstance(caption, str):
            raise PipelineError(
                f"{path}: caption {shown(caption)} of {place} is not text; write one caption "
                "an image, as text"
            )
        yield place, image_id, caption
