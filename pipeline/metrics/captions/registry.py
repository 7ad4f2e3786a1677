"""The caption metrics by their names on the command line."""

from collections.abc import Sequence
from importlib import import_module

from multispace.errors import OptionError
from multispace.pipeline.metrics.captions.metric import Metric
from multispace.pipeline.metrics.captions.metric_names import METRICS

REGISTRY: dict[str, Metric] = {
    name: import_module(f"multispace.pipeline.metrics.captions.{name}").METRIC for name in METRICS
}
NAMES = tuple(name for metric in REGISTRY.values() for name in metric.names)


def check_metrics(metrics: Sequence[str]) -> None:
    """Check that ``metrics`` names one or more of METRICS.

    :raises OptionError: it does not.
    """
    hint = f"the metrics are {', '.join(METRICS)}"
    if not metrics:
        raise OptionError("no metric is given", where="--metrics", hint=hint)
    for metric in metrics:
        if metric not in METRICS:
            raise OptionError(f"unknown metric {metric!r}", where="--metrics", hint=hint)
