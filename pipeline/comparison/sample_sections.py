"""Diversity of samples and the best of n of them, by groups of runs."""

import numpy as np

from multispace.pipeline.comparison.sections import (
    Groups,
    Scorer,
    Section,
    bootstrap_section,
    mean_over_images,
)
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.samples.diversity import COLUMNS, CORPUS_MBLEU, CorpusMBleu
from multispace.pipeline.metrics.samples.oracle import best_of
from multispace.pipeline.runs.groups import EvaluatedRun, how_sampled

PLACE = COLUMNS.index("mBLEU-4") + 1  # of mBLEU-4 of the corpus: beside that of sentences
WITH_CORPUS = (*COLUMNS[:PLACE], CORPUS_MBLEU, *COLUMNS[PLACE:])


def sample_sections(groups: Groups, resamples: int, seed: int) -> tuple[list[Section], list[str]]:
    """Return sections about the samples of the groups that have any, and notes.

    :param resamples: of images and seeds
    :param seed: of the resamples
    """
    sampled = {n: runs for n, runs in groups.items() if all(map(_has_samples, runs))}
    counts = {run.scored.record.samples for runs in sampled.values() for run in runs}
    if not counts:
        return [], []
    if len(counts) > 1:
        return [], [f"samples per image are {sorted(counts)}: diversity does not compare"]
    (count,) = counts
    title = f"diversity of {count} samples per image"
    notes = [
        f"samples of {name}: {draws}"
        for name, runs in sampled.items()
        if (draws := how_sampled(runs[0].scored.record))
    ]
    every = [run for runs in sampled.values() for run in runs]
    if all(run.scored.sample_scores for run in every):
        sections = [
            bootstrap_section(title, WITH_CORPUS, sampled, _corpus_diversity, resamples, seed)
        ]
    else:
        sections = [bootstrap_section(title, COLUMNS, sampled, _diversity, resamples, seed)]
        notes.append(f"no {CORPUS_MBLEU}: an earlier version evaluated some of the runs")
    scored = {n: runs for n, runs in sampled.items() if all(map(_has_cider, runs))}
    if scored:
        sizes = best_of(np.zeros((1, count)))
        sections.append(
            bootstrap_section(
                "CIDEr, best of n samples",
                tuple(f"n = {n}" for n in sizes),
                scored,
                _best_of,
                resamples,
                seed,
            )
        )
    return sections, notes


def _has_samples(run: EvaluatedRun) -> bool:
    return run.scored.samples is not None


def _has_cider(run: EvaluatedRun) -> bool:
    return _cider(run) is not None


def _cider(run: EvaluatedRun) -> Floats | None:
    scores = run.scored.sample_scores
    return scores.cider if scores else None


def _diversity(run: EvaluatedRun) -> Scorer:
    values = run.scored.samples
    assert values is not None  # only runs with samples are asked
    return mean_over_images(values)


def _corpus_diversity(run: EvaluatedRun) -> Scorer:
    scores, means = run.scored.sample_scores, _diversity(run)
    assert scores is not None  # likewise
    mbleu = CorpusMBleu(scores.siblings)
    return lambda weights: np.insert(means(weights), PLACE, mbleu.of(weights), axis=-1)


def _best_of(run: EvaluatedRun) -> Scorer:
    cider = _cider(run)
    assert cider is not None  # likewise
    return mean_over_images(np.stack([*best_of(cider).values()], axis=1))
