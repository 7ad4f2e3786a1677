"""Likelihood of a split's captions under the decoder, by teacher forcing in packed batches."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from multispace.data.batches import Batch, Pairs
from multispace.model.decoder import Decoder
from multispace.model.encoder import Words
from multispace.model.latent.posterior import Posterior
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.console.progress import DELAY, Progress

BATCH = 512  # captions packed together
ROWS = 256  # tokens whose logits are in memory at a time


def choose_captions(pairs: Pairs, limit: int) -> list[np.ndarray]:
    """Return the numbers of at most ``limit`` captions, evenly spaced over the split, in batches.

    The longest come first, as :meth:`Pairs.batch` requires.
    """
    count = min(limit, len(pairs))
    numbers = np.arange(count) * len(pairs) // count
    order = numbers[np.argsort(-pairs.lengths[numbers], kind="stable")]
    return [order[i : i + BATCH] for i in range(0, count, BATCH)]


def caption_nll(decoder: Decoder, condition: Tensor, batch: Batch) -> Tensor:
    """Return -log p(caption | condition), in nats, EOS included. (B, C) -> (B,)"""
    hidden = decoder.outputs(condition, batch.inputs, batch.batch_sizes)
    weight, bias = decoder.output_weight, decoder.output.bias
    parts = zip(hidden.split(ROWS), batch.targets.split(ROWS), strict=True)
    tokens = torch.cat(
        [F.cross_entropy(F.linear(h, weight, bias).float(), t, reduction="none") for h, t in parts]
    )
    captions = Words(batch.inputs, batch.batch_sizes).captions()
    return tokens.new_zeros(batch.captions).index_add(0, captions, tokens)


@torch.no_grad()
def mean_nll(
    system: Captioner, pairs: Pairs, conditions: Mapping[str, Tensor], limit: int
) -> dict[str, float]:
    """Return the mean NLL of captions, in nats per caption, under several conditions.

    :param conditions: by name, (P, C): a row for each row of ``pairs.features``
    :param limit: maximum number of captions, see :func:`choose_captions`
    """
    device = system.feature_mean.device
    totals = dict.fromkeys(conditions, 0.0)
    with Progress(min(limit, len(pairs)), "captions", "likelihood", delay=DELAY) as progress:
        for numbers in choose_captions(pairs, limit):
            batch = pairs.batch(numbers).to(device)
            rows = torch.from_numpy(pairs.rows[numbers]).to(device)
            for name, condition in conditions.items():
                totals[name] += caption_nll(system.decoder, condition[rows], batch).sum().item()
            progress.advance(len(numbers))
    return {name: total / min(limit, len(pairs)) for name, total in totals.items()}


def log_weights(decoder: Decoder, posterior: Posterior, batch: Batch, samples: int) -> Tensor:
    """Return log [p(caption | h) p(h) / q(h | v)] of draws h = [z ; c] from q(h | v). (K, B)

    z is drawn from its Gaussian; c is one-hot, as at test time: a category from q(c | v), with the
    weight p(c) / q(c | v). Nothing is relaxed, so the weights are exact. The prior p(c) is uniform,
    or the learned p(c | v) of `joint`, whose posterior q(c | w) reads the caption.

    :param posterior: of the images of the B captions, a row per caption
    :param samples: K
    """
    weights = []
    for _ in range(samples):
        drawn, ratio = [], torch.zeros(batch.captions, device=batch.features.device)
        if posterior.z is not None:
            z = posterior.z.sample()
            prior = posterior.z.prior_log_density(z)
            ratio = ratio + (prior - posterior.z.log_density(z)).sum(-1)
            drawn.append(z)
        if posterior.c is not None:
            c = posterior.c.one_hot_sample()
            prior = posterior.c.prior_log_probability(c)
            ratio = ratio + (prior - posterior.c.log_probability(c)).sum(-1)
            drawn.append(c)
        condition = posterior.condition(torch.cat(drawn, -1))
        weights.append(ratio - caption_nll(decoder, condition, batch))
    return torch.stack(weights)


def importance_weighted_nll(weights: Tensor) -> Tensor:
    """Return -log (1/K sum_k weight_k), Burda 2016, equation 8. (K, B) -> (B,), in nats

    It bounds -log p(caption) from above, more tightly the larger K; K = 1 gives the bound of
    Kingma & Welling, reconstruction + KL.
    """
    return math.log(len(weights)) - weights.logsumexp(0)


@torch.no_grad()
def split_likelihood(system: Captioner, pairs: Pairs, samples: int, limit: int) -> dict[str, float]:
    """Return upper bounds on -log p(caption), p(caption) = E_p(h) p(caption | h), nats per caption.

    With h from the prior the decoder does not see the image; q(h | v) only proposes draws. Where
    the posterior reads captions, the decoder or a learned prior p(c | v) reads the image, and the
    bound is on -log p(caption | v). ``elbo`` is the bound with one draw and ``nll`` that with K,
    from the same draws, which come from torch's generator.

    :param samples: K
    :param limit: maximum number of captions
    """
    device = system.feature_mean.device
    total, single = 0.0, 0.0
    with Progress(min(limit, len(pairs)), "captions", "importance samples") as progress:
        for numbers in choose_captions(pairs, limit):
            batch = pairs.batch(numbers).to(device)
            posterior = system.posterior(batch.features, Words(batch.inputs, batch.batch_sizes))
            weights = log_weights(system.decoder, posterior, batch, samples).double()
            total += importance_weighted_nll(weights).sum().item()
            single -= weights.mean(0).sum().item()
            progress.advance(len(numbers))
    count = min(limit, len(pairs))
    return {"samples": samples, "captions": count, "nll": total / count, "elbo": single / count}
