"""The captions that a run was trained on."""

from pathlib import Path

from multispace.data.cache.reader import Cache
from multispace.errors import PipelineError
from multispace.pipeline.cache_transfer import local_cache
from multispace.pipeline.runs.run_folder import Run


def training_captions(run: Run, where: Path | str | None = None) -> list[list[str]]:
    """Return the captions of each training image of a run.

    :param where: the cache that it was trained from, if no longer where it was
    :raises PipelineError: the cache is not there, or is another one.
    """
    options = run.config["options"]
    place: Path | str = where or str(options["cache"])
    if where is None and "://" not in str(place) and not Path(place).is_dir():
        raise PipelineError(
            f"a consensus needs the training captions, but the cache {place} is not there",
            where=run.folder,
            hint="give the cache that it was trained from: --cache DIR",
        )
    cache = Cache.open(local_cache(place))
    run.check_cache(cache)
    return [*cache.captions(options["train_split"]).references().values()]
