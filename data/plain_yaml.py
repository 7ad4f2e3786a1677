"""YAML of plain values: no anchors, aliases or tags.

:mod:`multispace.data.documents` imports this module when it reads the first YAML file, so that
the rest of the project runs without PyYAML.
"""

from typing import Any

import yaml


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document.

    :raises ValueError: the text is not YAML, or not plain.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


class _PlainLoader(yaml.SafeLoader):
    """A loader that refuses aliases: one can make a small file expand without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not allowed", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)
