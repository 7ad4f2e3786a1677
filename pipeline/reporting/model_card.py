"""The card of an exported model: Markdown with the front matter that model hubs read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from multispace.data.cache.format.spec import FeatureSpec
from multispace.pipeline.console.printable import one_line
from multispace.pipeline.reporting.export_tables import Table, escape_markdown
from multispace.pipeline.runs.run_folder import Run
from multispace.version import package_version

LIBRARY = "multispace-captioning"
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


def model_card(run: Run, stated: CardText, scores: Sequence[CardScores]) -> str:
    """Return the card of a model.

    :param run: the model; its ``config`` holds what may be published
    :param scores: of its evaluations
    """
    options = run.system.options
    parts = [
        front_matter(_metadata(options.system, stated, scores)),
        f"# {escape_markdown(stated.name)}",
        f"An image captioning model: system `{options.system}`, "
        f"{run.config.get('parameters', _parameters(run)):,} parameters, the {run.checkpoint} "
        f"checkpoint (step {run.step}) of a training with {LIBRARY} {_version(run)}.",
        *([stated.notes.strip()] if stated.notes.strip() else []),
        "## Use",
        _use(),
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


def front_matter(values: Mapping[str, Any]) -> str:
    """Return metadata as the YAML between two lines of dashes."""
    return f"---\n{yaml_text(values)}---"


def yaml_text(values: Mapping[str, Any]) -> str:
    """Return values as YAML, in their order."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def code_block(language: str, text: str) -> str:
    """Return a fenced code block, whose fence is longer than any in ``text``."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def code(text: object) -> str:
    """Return text as inline code."""
    return f"`{one_line(str(text)).replace('`', chr(39))}`"


def feature_table(spec: FeatureSpec) -> str:
    """Return how features were made, as a table."""
    values = {**spec.to_json(), "fingerprint": spec.fingerprint}
    transform = values.pop("transform") or {}
    versions = values.pop("versions")
    rows = {
        **values,
        **{f"transform: {name}": value for name, value in transform.items()},
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return Table("", ("field", "value"), [(name, _plain(v)) for name, v in rows.items()]).markdown()


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _metadata(system: str, stated: CardText, scores: Sequence[CardScores]) -> dict[str, Any]:
    metrics = list(dict.fromkeys(metric for each in scores for metric in each.metrics))
    return {
        "license": stated.license,
        "library_name": LIBRARY,
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
        f"With {LIBRARY} {package_version()} or later:\n\n{code_block('python', python)}\n\n"
        f"{code_block('', 'multispace caption FOLDER image.jpg')}\n\n"
        "`model.json` lists all files with their SHA-256. A changed file is refused. All files are "
        "JSON, Markdown and safetensors; none is a pickle."
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
    return str(run.config.get("versions", {}).get(LIBRARY, "of an unknown version"))
