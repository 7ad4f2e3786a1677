"""What a system is made of, checked before anything is built. No torch: options are cheap.

The range of an option, and the choice without which it means nothing, stand beside its default.
"""

import math
import operator
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from multispace.errors import ModelError

SYSTEMS = ("base", "latent", "multispace", "cvae", "ag-cvae", "beta-cvae")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
ANNEALING = ("logistic", "linear", "cyclical", "none")
WITHIN = {"at least": operator.ge, "above": operator.gt, "below": operator.lt}
DECODER, SPACE = "Decoder", "Latent space"
LATENT = "Loss of latent, cvae and ag-cvae"
MULTISPACE = "Loss of multispace and beta-cvae"
USERS = {  # of the options under a heading; all systems use those under the others
    SPACE: SYSTEMS[1:],
    LATENT: ("latent", "cvae", "ag-cvae"),
    MULTISPACE: ("multispace", "beta-cvae"),
}
ANNEALED = ("system", *USERS[LATENT])
CONDITIONAL = ("system", "cvae", "ag-cvae")


def option(
    group: str,
    default: Any,
    text: str,
    *choices: str,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    only: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field with what a command needs to offer it and a check to judge it.

    :param group: the heading that it stands under
    :param only: another option and those of its values that give this one a meaning; with any
        other, this one must be left at its default.
    """
    bounds = {"at least": least, "above": above, "below": below}
    metadata = {"group": group, "help": text, "choices": choices, "bounds": bounds, "only": only}
    return field(default=default, metadata=metadata)


def flag(name: str) -> str:
    """Return how the option ``name`` is written on the command line."""
    return name if name == "system" else "--" + name.replace("_", "-")


def shown_value(value: Any) -> str:
    """Return how a value is written on the command line."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def option_words(name: str, value: Any) -> list[str]:
    """Return what gives the option ``name`` its value on the command line."""
    if isinstance(value, bool):
        return [flag(name if value else f"no_{name}")]
    return [flag(name), shown_value(value)]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What can be chosen of a system. Capacities in nats, times in optimizer steps."""

    system: str
    embedding: int = option(
        DECODER, 512, "size of a word vector, and of base's image vector", least=1
    )
    hidden: int = option(DECODER, 512, "units of a recurrent layer", least=1)
    cell: str = option(DECODER, "lstm", "recurrent cell", "lstm", "gru")
    layers: int = option(DECODER, 1, "recurrent layers", least=1)
    tie_embeddings: bool = option(
        DECODER, False, "use the word vectors as the output matrix too (--embedding as --hidden)"
    )
    dropout: float = option(
        DECODER,
        0.0,
        "share of word vectors' and layers' units left out in training",
        least=0,
        below=1,
    )
    word_dropout: float = option(
        DECODER, 0.0, "share of input words that training replaces by <unk>", least=0, below=1
    )
    label_smoothing: float = option(
        DECODER,
        0.0,
        "share of a target that training spreads over all words",
        least=0,
        below=1,
    )
    z_size: int = option(SPACE, 128, "continuous dimensions (all but base)", least=1)
    categories: tuple[int, ...] = option(
        SPACE, (128,), "sizes of the categorical variables: 128, 16x8 (multispace)"
    )
    first_deviation: float = option(
        SPACE, 0.2, "of the posterior of z at step 0; its means differ by 0.6", above=0
    )
    sample_deviation: float = option(
        SPACE, 1.0, "of sampled z, in deviations of its prior (cvae, ag-cvae)", above=0,
        only=CONDITIONAL,
    )  # fmt: skip
    clusters: int = option(
        SPACE, 80, "nouns, the commonest, that the prior is a sum over (ag-cvae)", least=1,
        only=("system", "ag-cvae"),
    )  # fmt: skip
    prior_deviation: float = option(
        SPACE, 0.1, "of the prior around that sum (ag-cvae)", above=0, only=("system", "ag-cvae")
    )
    temperature: float = option(SPACE, 0.67, "of the Gumbel-softmax (multispace)", above=0)
    temperature_rate: float = option(
        SPACE,
        0.0,
        "the temperature falls as exp(-rate step)",
        least=0,
        only=("system", "multispace"),
    )
    temperature_min: float = option(
        SPACE, 0.5, "where it stops falling, with --temperature-rate", above=0
    )
    annealing: str = option(
        LATENT,
        "logistic",
        "how the KL weight rises from 0 to 1",
        *ANNEALING,
        only=ANNEALED,
    )
    annealing_midpoint: float = option(
        LATENT, 2500, "step at which the weight is 0.5 (logistic)", only=("annealing", "logistic")
    )
    annealing_slope: float = option(
        LATENT, 0.0025, "steepness of the weight (logistic)", only=("annealing", "logistic")
    )
    annealing_steps: int = option(
        LATENT,
        5000,
        "steps until the weight stays 1 (linear, cyclical)",
        least=1,
        only=("annealing", "linear", "cyclical"),
    )
    annealing_cycles: int = option(
        LATENT,
        4,
        "rises from 0 to 1 within --annealing-steps (cyclical)",
        least=1,
        only=("annealing", "cyclical"),
    )
    free_bits: float = option(
        LATENT, 0.0, "KL of a dimension that costs the same as less, in nats", least=0,
        only=ANNEALED,
    )  # fmt: skip
    kl_weight: float = option(LATENT, 1.0, "what the KL's weight rises to", least=0, only=ANNEALED)
    gamma_z: float = option(MULTISPACE, 0.02, "weight of |KL_z - C_z|", least=0)
    gamma_c: float = option(MULTISPACE, 0.05, "weight of |KL_c - C_c|", least=0)
    capacity_z_max: float = option(
        MULTISPACE, 150.0, "C_z, the KL that z is to have, in nats", least=0
    )
    capacity_z_min: float | None = option(
        MULTISPACE, None, "C_z at step 0, if it is to rise to --capacity-z-max", least=0
    )
    capacity_c_max: float = option(
        MULTISPACE, 4.5, "C_c, the KL that c is to have, in nats", least=0
    )
    capacity_c_min: float | None = option(
        MULTISPACE, None, "C_c at step 0, if it is to rise to --capacity-c-max", least=0
    )
    capacity_steps: int = option(MULTISPACE, 2500, "steps over which they rise", least=0)

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            raise ModelError(f"system {self.system!r}: use one of {', '.join(SYSTEMS)}")
        for known in fields(self):
            self._check_value(known.name, known.metadata)
        for known in fields(self):
            self._check_use(known.name, known.default, known.metadata.get("only"))
        if not self.categories or min(self.categories) < 2:
            raise ModelError(f"--categories {self.categories}: each variable needs 2 or more")
        if self.tie_embeddings and self.embedding != self.hidden:
            raise ModelError(
                f"--tie-embeddings, --embedding {self.embedding} and --hidden {self.hidden}: "
                "tied matrices need both sizes alike"
            )
        if self.temperature_rate:
            self._check_order("temperature_min", "temperature")
        elif self.temperature_min != type(self).temperature_min:
            raise ModelError(
                f"--temperature-min {self.temperature_min} without --temperature-rate: "
                "the temperature is constant; give the rate too"
            )
        for channel in ("z", "c"):
            if getattr(self, f"capacity_{channel}_min") is not None:
                self._check_order(f"capacity_{channel}_min", f"capacity_{channel}_max")

    def _check_value(self, name: str, rule: Mapping[str, Any]) -> None:
        value = getattr(self, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ModelError(f"{flag(name)} {value}: it must be a finite number")
        if rule.get("choices") and value not in rule["choices"]:
            raise ModelError(f"{flag(name)} {value}: use one of {', '.join(rule['choices'])}")
        for word, bound in rule.get("bounds", {}).items():
            if None not in (value, bound) and not WITHIN[word](value, bound):
                raise ModelError(f"{flag(name)} {value}: it must be {word} {bound}")

    def _check_use(self, name: str, default: Any, only: tuple[str, ...] | None) -> None:
        if only and getattr(self, name) != default:
            other, *values = only
            chosen = getattr(self, other)
            if chosen not in values:
                raise ModelError(
                    f"{flag(name)} {getattr(self, name)} and {flag(other)} {chosen}: "
                    f"{flag(name)} is for {flag(other)} {' or '.join(values)} alone"
                )

    def _check_order(self, low: str, high: str) -> None:
        if getattr(self, low) > getattr(self, high):
            raise ModelError(
                f"{flag(low)} {getattr(self, low)} and {flag(high)} {getattr(self, high)}: "
                "the first must not be above the second"
            )


@dataclass(frozen=True, kw_only=True)
class SystemOptions(ModelOptions):
    """What a system is made of, with the sizes that the data give."""

    words: int = field(metadata={"bounds": {"at least": 1}})
    feature_size: int = field(metadata={"bounds": {"at least": 1}})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SystemOptions":
        """Read what ``dataclasses.asdict`` gave after a trip through JSON.

        An option that the writer did not know yet has its default.

        :raises ModelError: an unknown name, or one without a default is missing.
        """
        known = {f.name: f for f in fields(cls)}
        needed = {name for name, f in known.items() if f.default is MISSING}
        if odd := sorted((set(value) - set(known)) | (needed - set(value))):
            raise ModelError(f"system options: missing or unknown {odd[0]!r}")
        sizes = {"categories": tuple(value["categories"])} if "categories" in value else {}
        return cls(**{**value, **sizes})

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
