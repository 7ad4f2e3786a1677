"""Templates of HTML pages, in which all text is escaped."""

from importlib import resources

import jinja2


def page_template(name: str) -> jinja2.Template:
    """Return a template of the folder ``templates``."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    file = resources.files("multispace.pipeline.reporting").joinpath("templates", name)
    return environment.from_string(file.read_text(encoding="utf-8"))
