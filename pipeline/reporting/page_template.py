"""Templates of HTML pages, in which all text is escaped."""

import base64
import hashlib
from dataclasses import dataclass

import jinja2
from markupsafe import Markup


@dataclass(frozen=True)
class Script:
    """The script of a page, the only one that its Content-Security-Policy lets run.

    :param digest: of the text, as the policy names it
    """

    text: Markup
    digest: str


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


def page_script(name: str) -> Script:
    """Return a script of the folder ``templates``, into which nothing is written."""
    text = Markup(page_template(name).render())
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(text, f"sha256-{digest}")
