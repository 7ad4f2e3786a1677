"""Options of `preprocess`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.data.cache import storage_options
from multispace.data.image_part import ImagePart
from multispace.data.tokenizers import TOKENIZERS
from multispace.errors import OptionError
from multispace.fields import Options, option, required
from multispace.model.options import ARCHITECTURES, POOLS, PRECISIONS
from multispace.pipeline.command_options import shared_options

# The defaults of a new cache; an existing cache keeps its own options.
BACKBONE, WEIGHTS, POOL = "resnet50", "imagenet", "average"
TOKENIZER, MIN_COUNT = "whitespace", 10

CAPTIONS, FEATURES, COMPUTATION = "Captions", "Features", "Computation"
PREPROCESS_GROUPS = (CAPTIONS, FEATURES, COMPUTATION)


@dataclass(frozen=True)
class PreprocessRequest(Options):
    """Whether `preprocess` fills the cache or only makes an estimate."""

    dry_run: bool = option("Estimate time and size from a sample; write nothing.", False)


@dataclass(frozen=True)
class PreprocessOptions(Options):
    """Options of `preprocess`. ``None`` means the value of the cache, or else the default."""

    annotations: Path = field(
        metadata=required(
            "COCO or Karpathy JSON, a Flickr token file, a table (CSV, TSV ...) or a JSON list of "
            "captions; the format is detected automatically.", path="file",
        )
    )  # fmt: skip
    cache: Path = field(metadata=required("The feature cache to create or extend.", path="dir"))
    images: Path | None = option("The image folder.", None, path="dir")
    split: str | None = option(
        "Split to read; if the file has no splits, the name of the split of all images.", None
    )
    split_list: Sequence[str] = option(
        "Text file that lists the images of a split, one per line, such as val=valImages.txt; "
        "may be repeated.", (), metavar="NAME=FILE",
    )  # fmt: skip
    make_splits: str | None = option(
        "Assign images at random to train, val and test, by percentages such as 80,10,10.",
        None, metavar="TRAIN,VAL,TEST",
    )  # fmt: skip
    seed: int = option("Random seed for --make-splits.", 0)
    match_names: bool = option(
        "Also use image files in another folder under --images, or whose names differ in case or "
        "Unicode form, if exactly one file matches.", False,
    )  # fmt: skip
    backbone: str | None = option(
        "The network. Several, separated by commas, create one cache each in CACHE/NAME; images "
        "are decoded only once.", None, choices=ARCHITECTURES, commas=True, default_text=BACKBONE,
        group=FEATURES, common=True,
    )  # fmt: skip
    weights: str | None = option(
        "imagenet, a torchvision weights name, random, FILE, or package:NAME/FILE.", None,
        default_text=WEIGHTS, group=FEATURES, common=True,
    )  # fmt: skip
    resize: int | None = option(
        "Shorter side of the resized image, in pixels.", None, min=1,
        default_text="as the weights require", group=FEATURES,
    )  # fmt: skip
    crop: int | None = option(
        "Side of the center crop, in pixels.", None, min=1,
        default_text="as the weights require", group=FEATURES,
    )  # fmt: skip
    pool: str | None = option(
        "average: one vector per image; grid: one vector per position.", None,
        choices=POOLS, default_text=POOL, group=FEATURES,
    )  # fmt: skip
    flip: bool | None = option(
        "Average the vectors of the image and its mirror image; takes twice as long.", None,
        negatable=True, default_text="no-flip", group=FEATURES,
    )  # fmt: skip
    tokenizer: str | None = option(
        "How captions are split into words.", None,
        choices=tuple(TOKENIZERS), default_text=TOKENIZER, group=CAPTIONS, common=True,
    )  # fmt: skip
    min_count: int | None = option(
        "Minimum occurrences in training captions for a word to enter the vocabulary.", None,
        min=1, default_text=str(MIN_COUNT), group=CAPTIONS, common=True,
    )  # fmt: skip
    shard_size: int = storage_options.shard_size(group=FEATURES)
    dtype: str = storage_options.storage_type("float16", group=FEATURES)
    device: str = shared_options.device(group=COMPUTATION, common=True)
    precision: str = option(
        "Data type of the network.", "auto", choices=PRECISIONS, group=COMPUTATION
    )
    workers: int | None = option(
        "Number of threads that decode and compute; with --ray, cores per task.", None,
        min=1, default_text="one per core; with --ray, 1", group=COMPUTATION, common=True,
    )  # fmt: skip
    captions_only: bool = option("Create the vocabulary and the captions, but no features.", False)
    hold_out: Sequence[str] = option(
        'Remove images whose captions name this pair from training: "black dog", "ride woman"; '
        "may be repeated.", (), metavar="TEXT", group=CAPTIONS,
    )  # fmt: skip
    hold_out_split: Path | None = option(
        "Published compositional split of MS-COCO, which lists the pairs to hold out.", None,
        path="file", group=CAPTIONS,
    )  # fmt: skip
    part: str | None = option(
        "Extract only the features of this part of the images, such as 3/8 for the third of eight "
        "equal parts; then join the caches with `cache merge`.", None,
        metavar="K/N", group=COMPUTATION,
    )  # fmt: skip
    ray: str | None = option(
        "Extract on this Ray cluster, one task per shard. Every node must have the images at the "
        "same path.", None, metavar="auto|HOST:PORT", group=COMPUTATION,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_pairs()
        lists, percentages = self.split_lists, self.percentages
        if lists and percentages:
            raise OptionError("give either --split-list or --make-splits")
        if self.captions_only == (self.images is not None):
            raise OptionError("give either --images DIR or --captions-only")
        if self.captions_only and self.ray is not None:
            raise OptionError(f"--ray {self.ray}: has no effect with --captions-only")
        self._check_part()
        if len(self.caches) > 1 and (self.captions_only or self.ray is not None):
            raise OptionError(
                "give one backbone with --captions-only or --ray",
                where=f"--backbone {self.backbone}",
            )
        if self.images is not None and not self.images.is_dir():
            raise OptionError("not a folder", where=f"--images {self.images}")

    def _check_part(self) -> None:
        if self.image_part is None:
            return
        if self.captions_only:
            raise OptionError(f"--part {self.part}: has no effect with --captions-only")
        if self.ray is not None:
            raise OptionError(
                "Ray divides the images by itself",
                where=f"--part {self.part} and --ray {self.ray}",
                hint="give one of them",
            )

    def _check_pairs(self) -> None:
        from multispace.data.language.pairs import Pair
        from multispace.errors import DataError

        for pair in self.hold_out:
            try:
                Pair.parse(pair)
            except DataError as error:
                raise OptionError(error.what, where="--hold-out", hint=error.hint) from error
        if self.hold_out and self.hold_out_split is not None:
            raise OptionError(
                "give either --hold-out or --hold-out-split, whose file names its pairs"
            )

    @property
    def image_part(self) -> ImagePart | None:
        """The part of --part."""
        if self.part is None:
            return None
        try:
            return ImagePart.parse(self.part)
        except ValueError as error:
            raise OptionError(
                "expected K/N with K from 1 to N",
                where=f"--part {self.part}",
                hint="for example --part 3/8",
            ) from error

    @property
    def split_lists(self) -> dict[str, Path]:
        """The file of each split that --split-list names."""
        files: dict[str, Path] = {}
        for text in self.split_list:
            name, equals, file = text.partition("=")
            if not (name and equals and file) or name in files:
                raise OptionError(
                    "expected NAME=FILE, each name once", where=f"--split-list {text}"
                )
            files[name] = Path(file)
        return files

    @property
    def percentages(self) -> tuple[float, float, float] | None:
        """The percentages of --make-splits."""
        if self.make_splits is None:
            return None
        try:
            train, val, test = map(float, self.make_splits.split(","))
        except ValueError:
            train = val = test = -1.0
        if min(train, val, test) < 0 or train == 0 or abs(train + val + test - 100) > 1e-6:
            raise OptionError(
                "expected three percentages that sum to 100, such as 80,10,10",
                where=f"--make-splits {self.make_splits}",
            )
        return train, val, test

    @property
    def caches(self) -> dict[str | None, Path]:
        """The cache of each backbone: ``cache`` itself, or a folder in it for each of several."""
        names = (self.backbone or "").split(",")
        if len(names) == 1:
            return {self.backbone: self.cache}
        return {name: self.cache / name for name in names}
