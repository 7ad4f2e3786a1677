from multispace.pipeline.reporting.tables import Table

TABLE = Table("Of two", ("", "Bleu_4"), [["base --beam 1 & {x}", "0.1 ± 0.2"], ["a|b", "50%"]])


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "Of two",
        "",
        "|  | Bleu_4 |",
        "| --- | ---: |",
        "| base --beam 1 & {x} | 0.1 ± 0.2 |",
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
        r"a|b & 50\% \\",
        r"\hline",
        r"\end{tabular}",
    ]
