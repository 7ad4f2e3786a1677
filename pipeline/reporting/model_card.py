"""The card of an exported model: Markdown with the front matter that model hubs read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from multispace.pipeline.inference.onnx_graphs import CHECKED, onnx_way
from multispace.pipeline.reporting.export_tables import Table, escape_markdown
from multispace.pipeline.reporting.markdown import (
    code,
    code_block,
    feature_table,
    front_matter,
    yaml_text,
)
from multispace.pipeline.runs.run_folder import Run
from multispace.version import SOFTWARE, package_version

TASK = "image-to-text"
IMPORTED = (
    "These vectors were made by other software. The model captions such vectors "
    "(`run.caption(features=...)`), but no image files."
)
BACKBONE = (
    "An image passes through this network first. Its weights are not part of this folder: those "
    "of torchvision are downloaded once; for a file of your own, give its place with "
    "`weights=` (API) or `--weights` (command line). Other weights are refused by their SHA-256."
)
INTERVALS = (
    "Intervals are percentiles of {resamples:,} resamples of the images. They do not cover the "
    "choice of the training seed. BLEU and METEOR are recomputed from summed statistics."
)
LIMITS = (
    "The model repeats what the captions of its training data say, including their errors and "
    "prejudices, and it names things that are not in the image. Check captions before you rely on "
    "them."
)


@dataclass(frozen=True)
class CardScores:
    """The scores of one evaluation.

    :param title: the split and the number of images
    :param metrics: names of metrics, as `evaluate --metrics` has them
    :param rows: metric, score, 95 % interval
    :param signature: the line that says how the scores were made
    :param resamples: of the images, for the intervals
    """

    title: str
    metrics: Sequence[str]
    rows: Sequence[Sequence[str]]
    signature: str
    resamples: int


@dataclass(frozen=True)
class CardText:
    """What the author of a card states.

    :param license: as model hubs name it
    :param datasets: as model hubs name them
    :param notes: Markdown text
    """

    name: str
    license: str
    datasets: Sequence[str] = ()
    notes: str = ""


def model_card(
    run: Run, stated: CardText, scores: Sequence[CardScores], graphs: Sequence[str] = ()
) -> str:
    """Return the card of a model.

    :param run: the model; its ``config`` holds what may be published
    :param scores: of its evaluations
    :param graphs: file names of the ONNX graphs
    """
    options = run.system.options
    parts = [
        front_matter(_metadata(options.system, stated, scores)),
        f"# {escape_markdown(stated.name)}",
        f"An image captioning model: system `{options.system}`, "
        f"{run.config.get('parameters', _parameters(run)):,} parameters, the {run.checkpoint} "
        f"checkpoint (step {run.step}) of a training with {SOFTWARE} {_version(run)}.",
        *([stated.notes.strip()] if stated.notes.strip() else []),
        "## Use",
        _use(),
        *([_graphs_text(run, graphs)] if graphs else []),
        "## Scores",
        *_score_parts(scores),
        "## Features",
        feature_table(run.spec),
        IMPORTED if run.spec.transform is None else BACKBONE,
        "## Data",
        _data(run, stated.datasets),
        "## Training",
        code_block("yaml", yaml_text(run.config["options"])),
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(system: str, stated: CardText, scores: Sequence[CardScores]) -> dict[str, Any]:
    metrics = list(dict.fromkeys(metric for each in scores for metric in each.metrics))
    return {
        "license": stated.license,
        "library_name": SOFTWARE,
        "pipeline_tag": TASK,
        "tags": list(dict.fromkeys(["image-captioning", "multispace", system])),
        **({"datasets": list(stated.datasets)} if stated.datasets else {}),
        **({"metrics": metrics} if metrics else {}),
    }


def _use() -> str:
    python = (
        "import multispace as ms\n\n"
        'run = ms.load_run("FOLDER")  # this folder, or its URL\n'
        'run.caption(["image.jpg"])\n'
    )
    return (
        f"With {SOFTWARE} {package_version()} or later:\n\n{code_block('python', python)}\n\n"
        f"{code_block('', 'multispace caption FOLDER image.jpg')}\n\n"
        "`model.json` lists all files with their SHA-256. A changed file is refused. All files are "
        "JSON, Markdown, safetensors and ONNX; none is a pickle."
    )


def _graphs_text(run: Run, graphs: Sequence[str]) -> str:
    return (
        f"{' and '.join(map(code, graphs))} hold the same model for ONNX. They make greedy "
        f"captions (latents: {onnx_way(run)}). When the model was exported, these were those of "
        f"PyTorch for {CHECKED} feature vectors."
    )


def _score_parts(scores: Sequence[CardScores]) -> list[str]:
    if not scores:
        return ["The checkpoint had not been evaluated when it was exported."]
    parts = []
    for each in scores:
        parts.append(Table(each.title, ("metric", "score", "95 % interval"), each.rows).markdown())
        parts.append(f"Signature: {code(each.signature)}")
        parts.append(INTERVALS.format(resamples=each.resamples))
    return parts


def _data(run: Run, datasets: Sequence[str]) -> str:
    options, words = run.config["options"], run.vocabulary
    names = ", ".join(map(escape_markdown, datasets)) or "not stated"
    return (
        f"Data set: {names}. Trained on split {code(options.get('train_split', 'train'))}, "
        f"validated on {code(options.get('val_split', 'val'))}. The vocabulary has "
        f"{len(words):,} words (tokenizer {code(words.tokenizer)}, minimum count "
        f"{words.min_count}, SHA-256 {code(words.digest)})."
    )


def _parameters(run: Run) -> int:
    return sum(parameter.numel() for parameter in run.system.parameters())


def _version(run: Run) -> str:
    return str(run.config.get("versions", {}).get(SOFTWARE, "of an unknown version"))
