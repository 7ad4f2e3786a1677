"""The categories that the captions of a split, or their images, are assigned to."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from multispace.data.batches import Pairs
from multispace.model.encoder import Words
from multispace.model.latent.distributions import Categoricals
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.metrics.latents.likelihood import choose_captions

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Assignment:
    """The arg max of q(c) of U units: captions where q(c) reads the caption, else images.

    :param captions: numbers of the M captions that are examined, (M,), in order
    :param units: the unit of each of these captions, (M,)
    :param first: number of the first caption of each unit, (U,)
    :param categories: of each unit, for each of the C variables, (U, C)
    :param sizes: the number of categories of each variable
    """

    captions: Numbers
    units: Numbers
    first: Numbers
    categories: Numbers
    sizes: tuple[int, ...]
    of_captions: bool


@torch.no_grad()
def assign(system: Captioner, pairs: Pairs, limit: int) -> Assignment | None:
    """Assign captions or images to the most probable category of each variable.

    All images are assigned, but at most ``limit`` captions, evenly spaced over the split.

    :returns: None for a system without c
    """
    device = system.feature_mean.device
    batches = choose_captions(pairs, limit)
    captions = np.sort(np.concatenate(batches))
    if not system.reads_captions:
        c = system.posterior(pairs.features.to(device)).c
        if c is None:
            return None
        images, first = np.unique(pairs.rows, return_index=True)
        units = np.searchsorted(images, pairs.rows[captions])
        return Assignment(captions, units, first, _modes(c)[images], tuple(c.sizes), False)
    modes = []
    for numbers in batches:
        batch = pairs.batch(numbers).to(device)
        c = system.posterior(batch.features, Words(batch.inputs, batch.batch_sizes)).c
        if c is None:
            return None
        modes.append(_modes(c))
        sizes = tuple(c.sizes)
    categories = np.concatenate(modes)[np.argsort(np.concatenate(batches))]
    return Assignment(captions, np.arange(len(captions)), captions, categories, sizes, True)


def _modes(c: Categoricals) -> Numbers:
    """Return the most probable category of each row and variable. (B, C)"""
    return torch.stack([log_p.argmax(-1) for log_p in c.log_probabilities], -1).cpu().numpy()
