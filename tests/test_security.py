"""The page about security names tests that exist."""

import ast
import re

from support.paths import ROOT, TESTS

PAGE = ROOT / "docs" / "security.md"
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def missing(text: str) -> list[str]:
    """Return the tests that a page names and that do not exist."""
    gone = []
    for file, name in NAMED.findall(text):
        path = TESTS / file
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.parse("")
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if name not in functions or not name.startswith("test_"):
            gone.append(f"{file}::{name}")
    return gone


def test_each_rule_names_a_test_that_exists():
    text = PAGE.read_text(encoding="utf-8")
    assert missing(text) == []
    rules = [line for line in text.splitlines() if line.startswith("| ") and "| test |" not in line]
    assert len(rules) > 40
    assert [line for line in rules if not NAMED.search(line)] == []


def test_what_does_not_exist_is_found():
    names = ("test_none.py::test_x", "test_security.py::test_gone", "test_security.py::missing")
    text = " ".join(f"`{name}`" for name in names)
    assert missing(text + " `test_security.py::test_what_does_not_exist_is_found`") == list(names)
