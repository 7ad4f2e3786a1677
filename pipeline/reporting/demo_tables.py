"""The tables of the demo."""

from collections.abc import Iterable, Mapping
from typing import Any

from multispace.pipeline.console.table import text_table
from multispace.pipeline.evaluate import Evaluation
from multispace.pipeline.metrics.captions.metric_names import LABELS
from multispace.pipeline.metrics.content.attributes import percent
from multispace.pipeline.metrics.samples.diversity_curve import DIVERSITIES, QUALITIES
from multispace.pipeline.reporting.contestants import curve_points, shuffled_nats
from multispace.pipeline.reporting.winners import Answer, use_in_words

METRICS = {name: LABELS.get(name, name) for name in ("Bleu_4", "ROUGE_L", "CIDEr")}


def caption_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return a table of single captions: scores, right colors and distinct captions."""
    head = ["single captions", *METRICS.values(), "colors right", "of", "distinct"]
    rows = []
    for name, found in evaluations.items():
        colours = found.attributes["attributes"]["colour"]
        scores = [f"{found.scores.corpus[metric]:.3f}" for metric in METRICS]
        distinct = found.diversity["captions"]["distinct"]
        rows.append([name, *scores, percent(colours["precision"]), colours["mentioned"], distinct])
    return text_table(head, rows)


def sample_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return a table of samples: CIDEr and diversity at each temperature."""
    count = max(found.record.samples for found in evaluations.values())
    names = (*QUALITIES, *DIVERSITIES)
    rows = []
    for name, found in evaluations.items():
        for place, point in curve_points(name, found).items():
            values = point.to_json()
            rows.append([place, *(f"{values[measure]:.3f}" for measure in names)])
    return text_table([f"{count} samples", *names], rows)


def latent_use_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return a table of latents: KL, nats per caption when shuffled, and a verdict."""
    head = ["latents", "KL of z", "z shuffled", "KL of c", "c shuffled", "categories", "verdict"]
    rows = []
    for name, found in evaluations.items():
        if shuffled := shuffled_nats(found):
            cells: list[str] = [name]
            for channel in ("z", "c"):
                known: dict[str, Any] = found.latents.get(channel, {})
                cells.append(f"{known['kl']:.1f}" if known else "")
                cells.append(f"{shuffled[channel]:+.2f}" if known else "")
            c = found.latents.get("c")
            used = sum(c["usage_perplexity"]) if c else 0.0
            cells.append(f"{used:.0f} of {sum(c['sizes'])}" if c else "")
            rows.append([*cells, use_in_words(shuffled)])
    return text_table(head, rows)


def answer_table(answers: Iterable[Answer]) -> str:
    """Return a table of questions, who wins, and by how much."""
    rows = [[answer.question, answer.answer, answer.evidence] for answer in answers]
    return text_table(["who wins what", "answer", "by"], rows, left=3)
