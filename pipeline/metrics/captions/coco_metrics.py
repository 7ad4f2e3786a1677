"""Scores of captions by the COCO metrics: BLEU, METEOR, ROUGE-L and CIDEr."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from multispace.errors import PipelineError
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.console.table import text_table
from multispace.pipeline.metrics.captions.metric import (
    TIME_LIMIT,
    ImageId,
    MetricScores,
    Scorer,
    Tokens,
)
from multispace.pipeline.metrics.captions.metric_names import LABELS
from multispace.pipeline.metrics.captions.ptb import tokenize
from multispace.pipeline.metrics.captions.registry import METRICS, REGISTRY, check_metrics


@dataclass(frozen=True)
class Scores:
    """Scores of a set of captions, one per image.

    :param corpus: score of the whole set by pycocoevalcap's name, in the order of the registry
    :param per_image: the same names for each image, in the order of the captions
    :param notes: what a reader of the numbers should know, one line each
    :param statistics: for each image and metric, the numbers whose sums over images give the
        corpus score where it is not a mean over images: ``bleu`` and ``meteor``
    """

    corpus: dict[str, float]
    per_image: dict[ImageId, dict[str, float]]
    notes: tuple[str, ...] = ()
    statistics: dict[ImageId, dict[str, list[float]]] = field(default_factory=dict)


def score_captions(
    references: Mapping[ImageId, Sequence[str]],
    captions: Mapping[ImageId, str],
    metrics: Sequence[str] = METRICS,
    time_limit: float = TIME_LIMIT,
) -> Scores:
    """Score one caption per image against the image's references.

    The values are those of pycocoevalcap's ``COCOEvalCap`` on the same images in the same
    order, except for captions without a word, which score 0 by every metric.

    :param references: captions by people; images without a caption to score are left out
    :param captions: the caption of each image to score
    :param metrics: names from METRICS
    :param time_limit: seconds for each of the two Java programs
    :raises OptionError: a metric is unknown.
    :raises PipelineError: there are no captions, or an image has no reference.
    :raises JavaError: a Java program fails.
    """
    with _started(metrics, time_limit) as score:
        return score(references, captions)


@contextmanager
def scored_beside(
    references: Mapping[ImageId, Sequence[str]],
    captions: Mapping[ImageId, str],
    metrics: Sequence[str] = METRICS,
) -> Iterator[Callable[[], Scores]]:
    """Score captions as :func:`score_captions` does, in a thread, beside the work of the block.

    The thread mostly waits for Java, which takes longer than all other scores. Java ends with
    the block.

    :returns: a function that waits for the scores, and raises what :func:`score_captions` raises
    """
    with ThreadPoolExecutor(1) as pool, _started(metrics, TIME_LIMIT) as score:
        yield pool.submit(score, references, captions).result


@contextmanager
def _started(
    metrics: Sequence[str], time_limit: float
) -> Iterator[Callable[[Mapping[ImageId, Sequence[str]], Mapping[ImageId, str]], Scores]]:
    """Start the programs of the metrics, and give the function that scores."""
    check_metrics(metrics)
    asked = {name: metric for name, metric in REGISTRY.items() if name in metrics}
    with ExitStack() as stack:
        # METEOR loads its tables for seconds: start it before the tokenizer, ask it afterwards.
        scorers = {n: stack.enter_context(m.start(time_limit)) for n, m in asked.items()}
        yield lambda references, captions: _score(scorers, references, captions, time_limit)


def _score(
    scorers: Mapping[str, Scorer],
    references: Mapping[ImageId, Sequence[str]],
    captions: Mapping[ImageId, str],
    time_limit: float,
) -> Scores:
    if not captions:
        raise PipelineError("there are no captions to score", hint="give at least one")
    for image_id in captions:
        if not references.get(image_id):
            raise PipelineError(
                f"image {image_id!r} has no reference captions",
                hint="leave it out of the captions",
            )
    gts, res = _tokenize_both(references, captions, time_limit)
    results = {}
    with Progress(len(scorers), "metrics", "scores") as progress:
        for name, score in scorers.items():
            results[name] = score(gts, res)
            progress.advance()
    notes = [note for name in scorers for note in REGISTRY[name].notes(len(res))]
    return Scores(
        corpus={n: float(s) for result in results.values() for n, s in result.corpus.items()},
        per_image=_by_image(captions, results),
        notes=(*_wordless(gts, res), *notes),
        statistics={
            image_id: {n: r.statistics[row] for n, r in results.items() if r.statistics}
            for row, image_id in enumerate(captions)
        },
    )


def scores_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return corpus scores as a table with a row per name; all rows have the same scores."""
    names = list(dict.fromkeys(name for scores in rows.values() for name in scores))
    cells = [[row, *(f"{scores[name]:.3f}" for name in names)] for row, scores in rows.items()]
    return text_table(["", *(LABELS.get(name, name) for name in names)], cells)


def _tokenize_both(
    references: Mapping[ImageId, Sequence[str]], captions: Mapping[ImageId, str], limit: float
) -> tuple[Tokens, Tokens]:
    texts = [reference for image_id in captions for reference in references[image_id]]
    tokens = iter(tokenize([*texts, *captions.values()], limit))
    gts = {image_id: [next(tokens) for _ in references[image_id]] for image_id in captions}
    return gts, {image_id: [next(tokens)] for image_id in captions}


def _by_image(
    images: Mapping[ImageId, str], results: Mapping[str, MetricScores]
) -> dict[ImageId, dict[str, float]]:
    columns = {n: values for result in results.values() for n, values in result.per_image.items()}
    return {
        image_id: {name: float(values[row]) for name, values in columns.items()}
        for row, image_id in enumerate(images)
    }


def _wordless(gts: Tokens, res: Tokens) -> list[str]:
    """Return notes on the captions, and the images' references, that hold no word."""
    notes = []
    if empty := sum(not caption for (caption,) in res.values()):
        notes.append(f"{empty} of {len(res)} captions hold no word and score 0")
    if empty := sum(not any(texts) for texts in gts.values()):
        notes.append(f"{empty} of {len(res)} images have no reference with a word")
    return notes
