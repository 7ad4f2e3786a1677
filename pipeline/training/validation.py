"""Validation: loss, CIDEr and latent space of a model on captions that it is not trained on."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from multispace.data.batches import Pairs
from multispace.data.captions.vocabulary import Vocabulary
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.inference.samples import Sampling
from multispace.pipeline.inference.single_captions import TrainingCaptions, single_captions
from multispace.pipeline.inference.split_posterior import posterior_of
from multispace.pipeline.metrics.captions.quick_cider import quick_cider
from multispace.pipeline.metrics.latents.ablation import ablation

# Nats a caption; with less of either the latent space tells the decoder next to nothing.
MIN_KL, MIN_LOSS = 0.5, 0.1
# A decoder first learns how often words occur and then what latents add: at the start of every
# training, captions lose next to nothing with the latents of another image. Latents that come into
# use show it by step 500: captions lost 7.6 nats at step 125 (multispace, generated shapes) and 1.8
# at step 469 (joint-cvae, Flickr8k).
MIN_STEPS = 500
END = 10**9  # an optimizer step at which every schedule has reached its end


@torch.no_grad()
def validation_metrics(
    system: Captioner,
    pairs: Pairs,
    vocabulary: Vocabulary,
    options: TrainOptions,
    training: TrainingCaptions,
) -> dict[str, float]:
    """Return the loss, its terms, and the CIDEr of greedy captions of a split.

    The captions are the single captions of the system, made as ``options.single_caption`` says.

    The loss is taken with every schedule at its end, so that it can be compared all through
    training. CIDEr here splits at white space and is for selection only.

    :param training: returns the captions of the training images, which a consensus needs
    :returns: ``loss``, ``recon``, ``kl_z`` and ``kl_c`` in nats a caption, ``cider``, and for
        models with a latent space ``shuffled_z``, ``shuffled_c`` and ``shuffled_both``: the nats
        a caption that are lost with the latents of other images
    """
    system.eval()
    device = system.feature_mean.device
    torch.manual_seed(options.seed)
    totals = np.zeros(4)
    with Progress(len(pairs), "captions", "validation") as progress:
        for batch in pairs.sequential(2 * options.batch_size):
            batch = batch.to(device)
            loss = system.loss(
                batch.features, batch.inputs, batch.targets, batch.batch_sizes, step=END
            )
            totals += batch.captions * np.array([term.item() for term in loss])
            progress.advance(batch.captions)
    names = ("loss", "recon", "kl_z", "kl_c")
    numbers = dict(zip(names, (totals / len(pairs)).tolist(), strict=True))
    sampling = Sampling(count=0, seed=options.seed)
    captions = single_captions(
        system, pairs.features, vocabulary, options.single_caption, sampling, training
    )
    lost = {f"shuffled_{name}": nats for name, nats in ablation(system, pairs).items()}
    (cider,) = quick_cider(pairs, captions)
    return {**numbers, "cider": cider, **lost}


def collapse_warning(numbers: Mapping[str, float], step: int) -> str | None:
    """Return a warning if the decoder hardly uses the latent space; None otherwise.

    :param numbers: of :func:`validation_metrics`
    :param step: the optimizer step at which they were measured; None before MIN_STEPS
    """
    if "shuffled_both" not in numbers or step < MIN_STEPS:
        return None
    kl, lost = numbers["kl_z"] + numbers["kl_c"], numbers["shuffled_both"]
    if kl >= MIN_KL and lost >= MIN_LOSS:
        return None
    return (
        f"the latent space is collapsing: it holds {kl:.2f} nats, and the captions of an image "
        f"lose {lost:.2f} nats with those of another; see --free-bits, --annealing, --word-dropout "
        "and the capacities"
    )


@torch.no_grad()
def latent_distributions(system: Captioner, pairs: Pairs) -> dict[str, Tensor]:
    """Return the parameters of a split's posteriors, for histograms.

    :returns: ``z_mean`` and ``z_deviation`` (P, z dimensions), ``z_kl`` (z dimensions) and
        ``c_kl`` (variables) in nats, averaged over images, and ``c_category`` (P, variables);
        empty for a model without a latent space
    """
    system.eval()
    _, posterior = posterior_of(system, pairs)
    found: dict[str, Tensor] = {}
    if (z := posterior.z) is not None:
        found |= {"z_mean": z.mean, "z_deviation": (0.5 * z.log_variance).exp()}
        found["z_kl"] = z.kl().mean(0)
    if (c := posterior.c) is not None:
        found["c_category"] = torch.stack([p.argmax(-1) for p in c.log_probabilities], 1)
        found["c_kl"] = c.kl().mean(0)
    return found
