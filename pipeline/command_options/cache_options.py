"""Options of the `cache` commands."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.errors import OptionError
from multispace.fields import Options, argument, option, required
from multispace.pipeline.command_options import shared_options


@dataclass(frozen=True)
class InfoOptions(Options):
    """Options of `cache info`."""

    folder: Path = field(metadata=argument("The feature cache.", path="dir"))


@dataclass(frozen=True)
class VerifyOptions(Options):
    """Options of `cache verify`."""

    folder: Path = field(metadata=argument("The feature cache.", path="dir"))
    quick: bool = option("Check only the manifest and the file sizes.", False)


@dataclass(frozen=True)
class RepairOptions(Options):
    """Options of `cache repair`."""

    folder: Path = field(metadata=argument("The feature cache.", path="dir"))
    images: Path | None = option(
        "The image folder, to extract lost vectors again.", None, path="dir"
    )
    weights: str | None = shared_options.moved_weights()
    device: str = shared_options.device()
    workers: int | None = option(
        "Number of threads that decode and compute.", None, min=1, default_text="one per core"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images is not None and not self.images.is_dir():
            raise OptionError("not a folder", where=f"--images {self.images}")
        if self.images is None and self.weights is not None:
            raise OptionError("it needs --images", where=f"--weights {self.weights}")


@dataclass(frozen=True)
class DiffOptions(Options):
    """Options of `cache diff`."""

    a: Path = field(metadata=argument("A feature cache.", path="dir"))
    b: Path = field(metadata=argument("The feature cache to compare it with.", path="dir"))


@dataclass(frozen=True)
class MergeOptions(Options):
    """Options of `cache merge`."""

    sources: Sequence[Path] = field(metadata=argument("The feature caches to merge.", path="dir"))
    into: Path = field(metadata=required("The feature cache to create or extend.", path="dir"))
    prefer: Path | None = option(
        "If caches have different vectors for an image, take this cache's.", None,
        path="dir",
    )  # fmt: skip


@dataclass(frozen=True)
class ExportOptions(Options):
    """Options of `cache export`."""

    folder: Path = field(metadata=argument("The feature cache.", path="dir"))
    out: Path = field(metadata=required("The matrix to write, a .npy file.", path="file"))
    names: Path = field(
        metadata=required("The text file of keys to write, one per line.", path="file")
    )
    split: str | None = option("Export only the images of this split, in its order.", None)


@dataclass(frozen=True)
class PushOptions(Options):
    """Options of `cache push`."""

    folder: Path = field(metadata=argument("The feature cache.", path="dir"))
    url: str = field(metadata=argument("The destination: a folder, s3://, gs:// ..."))
    threads: int = shared_options.threads()


@dataclass(frozen=True)
class PullOptions(Options):
    """Options of `cache pull`."""

    url: str = field(metadata=argument("The source: a folder, s3://, gs://, https:// ..."))
    folder: Path = field(metadata=argument("The local folder to copy the cache to.", path="dir"))
    digest: str | None = option("The expected SHA-256 of cache.json.", None, metavar="sha256:HEX")
    only: str | None = option(
        "Fetch only the shards that contain the images of a split, or of a file with one key per "
        "line.",
        None, metavar="SPLIT|FILE",
    )  # fmt: skip
    threads: int = shared_options.threads()
