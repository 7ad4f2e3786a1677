"""Options of `score`."""

from dataclasses import dataclass, field
from pathlib import Path

from multispace.fields import Options, argument, option, required
from multispace.pipeline.metrics.captions.metric_names import METRICS


@dataclass(frozen=True)
class ScoreOptions(Options):
    """Options of `score`."""

    results: Path = field(
        metadata=argument("JSON file of captions in COCO results format.", path="file")
    )
    annotations: Path = field(
        metadata=required("The annotation file with the reference captions.", path="file")
    )
    metrics: tuple[str, ...] = option(
        "The metrics to compute, separated by commas.", METRICS, choices=METRICS, commas=True
    )
