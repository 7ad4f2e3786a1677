"""Templates of HTML pages, in which all text is escaped."""

import jinja2


def page_template(name: str) -> jinja2.Template:
    """Return a template of the folder ``templates``."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.PackageLoader("multispace.pipeline.reporting"),
    )
    return environment.get_template(name)
