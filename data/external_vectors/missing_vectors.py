"""Images that have captions but no vector because the names of the two differ."""

import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath

from multispace.data.images import has_image_suffix
from multispace.errors import shown


def missing_note(captioned: Collection[str], vectors: Collection[str]) -> str | None:
    """Return a note on captioned images without a vector, with an example of both names.

    :param captioned: keys of the images that have captions
    :param vectors: keys of imported vectors
    :returns: None if every image has a vector
    """
    missing = [key for key in captioned if key not in vectors]
    if not missing:
        return None
    what = f"{len(missing)} of {len(captioned)} images with captions have no vector"
    known = set(captioned)
    unused = [key for key in vectors if key not in known]
    if not unused:
        return f"{what}, such as {shown(missing[0])}; import their vectors, too"
    key, vector, pattern = _match(missing, unused) or (missing[0], unused[0], None)
    option = f"--name-pattern {shlex.quote(pattern)}" if pattern else "--name-pattern or --name-map"
    return (
        f"{what}: the captions name {shown(key)}, the vectors {shown(vector)}; if they are the "
        f"same images, import the vectors again, into another cache, with {option}"
    )


def _match(missing: Iterable[str], unused: Sequence[str]) -> tuple[str, str, str] | None:
    """Return an image, the vector that is probably its own, and the pattern between their names."""
    names = set(unused)
    stems = {_stem(vector): vector for vector in unused}
    numbers = {
        int(stem): vector for stem, vector in stems.items() if stem.isascii() and stem.isdecimal()
    }
    for key in missing:
        if "{" in key or "}" in key:  # a pattern would need them escaped
            continue
        name, stem = PurePosixPath(key).name, _stem(key)
        for part in (name, _stem(name)):
            if part in names:
                place = len(key) - len(name)
                return key, part, f"{key[:place]}{{}}{key[place + len(part) :]}"
        digits = re.search(r"[0-9]+(?=[^0-9]*$)", stem)
        if digits and (vector := numbers.get(int(digits[0]))) is not None:
            width = f"0{len(digits[0])}" if digits[0].startswith("0") else ""
            return key, vector, f"{key[: digits.start()]}{{:{width}d}}{key[digits.end() :]}"
    return None


def _stem(key: str) -> str:
    return key[: -len(PurePosixPath(key).suffix)] if has_image_suffix(key) else key
