from multispace.pipeline.console.table import text_table


def test_the_first_column_is_left_aligned_and_the_others_right_aligned():
    table = text_table(["", "CIDEr", "words"], [["base", "0.25", 1234567], ["multispace", 1, ""]])
    assert table.splitlines() == [
        "            CIDEr    words",
        "base         0.25  1234567",
        "multispace      1",
    ]


def test_a_table_without_rows_is_its_head():
    assert text_table(["a", "b"], []) == "a  b"
