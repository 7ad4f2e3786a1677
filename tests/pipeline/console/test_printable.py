import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multispace.pipeline.console.printable import printable, printable_json
from multispace.pipeline.console.table import text_table

# what a terminal acts on: escape, C1 control sequence, backspace, right-to-left override
HOSTILE = ["\x1b[2J", "\x9b2J", "a\x08b", "\u202etxt", "\ud800", "\r", "\x7f", "\u2028"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_may_act_on_is_replaced(text):
    shown = printable(f"a\tcat{text}\né 中")
    assert shown.startswith("a\tcat")
    assert shown.endswith("\né 中")
    assert all(sign.isprintable() or sign in "\n\t" for sign in shown)
    shown.encode()


@settings(max_examples=50, deadline=None)
@given(st.text() | st.dictionaries(st.text(), st.text()))
def test_json_keeps_its_values(value):
    text = printable_json(value)
    assert json.loads(text) == value
    assert all(sign.isprintable() or sign == "\n" for sign in text)


@pytest.mark.parametrize("text", [*HOSTILE, "\n", "\t"])
def test_a_cell_stays_on_its_line(text):
    table = text_table(["", "a"], [[f"x{text}y", 1]])
    assert len(table.splitlines()) == 2
    assert all(sign.isprintable() or sign == "\n" for sign in table)
