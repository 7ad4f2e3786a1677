"""Parts of the cards of models and caches, in Markdown."""

from collections.abc import Mapping
from typing import Any

from multispace.data.cache.format.spec import FeatureSpec
from multispace.pipeline.console.printable import one_line
from multispace.pipeline.reporting.export_tables import Table


def front_matter(values: Mapping[str, Any]) -> str:
    """Return metadata as the YAML between two lines of dashes."""
    return f"---\n{yaml_text(values)}---"


def yaml_text(values: Mapping[str, Any]) -> str:
    """Return values as YAML, in their order."""
    import yaml  # imported late, so that models train and decode without it

    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def code_block(language: str, text: str) -> str:
    """Return a fenced code block, whose fence is longer than any in ``text``."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def code(text: object) -> str:
    """Return text as inline code."""
    return f"`{one_line(str(text)).replace('`', chr(39))}`"


def feature_table(spec: FeatureSpec) -> str:
    """Return how features were made, as a table that names no place of this machine."""
    values = {**spec.without_folder().to_json(), "fingerprint": spec.fingerprint}
    transform = values.pop("transform") or {}
    versions = values.pop("versions")
    rows = {
        **values,
        **{f"transform: {name}": value for name, value in transform.items()},
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return Table("", ("field", "value"), [(name, _plain(v)) for name, v in rows.items()]).markdown()


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
