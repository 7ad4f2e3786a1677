"""Evaluated runs written without training."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from multispace.data.files import json_bytes, write_json
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.metrics.captions.coco_metrics import Scores
from multispace.pipeline.metrics.captions.image_scores import ImageScores
from multispace.pipeline.metrics.samples import diversity
from multispace.pipeline.metrics.samples.diversity_curve import CurvePoint, DiversityCurve
from multispace.pipeline.runs.evaluation_folder import (
    CURVE,
    DIVERSITY,
    RECORD,
    SAMPLE_SCORES,
    Record,
    base_name,
)
from multispace.pipeline.runs.evaluation_writer import (
    curve_content,
    entries_content,
    scores_content,
    write_evaluation,
)
from support.options import used_by

IMAGES = 40


MADE = Record(
    system="base", split="test", checkpoint="best", step=9, beam=5, length_penalty=0.0, samples=0,
    seed=0, metrics=("bleu", "meteor", "rouge", "cider"), images=IMAGES, without_vector=0,
    pictures_digest="1" * 64, references_digest="2" * 64, vocabulary_digest="3" * 64,
    fingerprint="4" * 64, version="0",
)  # fmt: skip


def write(
    run: Path, *, system="base", seed=0, good=0.0, noise=0, record=None, curve=None, siblings=None,
    **options,
) -> Path:  # fmt: skip
    """Write a run evaluated on 40 images; ``good`` is added to its ROUGE-L and CIDEr.

    :param curve: by temperature, self-CIDEr and the three qualities; the images differ from these
        by noise that is the same at all temperatures and in all runs
    :param siblings: BLEU's statistics of the samples of each image
    """
    used = used_by(system, **options)
    asked = TrainOptions(system=system, cache=run / "c", run=run, seed=seed, **used)
    write_json(run / "config.json", {
        "options": {**options, **asked.to_json()},  # an earlier version records what is not used
        "system": {}, "feature_spec": {}, "fingerprint": "4" * 64,
        "vocabulary_digest": "3" * 64,
    })  # fmt: skip
    random = np.random.default_rng(noise)
    entries = {}
    for image in range(IMAGES):
        length = int(random.integers(5, 12))
        matches = [length - 1, length - 2, length - 4, length - 5]
        meteor = [length, 10, 3, 4, *random.integers(1, 3, 16), 3, 6, 6]
        entries[image] = (
            {"ROUGE_L": good + random.random(), "CIDEr": good + random.random()},
            {"bleu": [length, 10, *matches], "meteor": [float(value) for value in meteor]},
        )
    rows = [{**scores, "statistics": statistics} for scores, statistics in entries.values()]
    corpus = ImageScores.from_entries(rows).totals()
    record = replace(MADE, system=system, curve=tuple(curve or ()), **(record or {}))
    found: dict = {"captions": {"distinct_share": 0.5, "novel_share": 0.25, "words": 90}}
    if record.samples:
        names = dict.fromkeys(diversity.COLUMNS, good + 0.25)
        found["per_image"] = [{"image_id": i, **names} for i in range(IMAGES)]
    scores = Scores(
        corpus, {i: e[0] for i, e in entries.items()}, (), {i: e[1] for i, e in entries.items()},
    )  # fmt: skip
    contents = {**scores_content(scores, "made:by hand"), DIVERSITY: json_bytes(found)}
    if curve:
        shared = np.random.default_rng(5).normal(0, 0.1, (IMAGES, 1))
        shared -= shared.mean()
        points = [CurvePoint(t, 0.5, values + shared) for t, values in curve.items()]
        made = DiversityCurve(record.samples, tuple(range(IMAGES)), tuple(points))
        contents[CURVE] = curve_content(made)
    if siblings:
        contents[SAMPLE_SCORES] = entries_content(
            {"image_id": i, "siblings": siblings, "CIDEr": [0.25 * n for n in range(len(siblings))]}
            for i in range(IMAGES)
        )
    write_evaluation(run, record, contents)
    return run


def place(run: Path, split="test", checkpoint="best") -> Path:
    """Return the folder of the default evaluation."""
    return run / "evaluation" / base_name(split, checkpoint)


def change(folder: Path, **values) -> None:
    """Change ``evaluation.json``; without digests, as earlier versions wrote it."""
    record = json.loads((folder / RECORD).read_text())
    del record["files"]
    write_json(folder / RECORD, {**record, **values})


def add(folder: Path, **files) -> None:
    """Add JSON files to an evaluation, or change them, and renew its digests."""
    record = json.loads((folder / RECORD).read_text())
    for name, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / f"{name}.json").write_bytes(data)
        record["files"][f"{name}.json"] = hashlib.sha256(data).hexdigest()
    write_json(folder / RECORD, record)
