"""Score captions in COCO's results format against the references of an annotation file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multispace.data.annotations import CaptionedImage, Collection, Problem, read_collection
from multispace.data.annotations.image_index import ImageIndex
from multispace.data.caption_results import CaptionResult, read_results
from multispace.errors import PipelineError, brief, shown
from multispace.exit_status import SKIPPED
from multispace.long_lists import first_lines
from multispace.pipeline.metrics.captions.coco_metrics import (
    Scores,
    score_captions,
    scores_table,
)
from multispace.pipeline.metrics.captions.metric import TIME_LIMIT, ImageId
from multispace.pipeline.metrics.captions.registry import METRICS, check_metrics
from multispace.pipeline.runs.evaluation_folder import digest_references
from multispace.pipeline.runs.signature import results_signature

MAX_SHOWN = 3  # image ids in an error message


@dataclass(frozen=True, kw_only=True)
class ScoredResults(Scores):
    """Result of `score`.

    :param name: of the results, in the table
    :param signature: a line to paste below a table of the scores
    :param problems: entries of the annotations that were skipped
    """

    name: str
    signature: str
    problems: tuple[Problem, ...] = ()

    @property
    def exit_status(self) -> int:
        """3 if entries of the annotations were skipped."""
        return SKIPPED if self.problems else 0

    def to_json(self) -> dict[str, Any]:
        """Return the corpus scores."""
        return {
            "pictures": len(self.per_image),
            "scores": self.corpus,
            "signature": self.signature,
            "notes": list(self.notes),
            "skipped": [str(problem) for problem in self.problems],
        }

    def render(self) -> str:
        """Return the corpus scores as a table."""
        table = scores_table({self.name: self.corpus})
        return f"{len(self.per_image)} images\n{table}\nsignature: {self.signature}"

    def messages(self) -> list[str]:
        """Return the first entries of the annotations that were skipped, and their number."""
        return first_lines([f"skipped: {brief(problem)}" for problem in self.problems])


def score_results(
    results: Path,
    annotations: Path,
    metrics: Sequence[str] = METRICS,
    *,
    time_limit: float = TIME_LIMIT,
) -> ScoredResults:
    """Score a results file, from this software or another, by the COCO metrics.

    Only the images in the results are scored, in the order of the annotations. An image is found
    by its file name, if the results have it, or by its id (:class:`ImageIndex`).

    :param results: COCO results format, one caption per image
    :param annotations: captions in any format that ``read_collection`` knows
    :param metrics: names from METRICS
    :param time_limit: seconds for each of the Java programs that the metrics use
    :raises DataError: the results or the annotations cannot be read.
    :raises PipelineError: an image of the results has no captions in the annotations.
    """
    check_metrics(metrics)
    entries = read_results(results)
    collection = read_collection(annotations)
    captions = _matched(entries, collection, results)
    references: dict[ImageId, Sequence[str]] = {}
    hypotheses: dict[ImageId, str] = {}
    for image in collection.images:
        if image.key in captions:
            references[image.image_id] = image.captions
            hypotheses[image.image_id] = captions[image.key]
    scores = score_captions(references, hypotheses, metrics, time_limit)
    notes = [*collection.notes]
    if left := len(collection.images) - len(hypotheses):
        notes.append(f"{left} annotated images have no caption in {results} and were not scored")
    _, digest = digest_references(references)
    return ScoredResults(
        **{**vars(scores), "notes": (*scores.notes, *notes)},
        name=results.stem,
        signature=str(results_signature(metrics, len(references), digest)),
        problems=collection.problems,
    )


def _matched(
    entries: Sequence[CaptionResult], collection: Collection, results: Path
) -> dict[str, str]:
    """Return the captions of the results by the keys of their images.

    :raises PipelineError: an image is not in the annotations, or has two captions.
    """
    index = ImageIndex(collection.images)
    captions: dict[str, str] = {}
    unknown = []
    for entry in entries:
        image = _find(index, entry)
        if image is None:
            unknown.append(entry.image_id)
        elif captions.setdefault(image.key, entry.caption) != entry.caption:
            raise PipelineError(
                f"{entry.place} is a second caption of {image.key}", where=results, hint="keep one"
            )
    if unknown:
        first = ", ".join(map(shown, unknown[:MAX_SHOWN]))
        raise PipelineError(
            f"{len(unknown)} of its {len(entries)} images, such as image_id {first}, have no "
            f"captions in {collection.source}",
            where=results,
            hint="score against the annotations of these images",
        )
    return captions


def _find(index: ImageIndex, entry: CaptionResult) -> CaptionedImage | None:
    if entry.file_name is not None and (image := index.by_name(entry.file_name)) is not None:
        return image
    return index.by_id(entry.image_id)
