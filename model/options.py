"""Options of a model, checked before anything is built. They do not need torch."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from multispace.errors import ModelError, OptionError
from multispace.fields import (
    Choices,
    Range,
    argument,
    check_use,
    check_values,
    declared_options,
    fill_defaults,
    flag,
    option,
    option_by_system,
    required,
    shown_value,
)

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
POOLS = ("average", "grid")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
# How the single caption of an image is made: from the mode of the latents, with the latents left
# out, as the hypothesis of the beam that is most like samples, as the consensus of samples, or as
# that of the categories weighted by their probabilities.
SINGLE_CAPTIONS = ("mode", "left-out", "reranked", "consensus", "categories")
MAX_DECODED = 256  # categories that are all decoded for an image
ANNEALING = ("logistic", "linear", "cyclical", "none")


@dataclass(frozen=True)
class SystemKind:
    """A system on the command line.

    :param summary: one line for help
    :param parts: the parts of the system; it uses the options that belong to them
    """

    summary: str
    parts: frozenset[str] = frozenset()


# Parts of systems. An option that belongs to a part is refused for systems without the part.
Z, C, CONDITIONAL, NOUNS = "z", "c", "conditional prior", "noun clusters"
ANNEALED, CAPACITY_Z, CAPACITY_C = "annealed KL", "capacity of z", "capacity of c"
LATENT_DROPOUT, CAPTION_C = "latent dropout", "posterior of c that reads the caption"

# A new system is one entry here, and one in the registry of `multispace.model.systems`.
SYSTEM_KINDS = {
    "base": SystemKind("CNN + RNN; the decoder reads the image feature"),
    "latent": SystemKind("Gaussian latent variable with an annealed KL", frozenset({Z, ANNEALED})),
    "multispace": SystemKind(
        "Gaussian and categorical latent variables, each with a KL capacity",
        frozenset({Z, C, CAPACITY_Z, CAPACITY_C}),
    ),
    "cvae": SystemKind(
        "conditional VAE; its posterior reads the caption", frozenset({Z, CONDITIONAL, ANNEALED})
    ),
    "ag-cvae": SystemKind(
        "CVAE; the mean of its prior is a weighted sum over nouns",
        frozenset({Z, CONDITIONAL, NOUNS, ANNEALED}),
    ),
    "beta-cvae": SystemKind(
        "Gaussian latent variable with a KL capacity", frozenset({Z, CAPACITY_Z})
    ),
    "joint": SystemKind(
        "like multispace, but q(c) reads the caption and p(c) is learned",
        frozenset({Z, C, CAPACITY_Z, CAPACITY_C, LATENT_DROPOUT, CAPTION_C}),
    ),
    "joint-cvae": SystemKind(
        "like joint, but q(z) also reads the caption and the decoder also reads the image",
        frozenset({Z, C, CONDITIONAL, CAPACITY_Z, CAPACITY_C, LATENT_DROPOUT, CAPTION_C}),
    ),
}
SYSTEMS = tuple(SYSTEM_KINDS)
RECOMMENDED = "joint-cvae"  # the system that documentation and the demo lead with


def users(*parts: str) -> tuple[str, ...]:
    """Return the systems that have one of ``parts``."""
    return tuple(name for name, kind in SYSTEM_KINDS.items() if not kind.parts.isdisjoint(parts))


DECODER, SPACE = "Decoder", "Latent space"
LATENT = f"Annealed KL ({', '.join(users(ANNEALED))})"
MULTISPACE = f"KL capacities ({', '.join(users(CAPACITY_Z, CAPACITY_C))})"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options of a system. Capacities are in nats, times in optimizer steps."""

    system: str = field(
        metadata=argument(
            "The system to train; may be left out where --config or --resume names it.",
            choices=SYSTEMS,
            metavar="SYSTEM",
            default_text="that of --config or --resume",
        )
    )
    embedding: int = option(
        "Size of word embeddings and image embeddings.", 512,
        min=1, group=DECODER, common=True,
    )  # fmt: skip
    hidden: int = option("Units per recurrent layer.", 512, min=1, group=DECODER, common=True)
    cell: str = option("Type of recurrent cell.", "lstm", choices=("lstm", "gru"), group=DECODER)
    layers: int = option("Number of recurrent layers.", 1, min=1, group=DECODER)
    tie_embeddings: bool = option(
        "Also use the word embeddings as the output matrix; needs --embedding equal to --hidden.",
        False, negatable=True, group=DECODER,
    )  # fmt: skip
    dropout: float = option(
        "Dropout probability of word embeddings and layer outputs.", 0.0,
        min=0, exclusive_max=1, group=DECODER, common=True, search=Range(0.0, 0.5),
    )  # fmt: skip
    word_dropout: float = option(
        "Probability of replacing an input word by <unk> in training.", 0.0,
        min=0, exclusive_max=1, group=DECODER, search=Range(0.0, 0.3),
    )  # fmt: skip
    label_smoothing: float = option(
        "Fraction of the target probability that training spreads evenly over all words.", 0.0,
        min=0, exclusive_max=1, group=DECODER, search=Range(0.0, 0.2),
    )  # fmt: skip
    z_size: int = option_by_system(
        "Dimensions of the continuous latent variable z.", 128, {"joint": 256},
        min=1, users=users(Z), group=SPACE, common=True,
    )  # fmt: skip
    categories: tuple[int, ...] = option_by_system(
        "Sizes of the categorical latent variables: 128, 16x8 (eight of 16) or 10,4.", (128,),
        {"joint": (16,) * 8}, metavar="SIZES", users=users(C), group=SPACE, common=True,
        search=Choices(((32,), (128,), (16,) * 8, (8,) * 16)),
    )  # fmt: skip
    prior_c: str = option(
        "Prior of c: p(c | v), learned with the system, or uniform.", "learned",
        choices=("learned", "uniform"), users=users(CAPTION_C), group=SPACE,
    )  # fmt: skip
    scale_c: float | None = option(
        "Factor on the one-hot vectors of c that the decoder reads.", None, exclusive_min=0,
        users=users(C), group=SPACE, default_text="square root of the number of categories",
    )  # fmt: skip
    latent_dropout: float = option(
        "Fraction of training captions for which c is replaced by zeros; in joint-cvae, z and c.",
        0.5,
        min=0, exclusive_max=1, users=users(LATENT_DROPOUT), group=SPACE, search=Range(0.1, 0.8),
    )  # fmt: skip
    first_deviation: float = option(
        "Standard deviation of the posterior of z at step 0.", 0.2,
        exclusive_min=0, users=users(Z), group=SPACE,
    )  # fmt: skip
    sample_deviation: float = option(
        "Factor on the standard deviation of the prior when z is sampled.", 1.0,
        exclusive_min=0, users=users(CONDITIONAL), group=SPACE,
    )  # fmt: skip
    single_caption: str = option_by_system(
        "How the single caption of an image is made by default, in validation too: from the mode "
        "of the latents, with the latents left out, reranked (the caption of a wide beam that is "
        "most like 50 samples), or as the consensus of 20 samples or of all categories.",
        "mode", dict.fromkeys(users(LATENT_DROPOUT), "reranked"),
        choices=SINGLE_CAPTIONS, users=users(Z), group=SPACE,
    )  # fmt: skip
    clusters: int = option(
        "Number of most frequent nouns in the prior.", 80,
        min=1, users=users(NOUNS), group=SPACE,
    )  # fmt: skip
    prior_deviation: float = option(
        "Standard deviation of the prior.", 0.1,
        exclusive_min=0, users=users(NOUNS), group=SPACE, search=Range(0.03, 1.0, log=True),
    )  # fmt: skip
    temperature: float = option(
        "Temperature of the Gumbel-softmax.", 0.67,
        exclusive_min=0, users=users(C), group=SPACE, search=Range(0.3, 1.5, log=True),
    )  # fmt: skip
    temperature_rate: float = option(
        "The temperature falls as exp(-rate * step).", 0.0, min=0, users=users(C), group=SPACE
    )
    temperature_min: float = option(
        "Minimum temperature; only used with --temperature-rate.", 0.5,
        exclusive_min=0, users=users(C), group=SPACE,
    )  # fmt: skip
    annealing: str = option(
        "Schedule of the KL weight.", "logistic",
        choices=ANNEALING, users=users(ANNEALED), group=LATENT,
    )  # fmt: skip
    annealing_midpoint: float = option(
        "Step at which a logistic weight is 0.5.", 2500.0,
        users=users(ANNEALED), requires=("annealing", "logistic"), group=LATENT,
        search=Range(250.0, 10_000.0, log=True),
    )  # fmt: skip
    annealing_slope: float = option(
        "Steepness of a logistic weight.", 0.0025,
        users=users(ANNEALED), requires=("annealing", "logistic"), group=LATENT,
        search=Range(0.0005, 0.02, log=True),
    )  # fmt: skip
    annealing_steps: int = option(
        "Step at which a linear or cyclical schedule ends.", 5000,
        min=1, users=users(ANNEALED), requires=("annealing", "linear", "cyclical"), group=LATENT,
    )  # fmt: skip
    annealing_cycles: int = option(
        "Number of cycles of a cyclical schedule.", 4,
        min=1, users=users(ANNEALED), requires=("annealing", "cyclical"), group=LATENT,
    )  # fmt: skip
    free_bits: float = option(
        "Minimum KL per dimension, in nats; lower KL is not rewarded.", 0.0,
        min=0, users=users(ANNEALED), group=LATENT, search=Range(0.0, 0.5),
    )  # fmt: skip
    kl_weight: float = option(
        "Final KL weight.", 1.0,
        min=0, users=users(ANNEALED), group=LATENT, search=Range(0.05, 1.0, log=True),
    )  # fmt: skip
    gamma_z: float = option_by_system(
        "Weight of |KL_z - C_z|.", 0.02, {"joint-cvae": 1.0},
        min=0, users=users(CAPACITY_Z), group=MULTISPACE, search=Range(0.002, 2.0, log=True),
    )  # fmt: skip
    gamma_c: float = option_by_system(
        "Weight of |KL_c - C_c|.", 0.05, {"joint": 1.0, "joint-cvae": 1.0},
        min=0, users=users(CAPACITY_C), group=MULTISPACE, search=Range(0.005, 2.0, log=True),
    )  # fmt: skip
    capacity_z_max: float = option_by_system(
        "C_z, the target of KL_z in nats.", 150.0, {"joint": 300.0, "joint-cvae": 0.0},
        min=0, users=users(CAPACITY_Z), group=MULTISPACE, common=True,
        search=Range(20.0, 600.0, log=True), searches={"joint-cvae": Range(0.0, 30.0)},
    )  # fmt: skip
    capacity_z_min: float | None = option(
        "C_z at step 0; it then rises to --capacity-z-max.", None,
        min=0, users=users(CAPACITY_Z), group=MULTISPACE,
    )  # fmt: skip
    capacity_c_max: float = option_by_system(
        "C_c, the target of KL_c in nats.", 4.5, {"joint": 5.0, "joint-cvae": 1.5},
        min=0, users=users(CAPACITY_C), group=MULTISPACE, common=True,
        search=Range(0.5, 10.0, log=True),
    )  # fmt: skip
    capacity_c_min: float | None = option(
        "C_c at step 0; it then rises to --capacity-c-max.", None,
        min=0, users=users(CAPACITY_C), group=MULTISPACE,
    )  # fmt: skip
    capacity_steps: int = option(
        "Steps until the capacities reach their maximum.", 2500,
        min=0, users=users(CAPACITY_Z, CAPACITY_C), group=MULTISPACE,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.system in SYSTEMS:
            if self.single_caption is None and not self.may_leave_out:
                object.__setattr__(self, "single_caption", "mode")
            fill_defaults(self, self.system)
        check_values(self)
        check_use(self, self.system)
        if self.categories is not None and (not self.categories or min(self.categories) < 2):
            raise OptionError(
                "each variable needs 2 or more categories",
                where=f"--categories {shown_value(self.categories)}",
            )
        if self.tie_embeddings and self.embedding != self.hidden:
            raise OptionError(
                "a tied matrix needs both sizes to be equal",
                where=f"--tie-embeddings, --embedding {self.embedding} and --hidden {self.hidden}",
            )
        if self.temperature_rate:
            self._check_order("temperature_min", "temperature")
        elif self.temperature_min != type(self).temperature_min:
            raise OptionError(
                "the temperature is constant",
                where=f"--temperature-min {self.temperature_min} without --temperature-rate",
                hint="give the rate too",
            )
        check_single_caption(self, self.single_caption)
        for channel in ("z", "c"):
            if getattr(self, f"capacity_{channel}_min") is not None:
                self._check_order(f"capacity_{channel}_min", f"capacity_{channel}_max")

    def _check_order(self, low: str, high: str) -> None:
        if getattr(self, low) > getattr(self, high):
            raise OptionError(
                "the first must not be above the second",
                where=f"{flag(low)} {getattr(self, low)} and {flag(high)} {getattr(self, high)}",
            )

    @property
    def may_leave_out(self) -> bool:
        """Whether the decoder is trained to caption without the latents too."""
        return LATENT_DROPOUT in SYSTEM_KINDS[self.system].parts and bool(self.latent_dropout)

    def used(self) -> dict[str, Any]:
        """Return the options that the system uses, by name."""
        return {
            known.name: getattr(self, known.name)
            for known, declared in declared_options(self)
            if declared.used_by(self.system)
        }


def check_single_caption(options: ModelOptions, way: str) -> None:
    """Check that a system has a way to make single captions.

    :param way: one of SINGLE_CAPTIONS
    :raises OptionError: the system was not trained for it.
    """
    kind = SYSTEM_KINDS[options.system]
    where = f"--single-caption {way}"
    if way == "left-out" and not options.may_leave_out:
        raise OptionError(
            f"{options.system} is trained without latent dropout and needs its latents",
            where=where,
            hint="use mode or consensus",
        )
    if way == "categories" and not (
        C in kind.parts and len(options.categories) == 1 and options.categories[0] <= MAX_DECODED
    ):
        raise OptionError(
            f"it needs one categorical latent of at most {MAX_DECODED} categories",
            where=where,
            hint="use mode or consensus",
        )


@dataclass(frozen=True, kw_only=True)
class SystemOptions(ModelOptions):
    """Options of a system, with the sizes that the data determine."""

    words: int = field(metadata=required("Words in the vocabulary.", min=1))
    feature_size: int = field(metadata=required("Dimension of the feature vectors.", min=1))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SystemOptions":
        """Read what :meth:`to_json` returned, after it was written as JSON.

        An option that the writer did not know has its default. An option that the system does
        not use is ignored: earlier versions wrote them all.

        :raises ModelError: a name is unknown or missing, or a value is not allowed.
        """
        known = {f.name: f for f in fields(cls)}
        needed = {name for name, f in known.items() if f.default is MISSING}
        if wrong := sorted((set(value) - set(known)) | (needed - set(value))):
            raise ModelError(f"system options: missing or unknown {wrong[0]!r}")
        kept = {name: value[name] for name in value if is_used(name, value["system"])}
        sizes = {"categories": tuple(kept["categories"])} if "categories" in kept else {}
        try:
            return cls(**{**kept, **sizes})
        except OptionError as error:
            raise ModelError(error.what, where=error.where, hint=error.hint) from error

    def to_json(self) -> dict[str, Any]:
        """Return the options that the system uses, as plain values."""
        return self.used()


def is_used(name: str, system: str) -> bool:
    """Return whether ``system`` uses the option ``name``; options of no model always are."""
    users_of_it = USERS.get(name)
    return users_of_it is None or system in users_of_it


USERS = {known.name: declared.users for known, declared in declared_options(ModelOptions)}
