"""Options of `push` and `pull`."""

from dataclasses import dataclass, field
from pathlib import Path

from multispace.fields import Options, argument, option
from multispace.pipeline.command_options import shared_options


@dataclass(frozen=True)
class ModelPushOptions(Options):
    """Options of `push`."""

    folder: Path = field(metadata=argument("The folder of an exported model.", path="dir"))
    url: str = field(metadata=argument("The destination: a folder, s3://, gs://, hf:// ..."))


@dataclass(frozen=True)
class ModelPullOptions(Options):
    """Options of `pull`."""

    url: str = field(metadata=argument("The source: a folder, s3://, gs://, hf://, https:// ..."))
    folder: Path = field(metadata=argument("The local folder to copy the model to.", path="dir"))
    digest: str | None = option(
        "The expected digest of the model, as `export` and `push` print it.", None,
        metavar="sha256:HEX",
    )  # fmt: skip
    threads: int = shared_options.threads()
