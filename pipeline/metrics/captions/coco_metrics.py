"""The COCO caption metrics: BLEU, METEOR, ROUGE-L and CIDEr, as pycocoevalcap computes them."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor import meteor as pycoco_meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer import ptbtokenizer as pycoco_ptb

from multispace.errors import OptionError, PipelineError
from multispace.pipeline.metrics.java import JavaError, JavaProgram

METRICS = ("bleu", "meteor", "rouge", "cider")
BLEU_NAMES = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4")
NAMES = (*BLEU_NAMES, "METEOR", "ROUGE_L", "CIDEr")
TIME_LIMIT = 600.0  # seconds for each Java program

ImageId = int | str

PTB_JAR = Path(pycoco_ptb.__file__).parent / pycoco_ptb.STANFORD_CORENLP_3_4_1_JAR
PUNCTUATION = frozenset(pycoco_ptb.PUNCTUATIONS)
METEOR_JAR = Path(pycoco_meteor.__file__).parent / pycoco_meteor.METEOR_JAR
SEPARATOR = "|||"  # between the fields of METEOR's lines

# What the tokeniser takes for the end of a line; a caption must stay on its own.
LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x85\u2028\u2029]")


@dataclass(frozen=True)
class Scores:
    """What the metrics say of a set of captions.

    :param corpus: score of the whole set by pycocoevalcap's name, those of NAMES that were asked
        for, in its order.
    :param per_image: the same names for each image, in the order of the hypotheses.
    :param notes: what a reader of the numbers should know, one line each.
    :param statistics: of each image, the numbers whose sums over images give the corpus score
        where that is no mean of images (``captions.corpus``): ``bleu`` and ``meteor``.
    """

    corpus: dict[str, float]
    per_image: dict[ImageId, dict[str, float]]
    notes: tuple[str, ...] = ()
    statistics: dict[ImageId, dict[str, list[float]]] = field(default_factory=dict)


def tokenize(texts: Sequence[str], time_limit: float = TIME_LIMIT) -> list[str]:
    """Split ``texts`` into the metrics' tokens, which come back joined by single spaces.

    These are the Penn Treebank tokens of Stanford CoreNLP in lower case, without the
    punctuation on pycocoevalcap's list (brackets stay, as "-lrb-", for the list has them in
    capitals); a text without other tokens gives an empty string. Raises JavaError.
    """
    if not texts:
        return []
    lines = [LINE_BREAKS.sub(" ", text) for text in texts]
    arguments = ["-cp", str(PTB_JAR), "edu.stanford.nlp.process.PTBTokenizer"]
    arguments += ["-preserveLines", "-lowerCase"]
    with JavaProgram(arguments, name="the PTB tokeniser", time_limit=time_limit) as program:
        answers = program.finish(lines)
    if len(answers) != len(lines):
        raise JavaError(
            f"the PTB tokeniser gave {len(answers)} lines for {len(lines)} captions; "
            "look for control characters in the captions"
        )
    return [
        " ".join(token for token in answer.rstrip().split(" ") if token not in PUNCTUATION)
        for answer in answers
    ]


def score_captions(
    references: Mapping[ImageId, Sequence[str]],
    hypotheses: Mapping[ImageId, str],
    metrics: Sequence[str] = METRICS,
    time_limit: float = TIME_LIMIT,
) -> Scores:
    """Score one caption an image against the image's references.

    The values are those of pycocoevalcap's ``COCOEvalCap`` on the same images in the same
    order, but for captions without a word, which score 0 by every metric.

    :param references: captions by people; images without a hypothesis are left out.
    :param hypotheses: the caption of each image to score.
    :param metrics: names from METRICS.
    :param time_limit: seconds for each of the two Java programs.

    Raises OptionError for an unknown metric, PipelineError for no hypotheses or an image
    without a usable reference, JavaError when a Java program fails.
    """
    check_metrics(metrics)
    if not hypotheses:
        raise PipelineError("there are no captions to score; give at least one")
    for image_id in hypotheses:
        if not references.get(image_id):
            raise PipelineError(
                f"picture {image_id!r} has no reference captions; leave it out of the captions"
            )
    statistics: dict[ImageId, dict[str, list[float]]] = {image_id: {} for image_id in hypotheses}
    with ExitStack() as stack:
        # METEOR takes seconds to load its tables, so it starts first and is asked last.
        meteor = stack.enter_context(_start_meteor(time_limit)) if "meteor" in metrics else None
        gts, res = _tokenize_both(references, hypotheses, time_limit)
        columns: dict[str, tuple[float, Sequence[float]]] = {}
        if "bleu" in metrics:
            columns.update(_score_bleu(gts, res, statistics))
        if "rouge" in metrics:
            columns["ROUGE_L"] = _score_rouge(gts, res)
        if "cider" in metrics:
            columns["CIDEr"] = Cider().compute_score(gts, res)
        if meteor is not None:
            corpus, each, rows = _score_meteor(meteor, gts, res)
            columns["METEOR"] = corpus, each
            for image_id, row in zip(hypotheses, rows, strict=True):
                statistics[image_id]["meteor"] = row
    names = [name for name in NAMES if name in columns]
    return Scores(
        corpus={name: float(columns[name][0]) for name in names},
        per_image={
            image_id: {name: float(columns[name][1][row]) for name in names}
            for row, image_id in enumerate(hypotheses)
        },
        notes=_notes(res, metrics),
        statistics=statistics,
    )


def meteor_of_samples(
    references: Sequence[Sequence[str]],
    samples: Sequence[Sequence[str]],
    time_limit: float = TIME_LIMIT,
) -> list[list[float]]:
    """Return METEOR of each of N captions an image, as tokens. (P images) -> P lists of N

    Raises JavaError.
    """
    gts: Tokens = {row: list(texts) for row, texts in enumerate(references)}
    draws = []
    with _start_meteor(time_limit) as meteor:
        for draw in zip(*samples, strict=True):
            res: Tokens = {row: [text] for row, text in enumerate(draw)}
            draws.append(_score_meteor(meteor, gts, res)[1])
    return [list(row) for row in zip(*draws, strict=True)]


def check_metrics(metrics: Sequence[str]) -> None:
    """Raise OptionError unless ``metrics`` names one or more of METRICS."""
    known = ", ".join(METRICS)
    if not metrics:
        raise OptionError(f"no metric is asked for; the metrics are {known}")
    for metric in metrics:
        if metric not in METRICS:
            raise OptionError(f"unknown metric {metric!r}; the metrics are {known}")


Tokens = dict[ImageId, list[str]]  # what pycocoevalcap's scorers take


def _tokenize_both(
    references: Mapping[ImageId, Sequence[str]], hypotheses: Mapping[ImageId, str], limit: float
) -> tuple[Tokens, Tokens]:
    texts = [caption for image_id in hypotheses for caption in references[image_id]]
    tokens = iter(tokenize([*texts, *hypotheses.values()], limit))
    gts = {image_id: [next(tokens) for _ in references[image_id]] for image_id in hypotheses}
    res = {image_id: [next(tokens)] for image_id in hypotheses}
    for image_id, captions in gts.items():
        if not any(captions):
            raise PipelineError(
                f"picture {image_id!r} has no reference caption with a word in it; "
                "leave it out of the captions"
            )
    return gts, res


def _start_meteor(time_limit: float) -> JavaProgram:
    arguments = ["-Xmx2G", "-jar", str(METEOR_JAR), "-", "-", "-stdio", "-l", "en", "-norm"]
    return JavaProgram(arguments, name="METEOR", time_limit=time_limit)


def _score_bleu(
    gts: Tokens, res: Tokens, statistics: dict[ImageId, dict[str, list[float]]]
) -> dict[str, tuple[float, Sequence[float]]]:
    """Score, and keep length, length of the nearest reference and matches of 1 to 4 words."""
    scorer = BleuScorer(n=4)
    for image_id, (hypothesis,) in res.items():
        scorer += (hypothesis, gts[image_id])
    corpus, each = scorer.compute_score(option="closest")
    for image_id, counts in zip(res, scorer.ctest, strict=True):
        length = counts["testlen"]
        nearest = min(counts["reflen"], key=lambda other: (abs(other - length), other))
        statistics[image_id]["bleu"] = [length, nearest, *counts["correct"]]
    return dict(zip(BLEU_NAMES, zip(corpus, each, strict=True), strict=True))


def _score_meteor(
    meteor: JavaProgram, gts: Tokens, res: Tokens
) -> tuple[float, list[float], list[list[float]]]:
    """Return the corpus score, the scores of the images, and their statistics."""
    lines = []
    for image_id, (hypothesis,) in res.items():
        # As pycocoevalcap does for hypotheses; its references would split at the separator.
        fields = [caption.replace(SEPARATOR, "") for caption in gts[image_id]]
        fields.append(hypothesis.replace(SEPARATOR, "").replace("  ", " "))
        lines.append(f" {SEPARATOR} ".join(["SCORE", *fields]))
    statistics = meteor.exchange(lines, len(lines))
    question = f" {SEPARATOR} ".join(["EVAL", *statistics])
    *each, corpus = [_number(answer) for answer in meteor.exchange([question], len(lines) + 1)]
    return corpus, each, [[_number(value) for value in line.split()] for line in statistics]


def _number(answer: str) -> float:
    try:
        number = float(answer)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise JavaError(f"METEOR answered {answer!r} and not a score; reinstall pycocoevalcap")
    return number


def _score_rouge(gts: Tokens, res: Tokens) -> tuple[float, list[float]]:
    _, each = Rouge().compute_score(gts, res)
    # Without this, an empty caption would match an empty reference perfectly.
    each = [score if caption else 0.0 for score, (caption,) in zip(each, res.values(), strict=True)]
    return np.mean(each), each


def _notes(res: Tokens, metrics: Sequence[str]) -> tuple[str, ...]:
    notes = []
    empty = sum(not caption for (caption,) in res.values())
    if empty:
        notes.append(f"{empty} of {len(res)} captions hold no word and score 0")
    if "cider" in metrics and len(res) < 2:
        notes.append("CIDEr is 0 for a single image, since its weights compare images")
    return tuple(notes)
