"""Options of an import of vectors."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from multispace.data.cache import storage_options
from multispace.errors import OptionError
from multispace.fields import Options, argument, option, required

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ImportOptions(Options):
    """Vectors to import, and what is known of their origin.

    :raises OptionError: a value is not allowed.
    """

    source: Path = field(metadata=argument("The file or folder to import.", path="any"))
    into: Path = field(metadata=required("The feature cache to create or extend.", path="dir"))
    architecture: str = field(metadata=required("Name of the network that computed the vectors."))
    weights: str = field(metadata=required("Name of the network's weights."))
    weights_sha256: str | None = option("SHA-256 of the weights, if known.", None, metavar="HEX")
    pooling: str = option("Pooling of the network.", UNKNOWN)
    names: Path | None = option(
        "File with the keys of the matrix rows, one per line.", None, path="file"
    )
    extension: str = option('Text to append to each name, such as ".jpg".', "")
    images: Path | None = option(
        "The image folder, to record the SHA-256 of the images.", None, path="dir"
    )
    dtype: str = storage_options.storage_type("float32")
    shard_size: int = storage_options.shard_size()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights_sha256 and not re.fullmatch("[0-9a-f]{64}", self.weights_sha256):
            raise OptionError(
                "expected 64 hexadecimal digits in lower case",
                where=f"--weights-sha256 {self.weights_sha256}",
                hint="leave it out if it is not known",
            )
        if self.images is not None and not self.images.is_dir():
            raise OptionError("not a folder", where=f"--images {self.images}")
        if (self.names is not None) != (self.source.suffix in (".npy", ".npz")):
            raise OptionError(
                "--names FILE, one key per line, belongs to a .npy or .npz matrix and to no "
                "other source",
                where=self.source,
            )
