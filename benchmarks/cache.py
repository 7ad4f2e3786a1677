"""Speed of `cache verify`, push and pull, compared with plain tools on the same bytes.

All files are in the page cache. `cache verify` is compared with `sha256sum` over the files that
the manifest lists. It also reads and checks their contents, and it hashes with two threads where
`sha256sum` has one. Push and pull are compared with `cp -r` and shutil.copytree. They check the
digest of each file and sync it to disk, which a copy does not do; a copy with a sync of each file
is therefore measured as well. The HTTP server is Python's own, in another process on loopback.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from measurement import (
    IMAGES,
    interleave,
    options,
    parse,
    print_machine,
    print_table,
    seconds,
    spread,
)
from workload import workload

from multispace.data.maintenance.verify import verify_cache
from multispace.data.remote.pull import pull
from multispace.data.remote.push import push

QUICK = {"rounds": 1, "images": 200}


@contextmanager
def http_server(folder: Path) -> Iterator[str]:
    """Serve ``folder`` on the loopback and yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    server = subprocess.Popen(
        [*command, "--directory", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait(port: int, patience: float = 20.0) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def copy_and_sync(source: Path, target: Path) -> None:
    """Copy a folder and sync every file to disk."""
    shutil.copytree(source, target)
    for path in target.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--scratch", type=Path, help="folder for the copies; use the same disk")
    args = parse(parser, argv, QUICK)
    root = workload(args.workloads, args.images).root
    files = [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]
    size = sum(path.stat().st_size for path in files)
    for path in files:
        path.read_bytes()  # into the page cache

    def verify() -> None:
        if faults := verify_cache(root).faults:
            raise AssertionError(str(faults[0]))

    def sha256sum() -> None:
        subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)

    with (
        tempfile.TemporaryDirectory(dir=args.scratch or args.workloads) as scratch,
        http_server(root) as url,
    ):
        target = Path(scratch) / "copy"

        def copying(copy: Callable[[Path], object]) -> Callable[[], float]:
            def measure() -> float:
                took = seconds(lambda: copy(target))
                shutil.rmtree(target)
                os.sync()  # pending writes must not slow down the next contestant
                return took

            return measure

        contestants = {
            "`cache verify`": lambda: seconds(verify),
            "sha256sum": lambda: seconds(sha256sum),
            "push to a folder": copying(lambda to: push(root, str(to))),
            "pull from a folder": copying(lambda to: pull(str(root), to)),
            "pull over HTTP": copying(lambda to: pull(url, to)),
            "cp -r": copying(lambda to: subprocess.run(["cp", "-r", root, to], check=True)),
            "shutil.copytree": copying(lambda to: shutil.copytree(root, to)),
            "shutil.copytree and sync": copying(lambda to: copy_and_sync(root, to)),
        }
        print_machine(args, f"{args.images:,} images, {size / 1e6:,.0f} MB, {len(files)} files")
        figures = interleave(contestants, args.rounds)
    middle = {name: statistics.median(values) for name, values in figures.items()}
    rows = []
    for name in figures:
        yardsticks = (
            ("sha256sum",)
            if name in ("`cache verify`", "sha256sum")
            else ("cp -r", "shutil.copytree and sync")
        )
        rows.append(
            (
                name,
                spread(figures[name], "{:.3f}"),
                f"{size / middle[name] / 1e6:,.0f}",
                ", ".join(f"{middle[name] / middle[other]:.2f} of {other}" for other in yardsticks),
            )
        )
    print_table(("", "seconds", "MB/s", "time against"), *rows)


if __name__ == "__main__":
    main()
