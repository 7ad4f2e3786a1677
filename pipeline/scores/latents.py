"""What the latent space of a system holds over a split."""

from typing import Any

import torch
from torch import Tensor

from model.systems import Posterior

ACTIVE_VARIANCE = 0.01  # Burda 2016: a unit is active where its posterior mean varies this much


@torch.no_grad()
def latent_summary(posterior: Posterior) -> dict[str, Any]:
    """Describe the posterior of all N pictures of a split; a channel it lacks is left out.

    ``z``: mean KL to the prior in nats, in all and by dimension, and the active units (variance
    of the posterior mean over the split at least 0.01, ddof 1). ``c``: the same KL by variable,
    and the usage perplexity exp H(mean q) of each, 1 where one category serves all pictures.
    """
    summary: dict[str, Any] = {}
    if posterior.z is not None:
        by_dimension = posterior.z.kl().mean(0)
        spread = posterior.z.mean.var(0, correction=1)
        summary["z"] = {
            "dimensions": len(by_dimension),
            "kl": float(by_dimension.sum()),
            "kl_by_dimension": by_dimension.tolist(),
            "active_units": int((spread >= ACTIVE_VARIANCE).sum()),
            "variance_of_mean": spread.tolist(),
        }
    if posterior.c is not None:
        by_variable = posterior.c.kl().mean(0)
        summary["c"] = {
            "sizes": [p.shape[-1] for p in posterior.c.log_probabilities],
            "kl": float(by_variable.sum()),
            "kl_by_variable": by_variable.tolist(),
            "usage_perplexity": [
                _perplexity(p.exp().mean(0)) for p in posterior.c.log_probabilities
            ],
        }
    return summary


def latent_lines(summary: dict[str, Any]) -> list[str]:
    """Return :func:`latent_summary` as a person reads it."""
    lines = []
    if z := summary.get("z"):
        lines.append(
            f"z: KL {z['kl']:.2f} nats a picture, "
            f"{z['active_units']} of {z['dimensions']} dimensions active"
        )
    if c := summary.get("c"):
        used = ", ".join(
            f"{usage:.1f} of {size}"
            for usage, size in zip(c["usage_perplexity"], c["sizes"], strict=True)
        )
        lines.append(f"c: KL {c['kl']:.2f} nats a picture, categories in use: {used}")
    return lines


def _perplexity(probabilities: Tensor) -> float:
    return float(torch.special.entr(probabilities).sum().exp())
