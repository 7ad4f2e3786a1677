"""The lock of a run folder: one process at a time writes to it."""

from pathlib import Path

from filelock import FileLock, Timeout

from multispace.errors import PipelineError

LOCK = ".lock"


class RunLock:
    """The writer's lock of a run folder.

    The operating system holds the lock for the process and frees it when the process ends. As a
    context manager it is held in the block::

        with RunLock(folder):
            ...
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK)

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock.is_locked

    def acquire(self) -> None:
        """Take the lock of the folder, which exists, unless this object holds it already.

        :raises PipelineError: another process holds it.
        """
        if self.is_held:
            return
        try:
            self._lock.acquire(timeout=0)
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
