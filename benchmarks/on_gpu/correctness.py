"""Whether a GPU computes what the CPU computes: losses, gradients and captions.

All systems have the same weights and the same random draws on both. The CPU computes in float32.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from decoding import TIE, log_probability, make_system
from measurement import print_table
from torch import Tensor
from workload import FEATURES, WORDS, pairs_in_memory

from multispace.data.batches import Batch
from multispace.data.captions.vocabulary import Vocabulary
from multispace.model.batch_partition import Partition
from multispace.model.beam_search import MAX_WORDS
from multispace.model.systems import build
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.inference.decoding import MARKS, caption_features
from multispace.pipeline.inference.samples import Sampling, caption_samples

TOLERANCE = 1e-3  # of a loss, relative


class SameDraws(Partition):
    """Draws on the CPU, so that they are the same on each device."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, like: Tensor, fill: Any) -> Tensor:
        """Return random numbers in the shape of ``like``."""
        return fill(torch.empty(like.shape), generator=self.generator).to(like.device)


def measure(args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure, print and return the rows."""
    vocabulary, pairs = pairs_in_memory(args.compared)
    batch = pairs.batch(pairs.epoch(args.compared, 0, 0)[0])
    rows = [_losses(system, batch, device) for system in args.systems]
    print_table(
        ("system", "loss on the CPU, nats", "float32 on the device, relative difference",
         "bfloat16", "gradient, float32", "gradient, bfloat16", f"losses within {TOLERANCE:g}"),
        *(
            (
                row["system"],
                f"{row['loss']:.4f}",
                *(f"{row[name]:.1e}" for name in ("float32", "bfloat16",
                                                  "gradient_float32", "gradient_bfloat16")),
                "yes" if row["within"] else "NO",
            )
            for row in rows
        ),
    )  # fmt: skip
    captions = _captions(pairs.features, vocabulary, device)
    print_table(
        ("captions of untrained models", "images", "differ from the CPU's",
         "largest difference in log probability, nats"),
        *(
            (
                row["search"],
                str(row["images"]),
                str(row["differ"]),
                f"{row['largest_gap']:.0e}" if "largest_gap" in row else "",
            )
            for row in captions
        ),
    )  # fmt: skip
    return [*rows, *captions]


def _losses(system: str, batch: Batch, device: torch.device) -> dict[str, Any]:
    torch.manual_seed(0)
    options = TrainOptions(system=system, cache=Path(), run=Path())
    model = build(options.system_options(WORDS, FEATURES)).eval()
    expected, gradient = _loss_and_gradient(model, batch, torch.device("cpu"), torch.float32)
    row: dict[str, Any] = {"part": "losses", "system": system, "loss": expected}
    for precision in (torch.float32, torch.bfloat16):
        found, other = _loss_and_gradient(model, batch, device, precision)
        name = str(precision).removeprefix("torch.")
        row[name] = abs(found - expected) / abs(expected)
        row[f"gradient_{name}"] = float((other - gradient).norm() / gradient.norm())
    row["within"] = max(row["float32"], row["bfloat16"]) <= TOLERANCE
    return row


def _loss_and_gradient(
    model: Captioner, batch: Batch, device: torch.device, precision: torch.dtype
) -> tuple[float, Tensor]:
    """Return the loss, and the gradients of all parameters as one vector."""
    model.to(device).zero_grad()
    there = batch.to(device)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        loss = model.loss(
            there.features, there.inputs, there.targets, there.batch_sizes, 1000, SameDraws()
        )
    loss.total.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    vector = torch.cat(gradients).cpu()
    return loss.total.item(), vector


def _captions(
    features: Tensor, vocabulary: Vocabulary, device: torch.device
) -> list[dict[str, Any]]:
    """Compare the captions of `base`, and samples of `multispace`, between the devices."""
    rows = []
    system = make_system(features, vocabulary, torch.device("cpu"))
    for search, width in (("`base`, greedy", 1), ("`base`, beam of 5", 5)):
        ours = caption_features(system.to("cpu"), features, vocabulary, width=width)
        theirs = caption_features(system.to(device), features, vocabulary, width=width)
        system.to("cpu")
        gaps = [
            abs(_worth(system, one, vocabulary, a) - _worth(system, one, vocabulary, b))
            for one, a, b in zip(features, ours, theirs, strict=True)
            if a != b
        ]
        rows.append(
            {
                "part": "captions",
                "search": search,
                "images": len(features),
                "differ": len(gaps),
                "largest_gap": max(gaps, default=0.0),
                "within": max(gaps, default=0.0) <= TIE,
            }
        )
    return [*rows, _samples(features, vocabulary, device)]


def _samples(features: Tensor, vocabulary: Vocabulary, device: torch.device) -> dict[str, Any]:
    torch.manual_seed(0)
    options = TrainOptions(system="multispace", cache=Path(), run=Path())
    system = build(options.system_options(WORDS, FEATURES)).eval()
    sampling = Sampling(count=2, temperature=0.8)
    ours = caption_samples(system, features, vocabulary, sampling)
    theirs = caption_samples(system.to(device), features, vocabulary, sampling)
    differ = sum(a != b for a, b in zip(ours, theirs, strict=True))
    return {"part": "captions", "search": "`multispace`, samples at a temperature of 0.8",
            "images": len(features), "differ": differ}  # fmt: skip


def _worth(system: Captioner, features: Tensor, vocabulary: Vocabulary, caption: str) -> float:
    words = vocabulary.encode(caption)
    ended = len(words) < MAX_WORDS
    return log_probability(system, features[None], [*words, *([MARKS.eos] if ended else [])])
