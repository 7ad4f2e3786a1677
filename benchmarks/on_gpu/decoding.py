"""Speed of captioning many images, from feature vectors in the memory of the CPU to text."""

import argparse
import statistics
from functools import partial
from typing import Any

import torch
from decoding import make_system
from measurement import interleave, print_table, spread
from workload import pairs_in_memory

from multispace.pipeline.inference.decoding import caption_features
from on_gpu.timing import peak, reset_peak, timed


def measure(args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure, print and return the rows."""
    vocabulary, pairs = pairs_in_memory(args.captioned)
    features = pairs.features
    system = make_system(features, vocabulary, device)
    words: dict[int, float] = {}
    memory: dict[int, int] = {}

    def captioned(width: int) -> None:
        captions = caption_features(system, features, vocabulary, width=width)
        words[width] = statistics.mean(len(caption.split()) for caption in captions)

    def measured(width: int) -> float:
        reset_peak(device)
        seconds = timed(lambda: captioned(width), device)
        memory[width] = peak(device)
        return seconds

    for width in (1, 5):
        caption_features(system, features[:64], vocabulary, width=width)  # warm-up
    figures = interleave({str(width): partial(measured, width) for width in (1, 5)}, args.rounds)
    rows = [
        {
            "beam": width,
            "images": len(features),
            "seconds": figures[str(width)],
            "words": words[width],
            "peak_memory": memory[width],
        }
        for width in (1, 5)
    ]
    print_table(
        ("search", f"{len(features):,} images, s", "ms per image", "words per caption",
         "peak memory, MB"),
        *(
            (
                "greedy" if row["beam"] == 1 else f"beam of {row['beam']}",
                spread(row["seconds"], "{:.2f}"),
                f"{1000 * statistics.median(row['seconds']) / len(features):.3f}",
                f"{row['words']:.1f}",
                f"{row['peak_memory'] / 1e6:,.0f}",
            )
            for row in rows
        ),
    )  # fmt: skip
    return rows
