import re

import pytest

from multispace.pipeline.reporting.export_tables import Table

TABLE = Table("Of two", ("", "Bleu_4"), [["base --beam 1 & {x}", "0.1 ± 0.2"], ["a|b", "50%"]])


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "Of two",
        "",
        r"|  | Bleu\_4 |",
        "| --- | ---: |",
        "| base --beam 1 &amp; {x} | 0.1 ± 0.2 |",
        r"| a\|b | 50% |",
    ]


def test_latex():
    assert TABLE.latex().splitlines() == [
        "% Of two",
        r"\begin{tabular}{lr}",
        r"\hline",
        r" & Bleu\_4 \\",
        r"\hline",
        r"base -{}-beam 1 \& \{x\} & 0.1 $\pm$ 0.2 \\",
        r"a\textbar{}b & 50\% \\",
        r"\hline",
        r"\end{tabular}",
    ]


def test_a_note_stands_below_the_table():
    table = Table("t", ("", "a"), [["x", "1\n2"]], note="*: a_b")
    assert table.text().splitlines() == ["t  a", "x  1", "   2", "*: a_b"]
    assert table.markdown().splitlines()[-3:] == ["| x | 1 2 |", "", r"\*: a\_b"]
    assert table.latex().splitlines()[-1] == r"% *: a\_b"


def test_latex_with_the_rules_of_booktabs():
    lines = TABLE.latex(booktabs=True).splitlines()
    assert [lines[place] for place in (2, 4, 7)] == [r"\toprule", r"\midrule", r"\bottomrule"]


@pytest.mark.parametrize(
    "name", ["^^5cinput{/etc/passwd}", "^^5C", r"\input{x}", "^^\n\\input x", "a^^M\\x", "~$x$%#_"]
)
def test_nothing_in_a_name_is_a_command_of_latex(name):
    lines = Table(name, ("", name), [[name, "1"]]).latex().splitlines()
    assert len(lines) == len(Table("t", ("", "a"), [["x", "1"]]).latex().splitlines())
    text = "\n".join(lines)
    assert "^" not in text
    commands = set(re.findall(r"\\([a-z]+)", text))
    assert commands <= {"begin", "end", "hline", "textbackslash", "textasciicircum",
                        "textasciitilde"}  # fmt: skip


def test_a_row_is_no_argument_of_the_line_break_above_it():
    assert Table("t", ("", "a"), [["[5cm]x", "1"], ["*x", "2"]]).latex().splitlines()[-4:-2] == [
        r"{}[5cm]x & 1 \\",
        r"{}*x & 2 \\",
    ]


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "&lt;b&gt;", "[x](javascript:y)", "![x](http://y)", "`x`",
             "a\n| b |", "*b*", "x\\|y"]
)  # fmt: skip
def test_nothing_in_a_name_is_markup_of_markdown(name):
    text = Table(name, ("", name), [[name, "1"]]).markdown()
    assert len(text.splitlines()) == 5
    assert "<" not in text
    assert not re.search(r"&(?!amp;|lt;|gt;)", text)
    body = text.splitlines()[2:]
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in body} == {3}
    assert not re.search(r"(?<!\\)(?:\\\\)*[`\[\]*]", text)
