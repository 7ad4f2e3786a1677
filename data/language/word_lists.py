"""The word lists beside this module, which are JSON files.

A list of words stands under the concept that its words express, as in ``"cat": ["cat", "kitten"]``.
An underscore joins the words of a name such as ``hot_dog``.
"""

import json
from importlib import resources
from typing import Any

Words = tuple[str, ...]


def read_word_lists(file: str) -> Any:
    """Return the content of a word list file; lists become tuples.

    :param file: name of a file in this package
    """
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    return _frozen(json.loads(text))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _frozen(part) for name, part in value.items()}
    return tuple(value)
