"""Options of `export`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.fields import Options, argument, option, required
from multispace.pipeline.command_options import shared_options


@dataclass(frozen=True)
class ModelExportOptions(Options):
    """Options of `export`."""

    run: Path = field(metadata=argument("The run folder.", path="dir"))
    out: Path = field(metadata=required("The folder to create.", path="dir"))
    name: str | None = option(
        "Name of the model in its card.", None, default_text="that of the folder"
    )
    license: str | None = option(
        "License of the weights, as model hubs name it, for example apache-2.0.", None,
        default_text="unknown",
    )  # fmt: skip
    datasets: Sequence[str] = option(
        "Data set of the training, as model hubs name it; may be repeated.", (),
        flag="--dataset", metavar="NAME",
    )  # fmt: skip
    notes: Path | None = option(
        "A file of Markdown text to include in the card.", None, path="file"
    )
    format: str = option(
        "onnx adds the graphs encoder.onnx and decoder.onnx, if their greedy captions are the same "
        "under onnxruntime; needs the extra onnx.", "safetensors", choices=("safetensors", "onnx"),
    )  # fmt: skip
    checkpoint: str = shared_options.checkpoint()
    resamples: int = shared_options.resamples()
