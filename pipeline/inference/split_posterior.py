"""Posteriors of the images of a split."""

from dataclasses import replace

import numpy as np
import torch

from multispace.data.batches import Pairs
from multispace.model.encoder import Words
from multispace.model.latent.posterior import Posterior
from multispace.model.systems.captioner import Captioner

PART = 512  # captions read together


@torch.no_grad()
def posterior_of(system: Captioner, pairs: Pairs) -> tuple[Pairs, Posterior]:
    """Return the posteriors of the P images of a split, and the captions that they apply to.

    Where the posterior reads captions (``reads_captions``), it reads the first caption of each
    image, and only these captions are returned; otherwise all are.
    """
    device = system.feature_mean.device
    if not system.reads_captions:
        return pairs, system.posterior(pairs.features.to(device))
    images, first = np.unique(pairs.rows, return_index=True)
    kept = replace(
        pairs,
        features=pairs.features[torch.from_numpy(images)],
        images=tuple(pairs.images[image] for image in images),
        rows=np.arange(len(images)),
        starts=pairs.starts[first],
        lengths=pairs.lengths[first],
    )
    order = np.argsort(-kept.lengths, kind="stable")
    parts = []
    for start in range(0, len(order), PART):
        batch = kept.batch(order[start : start + PART]).to(device)
        parts.append(system.posterior(batch.features, Words(batch.inputs, batch.batch_sizes)))
    places = torch.from_numpy(np.argsort(order)).to(device)
    return kept, Posterior.stack(parts).select(places)
