"""The feature cache that a run was trained from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multispace.data.cache.reader import Cache
from multispace.errors import PipelineError
from multispace.pipeline.cache_transfer import local_cache
from multispace.pipeline.runs.run_folder import CONFIG, Run

HINT = "give the cache that it was trained from: --cache DIR"


def open_run_cache(run: Run, given: Path | str | None = None) -> Cache:
    """Open the cache of a run; its features and words must be those of the training.

    :param given: a folder or a URL; by default the one that ``config.json`` records
    :raises PipelineError: the recorded cache is not there, or the cache is another one.
    """
    place = recorded_cache(run.folder, run.config) if given is None else given
    cache = Cache.open(local_cache(place))
    run.check_cache(cache)
    return cache


def recorded_cache(folder: Path, config: Mapping[str, Any]) -> Path | str:
    """Return the folder or URL of the cache that the ``config.json`` of a run records.

    :param folder: of the run
    :raises PipelineError: none is recorded, or the folder is not there.
    """
    place = config["options"].get("cache")
    if not isinstance(place, str) or not place:
        raise PipelineError("records no cache", where=folder / CONFIG, hint=HINT)
    if "://" in place:
        return place
    if not Path(place).is_dir():
        raise PipelineError(
            f"its cache {Path(place).absolute()} is not there", where=folder, hint=HINT
        )
    return Path(place)
