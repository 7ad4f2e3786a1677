"""The images that a user names: files, folders, patterns, and web addresses."""

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from multispace.data.image_folder import files_below
from multispace.data.image_inputs import ImageSource, image_source
from multispace.data.images import has_image_suffix
from multispace.errors import ImageError


@dataclass(frozen=True)
class SelectedImages:
    """Images, each once, by the name that messages and results have for it.

    :param failures: reasons by argument, for arguments that name no image
    """

    sources: dict[str, ImageSource] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def select_images(arguments: Iterable[str | Path]) -> SelectedImages:
    """Return the images that arguments name; no image is opened.

    A folder stands for all files below it that are called like images, a pattern (``*``, ``?``,
    ``[...]``, and ``**`` for all folders) for what fits it, in the order of names. A file that is
    not there is selected too: it fails when it is read.
    """
    selected = SelectedImages()
    for argument in arguments:
        name = str(argument)
        try:
            source = image_source(argument, name)
        except ImageError as error:
            selected.failures[name] = error.what
            continue
        if not isinstance(source, Path):
            selected.sources[name] = source
            continue
        found = list(_files(source))
        if not found:
            kind = "no image files below this folder" if source.is_dir() else "no file fits it"
            selected.failures[name] = kind
        selected.sources.update({str(path): path for path in found})
    return selected


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for name in files_below(path):
            if has_image_suffix(name) and not Path(name).name.startswith("."):
                yield path / name
    elif glob.has_magic(str(path)) and not path.exists():
        for found in sorted(glob.glob(str(path), recursive=True)):
            if not glob.has_magic(found):
                yield from _files(Path(found))
            elif Path(found).is_file():
                yield Path(found)
    else:
        yield path
