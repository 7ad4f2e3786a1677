"""Names for the categories of c, from what an evaluation of the run says about them."""

from pathlib import Path

from multispace.errors import PipelineError
from multispace.pipeline.metrics.latents.category_report import LABEL_WORDS, category_labels
from multispace.pipeline.runs.evaluation_folder import LATENTS
from multispace.pipeline.runs.evaluation_reader import find_evaluation, read_evaluation


def evaluated_labels(
    run: Path, split: str, checkpoint: str, words: int = LABEL_WORDS
) -> list[list[str]]:
    """Return the label of each category of each variable of c; none for a system without c.

    :param run: the run folder
    :param split: the split that was evaluated
    :param words: maximum number of words of a label
    :raises PipelineError: the run has no evaluation of the split, or an earlier version wrote it.
    """
    folder = find_evaluation(run, split, checkpoint)
    files = read_evaluation(folder, split, checkpoint).files
    c = files.read(LATENTS).get("c") if files.has(LATENTS) else None
    if c is None:
        return []
    if "meaning" not in c:
        raise PipelineError(
            "does not say what the categories mean: an earlier version wrote it",
            where=folder / LATENTS,
            hint=files.hint,
        )
    return category_labels(c["meaning"], words)
