"""Configuration of the documentation site: `sphinx-build docs build/docs`."""

import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "multispace"
author = "the multispace authors"
version = release = metadata.version("multispace-captioning")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "command_help",
]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "multispace"
html_show_sphinx = False
html_show_copyright = False

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True

# A bare name in an annotation may belong to classes of two modules; it is then not a link.
suppress_warnings = ["ref.python"]
nitpick_ignore_regex = [
    # Names of other projects: their documentation is not at hand when this one is built.
    (r"py:.*", r"(?!multispace\b).*"),
    # Private names and type variables in signatures.
    (r"py:.*", r"(.*\.)?_\w+"),
    (r"py:class", r"multispace\.api\.arguments\.Kind"),
]
