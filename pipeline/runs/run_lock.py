"""The locks of a run folder: one process at a time writes to it, or to its evaluations.

``RUN/.lock`` is held by `train` from the first write to the last. ``RUN/evaluation/.lock`` is held
by `evaluate` while an evaluation is written and renamed, which takes milliseconds. They are two
locks, so that a checkpoint can be evaluated while training continues: `evaluate` writes to the
folder of evaluations alone, and reads a checkpoint whole even where it is replaced meanwhile
(:func:`multispace.pipeline.runs.checkpoint.load_checkpoint`).
"""

from pathlib import Path

from filelock import FileLock, Timeout

from multispace.errors import PipelineError

LOCK = ".lock"


class RunLock:
    """The writer's lock of a run folder, or of its folder of evaluations.

    The operating system holds the lock for the process and frees it when the process ends. As a
    context manager it is held in the block::

        with RunLock(folder):
            ...

    :param wait: wait until another process frees the lock; otherwise that is an error
    """

    def __init__(self, folder: Path, *, wait: bool = False) -> None:
        self._folder = folder
        self._wait = wait
        # Everyone who may write to the folder may lock it, whoever made the file.
        self._lock = FileLock(folder / LOCK, mode=0o666)

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock.is_locked

    def acquire(self) -> None:
        """Take the lock of the folder, which exists, unless this object holds it already.

        :raises PipelineError: another process holds it, or the folder or the lock is a link.
        """
        if self.is_held:
            return
        check_no_link(self._folder / LOCK)
        try:
            self._lock.acquire(timeout=-1 if self._wait else 0)
        except Timeout:
            raise PipelineError(
                "another process is writing to this run",
                where=self._folder,
                hint="wait until it ends, or choose another run folder",
            ) from None

    def release(self) -> None:
        """Free the lock if it is held."""
        self._lock.release()

    def __enter__(self) -> "RunLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def check_no_link(path: Path) -> None:
    """Refuse to write through a symbolic link in a run, which may come from someone else.

    :raises PipelineError: ``path`` is a link.
    """
    if path.is_symlink():
        raise PipelineError(
            "is a symbolic link; nothing is written through links in a run",
            where=path,
            hint="replace it by what it points to, or remove it",
        )
