import pytest

from multispace.pipeline.comparison.sections import Estimate, Section
from multispace.pipeline.reporting.conclusion import conclude


def section(differences, means=(0.4, 0.5, 0.45)):
    names = ("a", "b", "c")[: len(means)]
    groups = {
        n: {"CIDEr": Estimate(m, None, m - 0.1, m + 0.1)} for n, m in zip(names, means, strict=True)
    }
    found = tuple((x, y, {"CIDEr": Estimate(*values)}) for x, y, values in differences)
    return Section("test", ("CIDEr",), groups, found)


@pytest.mark.parametrize(
    ("low", "start"),
    [(0.05, "b has a higher CIDEr than a (+0.100 [+0.050"), (-0.05, "No clear difference in")],
)
def test_zero_in_the_interval_is_no_clear_difference(low, start):
    text = conclude(section([("a", "b", (0.1, None, low, 0.2))], (0.4, 0.5)))
    assert text.startswith(start)


def test_the_best_group_is_compared_with_all_others():
    differences = [
        ("a", "b", (0.1, None, 0.05, 0.15)),
        ("a", "c", (0.05, None, 0.01, 0.09)),
        ("b", "c", (-0.05, None, -0.12, 0.02)),
    ]
    assert conclude(section(differences)) == (
        "b has a higher CIDEr than a (+0.100 [+0.050, +0.150]); "
        "no clear difference from c (+0.050 [-0.020, +0.120])."
    )


def test_one_group_has_nothing_to_be_compared_with():
    assert "nothing to compare" in conclude(section([], (0.4,)))
