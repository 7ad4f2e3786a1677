"""One METEOR for several scorings."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from multispace.pipeline.metrics.captions.meteor import METRIC, MeteorMetric


@contextmanager
def one_meteor() -> Iterator[None]:
    """Let all scorings in the block ask the same METEOR: each start of one takes ten seconds."""
    with METRIC.start(time_limit=600) as score, pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeteorMetric, "start", lambda self, time_limit: nullcontext(score))
        yield
