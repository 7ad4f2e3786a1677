"""Normalized mutual information of categories and the concepts that captions name."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

SHUFFLES = 20  # of the categories, to estimate what chance gives
NONE = ""  # the concept of a caption that names none


@dataclass(frozen=True)
class NamedConcepts:
    """The concepts of one class that M captions name, one entry for each caption and concept.

    Each caption has a total weight of 1, divided evenly among its concepts. A caption that names
    none has the concept "none", so that naming nothing counts as well.

    :param captions: the caption of each of the E entries, (E,)
    :param concepts: the concept of each entry, 0 to X - 1, (E,)
    :param weights: (E,)
    """

    captions: Numbers
    concepts: Numbers
    weights: Weights

    @classmethod
    def of(cls, named: Sequence[Collection[str]]) -> "NamedConcepts":
        """Return the entries of captions.

        :param named: the concepts that each caption names
        """
        each = [sorted(concepts) or [NONE] for concepts in named]
        counts = np.array([len(concepts) for concepts in each])
        names = [name for concepts in each for name in concepts]
        return cls(
            np.repeat(np.arange(len(each)), counts),
            np.unique(names, return_inverse=True)[1].astype(np.int64),
            np.repeat(1 / counts, counts),
        )


@dataclass(frozen=True)
class ConceptInformation:
    """The mutual information I of a variable of c and a class of concepts, in nats.

    ``nmi`` is 2 I / (H(c) + H(concept)). ``by_chance`` and ``nmi_by_chance`` are the means of I
    and of the NMI after the categories were shuffled. ``entropy`` is H(concept).
    """

    nmi: float
    nmi_by_chance: float
    mutual_information: float
    by_chance: float
    entropy: float

    @property
    def explained(self) -> float:
        """The fraction of H(concept) that c explains, adjusted for chance.

        (I - I by chance) / (H(concept) - I by chance): 0 for chance, 1 if c determines the concept
        (the adjustment of Vinh et al. 2010).
        """
        room = self.entropy - self.by_chance
        return (self.mutual_information - self.by_chance) / room if room > 1e-9 else 0.0

    def to_json(self) -> dict[str, float]:
        """Return the numbers with ``explained``."""
        return {**asdict(self), "explained": self.explained}


def concept_information(
    categories: Numbers, units: Numbers, named: NamedConcepts, seed: int = 0
) -> ConceptInformation | None:
    """Return the information that categories and concepts share.

    The pair of variables is that of a caption drawn at random: its category, and one of its
    concepts drawn at random. Estimates from counts are too high with many categories and few
    captions; what chance gives shows by how much.

    :param categories: of U units, (U,)
    :param units: the unit of each of the M captions, (M,)
    :returns: None if all captions name the same
    """
    values, groups = np.unique(categories, return_inverse=True)
    shape = len(values), int(named.concepts.max()) + 1
    if shape[1] < 2:
        return None
    of_entry = units[named.captions]

    def shared(of_unit: Numbers) -> tuple[float, float, float]:
        cells = of_unit[of_entry] * shape[1] + named.concepts
        joint = np.bincount(cells, named.weights, shape[0] * shape[1]).reshape(shape) / len(units)
        c, concept = _entropy(joint.sum(1)), _entropy(joint.sum(0))
        information = max(0.0, c + concept - _entropy(joint.ravel()))
        return 2 * information / (c + concept), information, concept

    random = np.random.default_rng(seed)
    shuffled = [shared(random.permutation(groups)) for _ in range(SHUFFLES)]
    nmi_by_chance, by_chance, _ = np.mean(shuffled, axis=0).tolist()
    nmi, information, entropy = shared(groups)
    return ConceptInformation(nmi, nmi_by_chance, information, by_chance, entropy)


def _entropy(probabilities: Weights) -> float:
    """Return the entropy of a distribution, in nats."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())
