from multispace.pipeline.console.table import text_table, wrapped_table


def test_the_first_column_is_left_aligned_and_the_others_right_aligned():
    table = text_table(["", "CIDEr", "words"], [["base", "0.25", 1234567], ["multispace", 1, ""]])
    assert table.splitlines() == [
        "            CIDEr    words",
        "base         0.25  1234567",
        "multispace      1",
    ]


def test_a_table_without_rows_is_its_head():
    assert text_table(["a", "b"], []) == "a  b"


def test_line_breaks_in_cells_stack_their_lines():
    table = wrapped_table(["t", "CIDEr"], [["base", "0.25\n± 0.01"], ["x", "1"]])
    assert table.splitlines() == ["t      CIDEr", "base    0.25", "      ± 0.01", "x          1"]


def test_what_is_too_wide_is_wrapped():
    head = ["of ten", "mBLEU-4 (sentence)", "Div-1"]
    rows = [["multispace --gamma-z 0.02 --beam 5", "0.25", "0.125"]]
    assert wrapped_table(head, rows, width=40).splitlines() == [
        "                         mBLEU-4",
        "of ten                (sentence)  Div-1",
        "multispace --gamma-z        0.25  0.125",
        "0.02 --beam 5",
    ]
    assert len(wrapped_table(head, rows).splitlines()) == 2


def test_a_name_without_a_blank_is_cut():
    lines = wrapped_table(["", "a"], [["x" * 40, "1"]], width=24).splitlines()
    assert lines[1:] == ["x" * 21 + "  1", "x" * 19]


def test_a_wrapped_table_without_rows_is_its_head():
    assert wrapped_table(["a", "b"], []) == "a  b"


def test_columns_of_words_are_left_aligned():
    table = text_table(["question", "answer", "by"], [["a", "no winner", "+0.1"]], left=2)
    assert table.splitlines() == ["question  answer       by", "a         no winner  +0.1"]
