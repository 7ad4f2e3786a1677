"""The image that a page shows: one of the split, from its cached vector, or an uploaded file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image
from torch import Tensor

from multispace.data.batches import Pairs
from multispace.data.images import decode, read_bytes
from multispace.errors import ImageError, OptionError, shown
from multispace.model.backbone.resnet import Backbone
from multispace.pipeline.console.exit_on_error import describe, is_expected
from multispace.pipeline.inference.image_features import image_features, load_run_backbone
from multispace.pipeline.reporting.thumbnail import thumbnail
from multispace.pipeline.runs.run_folder import Run

SIDE = 480  # longer side of the picture, in pixels
REFERENCES = 5


@dataclass(frozen=True)
class ChosenImage:
    """An image with its features for each run.

    :param picture: a data URI; "" where the file is not there
    :param features: (1, D) for each run; None where they cannot be made
    :param reasons: why not, for each run
    :param references: captions that people wrote
    :param missing: why there is no picture
    """

    name: str
    picture: str
    features: tuple[Tensor | None, ...]
    reasons: tuple[str, ...]
    references: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class SplitImages:
    """The images of a split that have a vector for every run. No backbone is needed.

    :param pairs: the split in the cache of each run
    :param folder: of the image files
    """

    pairs: Sequence[Pairs]
    folder: Path | None = None

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of the images, in the order of the first run's cache."""
        first, *others = self._rows
        return tuple(key for key in first if all(key in rows for rows in others))

    def choose(self, key: object) -> ChosenImage:
        """Return an image of the split.

        :raises OptionError: no image has this key.
        """
        if not isinstance(key, str) or any(key not in rows for rows in self._rows):
            raise OptionError("no image of the split is called so", where=shown(key))
        features = [
            pairs.features[rows[key]][None]
            for pairs, rows in zip(self.pairs, self._rows, strict=True)
        ]
        picture, missing = "", "add --images to see the image"
        if self.folder is not None:
            try:
                picture, missing = thumbnail(self.picture(key), SIDE), ""
            except ImageError as error:
                missing = str(error)
        texts = self._references[key][:REFERENCES]
        return ChosenImage(
            key, picture, tuple(features), ("",) * len(features), tuple(texts), missing
        )

    def picture(self, key: str) -> Image.Image:
        """Return the picture of an image.

        :raises ImageError: it cannot be read, or there is no folder.
        """
        if self.folder is None:
            raise ImageError("there is no folder of images", where=key)
        return decode(read_bytes(self.folder / key), key)

    @cached_property
    def _rows(self) -> list[dict[str, int]]:
        return [{key: row for row, key in enumerate(pairs.keys)} for pairs in self.pairs]

    @cached_property
    def _references(self) -> Mapping[str, list[str]]:
        captions = self.pairs[0].captions
        texts = captions.references()
        return {
            key: texts[number]
            for key, number in zip(captions.keys, captions.image_ids, strict=True)
        }


class UploadedImages:
    """Images that a visitor uploads, through the network that made the features of each run.

    The networks are loaded when the first image needs them.

    :param weights: where the weights are, if no longer where the cache says
    """

    def __init__(self, runs: Sequence[Run], weights: str | None, device: str) -> None:
        self._runs, self._weights, self._device = runs, weights, device
        self._backbones: dict[str, Backbone] = {}

    def choose(self, path: Path) -> ChosenImage:
        """Return an image that was uploaded, after the checks that ``caption`` makes.

        :raises ImageError: it cannot be read; no network is loaded then.
        """
        name = path.name
        picture = thumbnail(decode(read_bytes(path), name), SIDE)
        features: list[Tensor | None] = []
        reasons = []
        made: dict[str, Tensor] = {}
        for run in self._runs:
            fingerprint = run.spec.fingerprint
            try:
                if fingerprint not in made:
                    made[fingerprint] = self._features(run, fingerprint, name, path)
                features.append(made[fingerprint])
                reasons.append("")
            except Exception as error:
                if not is_expected(error):
                    raise
                features.append(None)
                reasons.append(describe(error))
        return ChosenImage(name, picture, tuple(features), tuple(reasons))

    def _features(self, run: Run, fingerprint: str, name: str, path: Path) -> Tensor:
        if fingerprint not in self._backbones:
            self._backbones[fingerprint] = load_run_backbone(
                run, weights=self._weights, device=self._device
            )
        found = image_features(run, self._backbones[fingerprint], {name: path})
        if found.failures:
            raise ImageError(found.failures[name], where=name)
        return found.features
