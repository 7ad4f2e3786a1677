"""Report on the latent space of a system over a split: what it holds, and whether it is used."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from multispace.data.batches import Pairs
from multispace.data.captions.vocabulary import Vocabulary
from multispace.model.latent.posterior import Posterior
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.inference.decoding import caption_conditions
from multispace.pipeline.inference.split_posterior import posterior_of
from multispace.pipeline.metrics.captions.quick_cider import quick_cider
from multispace.pipeline.metrics.latents.ablation import from_prior, shuffled
from multispace.pipeline.metrics.latents.category_report import category_lines, category_report
from multispace.pipeline.metrics.latents.information import (
    categorical_information,
    gaussian_information,
)
from multispace.pipeline.metrics.latents.likelihood import mean_nll, split_likelihood

ACTIVE_VARIANCE = 0.01  # Burda 2016: a unit is active where its posterior mean varies this much
MAX_CAPTIONS = 5000  # of a split, for likelihoods
MIN_DRAWS = 4096  # of z, for its mutual information
IGNORED, USED = 0.1, 1.0  # nats per caption that shuffling costs: ignored below, used from
SHOWN = 10  # dimensions whose KL is printed


@torch.no_grad()
def latent_report(
    system: Captioner, pairs: Pairs, vocabulary: Vocabulary, *, samples: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Return the content of ``latents.json``, with a ``verdict`` in one sentence.

    It is the result of :func:`latent_summary`, with that of :func:`.category_report` as
    ``meaning`` of c, of :func:`ablate` as ``ablation``, and of
    :func:`likelihood.split_likelihood` as ``likelihood``; `base` has a verdict only.

    :param samples: draws per caption of the importance-weighted likelihood; 0 leaves it out
    """
    torch.manual_seed(seed)
    split = pairs
    pairs, posterior = posterior_of(system, split)
    if posterior.z is None and posterior.c is None:
        return {"verdict": f"{system.options.system} has no latent space: nothing to measure"}
    if len(pairs.features) < 2:
        return {"verdict": "a latent space cannot be measured on one image: evaluate on more"}
    report = latent_summary(posterior)
    if meaning := category_report(system, split, vocabulary, seed):
        report["c"]["meaning"] = meaning
    report["ablation"] = ablate(system, pairs, posterior, vocabulary, MAX_CAPTIONS, seed)
    if samples:
        report["likelihood"] = split_likelihood(system, pairs, samples, MAX_CAPTIONS)
    report["verdict"] = verdict(report)
    return report


@torch.no_grad()
def latent_summary(posterior: Posterior) -> dict[str, Any]:
    """Summarize the posterior of all N images of a split; a missing channel is left out.

    ``z`` has the mean KL to the prior in nats, in total and by dimension, and the active units
    (variance of the posterior mean over the split at least 0.01, ddof 1). ``c`` has the same KL by
    variable, and the usage perplexity exp H(mean q) of each variable, which is 1 where all images
    have the same category. Both have their ``information``, see :mod:`latents.information`: that
    of z by Monte Carlo and at most ``log_pictures``; that of c exact, for each variable on its
    own. The information of all variables together is at most the sum.
    """
    summary: dict[str, Any] = {}
    if posterior.z is not None:
        z, count = posterior.z, len(posterior.z.mean)
        by_dimension = z.kl().mean(0)
        spread = z.mean.var(0, correction=1)
        draws = -(-MIN_DRAWS // count)
        information = gaussian_information(z, draws)
        summary["z"] = {
            "dimensions": len(by_dimension),
            "kl": float(by_dimension.sum()),
            "kl_by_dimension": by_dimension.tolist(),
            "active_units": int((spread >= ACTIVE_VARIANCE).sum()),
            "variance_of_mean": spread.tolist(),
            "information": {
                **asdict(information),
                "sum": information.sum,
                "log_pictures": math.log(count),
                "draws": draws,
            },
        }
    if posterior.c is not None:
        by_variable = posterior.c.kl().mean(0)
        parts = posterior.c.log_probabilities
        priors = posterior.c.log_prior or (None,) * len(parts)
        informations = [categorical_information(q, p) for q, p in zip(parts, priors, strict=True)]
        summary["c"] = {
            "sizes": [p.shape[-1] for p in parts],
            "kl": float(by_variable.sum()),
            "kl_by_variable": by_variable.tolist(),
            "usage_perplexity": [_perplexity(p.exp().mean(0)) for p in parts],
            "information": [{**asdict(i), "sum": i.sum} for i in informations],
        }
    return summary


@torch.no_grad()
def ablate(
    system: Captioner,
    pairs: Pairs,
    posterior: Posterior,
    vocabulary: Vocabulary,
    captions: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what shuffled latents, and draws from the prior, cost in NLL and in CIDEr.

    ``nll`` (nats per caption) and ``cider`` (greedy captions of all images) are those of the
    image's own latents: the mean of z, the arg max of c. ``shuffled`` and ``prior`` hold, for
    ``z``, ``c`` and ``both``, the rise of NLL as ``nats`` and the change of CIDEr as ``cider``.
    Draws from the prior come from torch's generator.

    :param captions: maximum number of captions for the NLL
    """
    groups = {"shuffled": shuffled(posterior, seed), "prior": from_prior(posterior)}
    conditions = {"own": posterior.mode()}
    for group, named in groups.items():
        conditions |= {f"{group} {name}": condition for name, condition in named.items()}
    nats = mean_nll(system, pairs, conditions, captions)
    sets = []
    with Progress(len(conditions), "sets of captions", "latents") as progress:
        for condition in conditions.values():
            sets.append(caption_conditions(system, condition, vocabulary))
            progress.advance()
    cider = dict(zip(conditions, quick_cider(pairs, *sets), strict=True))

    def change(name: str) -> dict[str, float]:
        return {"nats": nats[name] - nats["own"], "cider": cider[name] - cider["own"]}

    return {
        "captions": min(captions, len(pairs)),
        "nll": nats["own"],
        "cider": cider["own"],
        **{
            group: {name: change(f"{group} {name}") for name in named}
            for group, named in groups.items()
        },
    }


def verdict(report: dict[str, Any]) -> str:
    """Return one sentence on what each channel carries and whether the decoder uses it."""
    parts, costs = [], report["ablation"]["shuffled"]
    if z := report.get("z"):
        parts.append(
            f"{z['active_units']} of {z['dimensions']} units active, "
            + _judge("z", costs["z"]["nats"])
        )
    if c := report.get("c"):
        parts.append(f"{_usage(c)} categories in use, " + _judge("c", costs["c"]["nats"]))
    return "; ".join(parts)


def latent_table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of :func:`latent_report`, a row per channel.

    KL = I + KL of the aggregate, both summed over the variables of c. Then follow the nats per
    caption and the CIDEr that shuffling the channel, or drawing it from the prior, costs.
    """
    head = ["latent", "in use", "KL", "I", "KL of aggregate", "shuffled", "from prior",
            "CIDEr shuffled", "CIDEr prior"]  # fmt: skip
    if "ablation" not in report:
        return head, []
    rows = []
    for name, costs in report["ablation"]["shuffled"].items():
        prior, channel = report["ablation"]["prior"][name], report.get(name)
        if channel is None:
            facts = ["", "", "", ""]
        else:
            parts = channel["information"] if name == "c" else [channel["information"]]
            facts = [
                f"{channel['active_units']} of {channel['dimensions']}"
                if name == "z"
                else _usage(channel),
                f"{channel['kl']:.2f}",
                f"{sum(part['mutual_information'] for part in parts):.2f}",
                f"{sum(part['aggregate_kl'] for part in parts):.2f}",
            ]
        rows.append([name, *facts, f"{costs['nats']:+.2f}", f"{prior['nats']:+.2f}",
                     f"{costs['cider']:+.3f}", f"{prior['cider']:+.3f}"])  # fmt: skip
    return head, rows


def latent_lines(report: dict[str, Any]) -> list[str]:
    """Return the lines below the table, the verdict last."""
    lines = []
    if z := report.get("z"):
        part = z["information"]
        lines.append(
            f"I of z is an estimate that cannot exceed log N = {part['log_pictures']:.2f} nats for "
            f"N images; the same draws estimate the KL at {part['sum']:.2f}"
        )
        kl = z["kl_by_dimension"]
        largest = sorted(range(len(kl)), key=lambda i: -kl[i])[:SHOWN]
        lines.append("largest KL: " + ", ".join(f"z{i} {kl[i]:.2f}" for i in largest))
    parts = report.get("c", {}).get("information", ())
    predicted = sum(part.get("predicted", 0.0) for part in parts)  # earlier versions had none
    if predicted:
        lines.append(
            f"the prior of c predicts {predicted:.2f} nats of c from the image: KL = I + KL of "
            "aggregate - this number"
        )
    if meaning := report.get("c", {}).get("meaning"):  # earlier versions had none
        lines += category_lines(meaning)
    if ablation := report.get("ablation"):
        lines.append(
            f"NLL of {ablation['captions']} captions, each given its image's latents: "
            f"{ablation['nll']:.2f} nats"
        )
    if likelihood := report.get("likelihood"):
        lines.append(
            f"NLL with latents from the prior: at most {likelihood['nll']:.2f} nats (importance-"
            f"weighted, {likelihood['samples']} draws), {likelihood['elbo']:.2f} with one draw"
        )
    return [*lines, report["verdict"]]


def _judge(channel: str, nats: float) -> str:
    how = "ignores" if nats < IGNORED else "uses" if nats >= USED else "hardly uses"
    return f"shuffling {channel} costs {round(nats, 1) + 0.0:.1f} nats: the decoder {how} it"


def _usage(c: dict[str, Any]) -> str:
    """Return the number of categories in use, by perplexity; for several variables the means."""
    used: Sequence[float] = c["usage_perplexity"]
    count = len(used)
    if count == 1:
        return f"{used[0]:.1f} of {c['sizes'][0]}"
    return f"{count} x {sum(used) / count:.1f} of {sum(c['sizes']) / count:.3g}"


def _perplexity(probabilities: Tensor) -> float:
    return float(torch.special.entr(probabilities).sum().exp())
