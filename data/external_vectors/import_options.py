"""Options of an import of vectors."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from multispace.data.cache import storage_options
from multispace.errors import OptionError
from multispace.fields import Options, argument, option, required

UNKNOWN = "unknown"
MATRICES = (".npy", ".npz", ".h5", ".hdf5")  # files that may hold the vectors of all images


@dataclass(frozen=True)
class ImportOptions(Options):
    """Vectors to import, and what is known of their origin.

    :raises OptionError: a value is not allowed.
    """

    source: Path = field(
        metadata=argument(
            "A .npy, .npz or HDF5 file, or a folder with a .npy or .npz file per image.",
            path="any",
        )
    )
    into: Path = field(metadata=required("The feature cache to create or extend.", path="dir"))
    architecture: str = field(metadata=required("Name of the network that computed the vectors."))
    weights: str = field(metadata=required("Name of the network's weights."))
    weights_sha256: str | None = option("SHA-256 of the weights, if known.", None, metavar="HEX")
    pooling: str = option("Pooling of the network.", UNKNOWN)
    mean_over_regions: bool = option(
        "Average the regions of each image, for example (36, 2048).", False
    )
    names: Path | None = option(
        "File with the names of the matrix rows, one per line.", None, path="file"
    )
    extension: str = option('Text to append to each name, such as ".jpg".', "")
    name_pattern: str | None = option(
        'Pattern that turns a name into the image\'s file name, such as "val2014/{}.jpg" or '
        '"COCO_val2014_{:012d}.jpg".', None, metavar="PATTERN",
    )  # fmt: skip
    name_map: Path | None = option(
        "Table of names and file names, separated by a tab or comma; or annotations (.json), "
        "whose image ids are the names.", None, path="file",
    )  # fmt: skip
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
        self._check_names()

    def _check_names(self) -> None:
        from multispace.data.external_vectors.vector_names import NamePattern

        matrix = not self.source.is_dir() and self.source.suffix in MATRICES
        if self.names is not None and not matrix:
            raise OptionError(
                f"it belongs to one file ({', '.join(MATRICES)}), and to no other source",
                where=f"--names {self.names}",
            )
        if matrix and self.source.suffix == ".npy" and self.names is None:
            raise OptionError("give --names FILE, one name per line", where=self.source)
        if self.name_pattern is not None:
            NamePattern(self.name_pattern)
            if self.name_map is not None:
                raise OptionError("give either --name-pattern or --name-map")
