"""A run of Weights & Biases (package ``wandb``) that follows a training.

It receives what TensorBoard receives, and in addition the options and sample captions of each
validation. The numbers of a training do not depend on it.
"""

import secrets
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from multispace.data.documents import DocumentFormat, Object, Text
from multispace.data.files import write_json
from multispace.errors import ImageError, OptionError, PipelineError, brief
from multispace.pipeline.command_options.train_options import without_places
from multispace.pipeline.inference.samples import Sampling
from multispace.pipeline.inference.single_captions import single_captions
from multispace.pipeline.reporting.thumbnail import small_image
from multispace.pipeline.runs.run_folder import read_run_config
from multispace.pipeline.training.loop import Training
from multispace.version import install_hint

RECORD = "wandb.json"  # of a run folder: the id of its run at Weights & Biases
RECORD_FORMAT = DocumentFormat(
    Object({"id": Text(pattern="[0-9a-f]{16}")}),
    error=PipelineError,
    hint="remove the file to log to a new run",
    max_bytes=1000,
)
STEP = "optimizer_step"
SAMPLES = 8  # images whose captions are logged at each validation
SIDE = 256  # pixels of their longer side
COLUMNS = ("key", "caption", "references")


@dataclass(frozen=True)
class Tracking:
    """Where a training is logged besides its run folder.

    :param project: of Weights & Biases
    :param images: folder of the images, to log those of the sample captions
    """

    project: str
    images: Path | None = None


def load_wandb() -> Any:
    """Return the module ``wandb``.

    :raises OptionError: it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise OptionError(
            "needs the package wandb",
            where="--wandb",
            hint=install_hint("wandb"),
        ) from error
    return wandb


@contextmanager
def follow(training: Training, tracking: Tracking) -> Iterator["WandbRun"]:
    """Begin a run of Weights & Biases, or continue that of the run folder; end it afterwards.

    :raises PipelineError: it cannot begin, for example without a login.
    """
    run = WandbRun(load_wandb(), training, tracking)
    try:
        yield run
    finally:
        run.finish(failed=sys.exc_info()[0] is not None)


class WandbRun:
    """Logs numbers, distributions and sample captions of a training.

    A failure to log is printed once and ends the log, not the training.
    """

    def __init__(self, wandb: Any, training: Training, tracking: Tracking) -> None:
        self._wandb, self._training = wandb, training
        folder = training.options.run
        config = read_run_config(folder)
        kept = ("parameters", "fingerprint", "vocabulary_digest")
        settings = wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True)
        try:
            self._run = wandb.init(
                project=tracking.project,
                id=_run_id(folder),
                resume="allow",
                name=folder.absolute().name,
                dir=str(folder),
                config=without_places(config["options"]) | {name: config[name] for name in kept},
                settings=settings,
            )
        except (wandb.Error, OSError) as error:
            raise PipelineError(
                brief(error, 300),
                where=f"--wandb {tracking.project}",
                hint="run `wandb login`, or set WANDB_MODE=offline",
            ) from error
        # A resume does some steps again, and wandb's own step must not decrease.
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)
        pairs = training.validation_pairs
        size = 0 if pairs is None else len(pairs.keys)
        count = min(SAMPLES, size)
        self._places = [place * size // count for place in range(count)]  # rows of the split
        keys = [] if pairs is None else [pairs.keys[place] for place in self._places]
        self._images = {} if tracking.images is None else _thumbnails(tracking.images, keys)
        self._announced = False

    def write(self, step: int, split: str, numbers: Mapping[str, float]) -> None:
        """Log numbers, and with those of a validation some captions."""
        values: dict[str, Any] = {f"{split}/{name}": number for name, number in numbers.items()}
        if split == "val" and self._places:
            values |= self._captions()
        self._log(step, values)

    def histograms(self, step: int, split: str, values: Mapping[str, Tensor]) -> None:
        """Log distributions."""
        self._log(
            step,
            {
                f"{split}/{name}": self._wandb.Histogram(tensor.detach().cpu().float().numpy())
                for name, tensor in values.items()
            },
        )

    def finish(self, failed: bool) -> None:
        """End the run; what is left to upload is uploaded."""
        if self._run is not None:
            try:
                self._run.finish(exit_code=int(failed))
            except (self._wandb.Error, OSError) as error:
                self._give_up(error)

    def _log(self, step: int, values: dict[str, Any]) -> None:
        if self._run is None:
            return
        if not self._announced:
            self._announced = True
            self._training.progress.note(self._place())
        try:
            self._run.log({STEP: step, **values})
        except (self._wandb.Error, OSError) as error:
            self._give_up(error)

    def _place(self) -> str:
        """Return a line that says where the log is."""
        if not self._run.offline:
            return f"wandb: {self._run.url}"
        folder = Path(self._run.dir).parent
        return f"wandb: {folder}; upload it with `wandb sync {shlex.quote(str(folder))}`"

    def _give_up(self, error: Exception) -> None:
        self._run = None
        self._training.progress.note(f"wandb: nothing more is logged ({brief(error, 300)})")

    def _captions(self) -> dict[str, Any]:
        """Return sample captions of the validation split, and the images that are known."""
        training, pairs = self._training, self._training.validation_pairs
        assert pairs is not None  # only then are there samples
        texts = single_captions(
            training.state.selected_model,
            pairs.features[self._places],
            training.vocabulary,
            training.options.single_caption,
            Sampling(count=0, seed=training.options.seed),
            lambda: [*training.pairs.captions.references().values()],
        )
        references = pairs.captions.references()
        rows, images = [], []
        for place, text in zip(self._places, texts, strict=True):
            key = pairs.keys[place]
            own = references[pairs.captions.image_ids[pairs.images[place]]]
            rows.append([key, text, "\n".join(own)])
            if (image := self._images.get(key)) is not None:
                images.append(self._wandb.Image(image, caption=text))
        table = self._wandb.Table(columns=list(COLUMNS), data=rows)
        return {"val/captions": table, **({"val/images": images} if images else {})}


def _thumbnails(folder: Path, keys: list[str]) -> dict[str, Image.Image]:
    """Return small versions of the images that can be read; captions are logged of all."""
    images = {}
    for key in keys:
        with suppress(ImageError):
            images[key] = small_image(folder / key, SIDE)
    return images


def _run_id(folder: Path) -> str:
    """Return the id of a run folder's run, which a resume continues."""
    path = folder / RECORD
    if path.exists():
        return str(RECORD_FORMAT.read_json(path)["id"])
    made = secrets.token_hex(8)
    write_json(path, {"id": made})
    return made
