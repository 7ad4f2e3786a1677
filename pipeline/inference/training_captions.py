"""The captions that a run was trained on."""

from pathlib import Path

from multispace.pipeline.runs.run_cache import open_run_cache
from multispace.pipeline.runs.run_folder import Run


def training_captions(run: Run, where: Path | str | None = None) -> list[list[str]]:
    """Return the captions of each training image of a run, which a consensus needs.

    :param where: the cache that it was trained from, if no longer where it was
    :raises PipelineError: the cache is not there or another one, or the run, an exported model,
        records none.
    """
    cache = open_run_cache(run, where)
    return [*cache.captions(run.config["options"]["train_split"]).references().values()]
