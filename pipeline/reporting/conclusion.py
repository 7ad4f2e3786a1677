"""One sentence about scores, drawn from the intervals of their differences."""

from multispace.pipeline.comparison.sections import Estimate, Section

PREFERRED = "CIDEr"


def conclude(section: Section) -> str:
    """Return one sentence on which group has the higher score.

    A difference is clear if its 95 % interval excludes 0.
    """
    column = PREFERRED if PREFERRED in section.columns else section.columns[-1]
    scores = {name: cells[column] for name, cells in section.groups.items()}
    best = max(scores, key=lambda name: scores[name].mean)
    if len(scores) == 1:
        return f"{best} has a {column} of {_interval(scores[best])}; nothing to compare it with."
    clear: list[str] = []
    unclear: list[str] = []
    for first, second, cells in section.differences:
        if best not in (first, second):
            continue
        other = first if second == best else second
        found = cells[column] if second == best else _negated(cells[column])
        (clear if found.low > 0 else unclear).append(f"{other} ({found.range()})")
    if not clear:
        return f"No clear difference in {column}: {best} is not clearly above {', '.join(unclear)}."
    sentence = f"{best} has a higher {column} than {', '.join(clear)}"
    rest = f"; no clear difference from {', '.join(unclear)}" if unclear else ""
    return f"{sentence}{rest}."


def _negated(difference: Estimate) -> Estimate:
    return Estimate(-difference.mean, None, -difference.high, -difference.low)


def _interval(score: Estimate) -> str:
    return f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"
