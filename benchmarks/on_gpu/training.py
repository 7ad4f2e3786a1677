"""Training steps of an epoch of MS-COCO's size, compared with plain PyTorch and with products.

Ours is :func:`multispace.pipeline.training.step.train_step`. Plain PyTorch pads captions, and runs
nn.LSTM with cuDNN under bfloat16 autocast; its features and captions are on the GPU, and it draws
its batches there, without a DataLoader. Both have the same sizes, captions and batch size.

A part of an epoch is measured after a warm-up. The time of the epoch is computed from it: tokens
of an epoch / tokens per second, plus the time to order the batches.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measurement import interleave, print_table, spread
from plain_captioner import SIZE, C, PlainCaptioner, Z
from torch import Tensor, nn
from workload import FEATURES, WORDS, pairs_in_memory

from multispace.data.batches import Pairs
from multispace.data.captions.vocabulary import PAD, Vocabulary
from multispace.model.device import choose_precision
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.training.context import Training
from multispace.pipeline.training.distributed import ProcessGroup
from multispace.pipeline.training.interrupts import StopRequest
from multispace.pipeline.training.optimizer import make_learning_rate
from multispace.pipeline.training.state import initial_state
from multispace.pipeline.training.step import finish_steps, train_step
from on_gpu.timing import Products, Shape, flops, peak, reset_peak, timed

SYSTEMS = ("base", "multispace", "joint")
CONDITIONS = {"base": SIZE, "multispace": Z + C, "joint": Z + C}  # size of the condition
OF_IMAGE = {"base": SIZE, "multispace": 2 * Z + C, "joint": 2 * Z + C}  # read from the features
GATES = 4


@dataclass(frozen=True)
class Data:
    """The captions and features of the workload, on the CPU and on the device."""

    device: torch.device
    vocabulary: Vocabulary
    pairs: Pairs
    kept: Pairs  # with its features on the device
    padded: Tensor  # captions for the plain training, int64 (M, T + 1) on the device
    rows: Tensor  # of the captions' features, int64 (M,) on the device

    @classmethod
    def of(cls, images: int, device: torch.device) -> "Data":
        """Return the data of a number of images."""
        vocabulary, pairs = pairs_in_memory(images)
        places = np.arange(pairs.lengths.max() + 1)
        padded = np.full((len(pairs), len(places)), PAD)
        real = places <= pairs.lengths[:, None]
        padded[real] = pairs.tokens[(pairs.starts[:, None] + places)[real]]
        return cls(
            device=device,
            vocabulary=vocabulary,
            pairs=pairs,
            kept=pairs.kept_on(device),
            padded=torch.from_numpy(padded).to(device),
            rows=torch.from_numpy(pairs.rows).to(device),
        )


def make_training(system: str, size: int, data: Data) -> Training:
    """Return a training as `train` makes it, without its files.

    :param size: captions of a batch
    """
    device = data.device
    options = TrainOptions(system=system, cache=Path(), run=Path(), batch_size=size)
    precision = choose_precision("auto", device)
    state = initial_state(options, data.vocabulary, data.pairs, device, precision)
    steps = -(-len(data.pairs) // size)
    return Training(
        options=options,
        group=ProcessGroup(),
        device=device,
        precision=precision,
        vocabulary=data.vocabulary,
        pairs=data.kept,
        validation_pairs=None,
        steps=steps,
        steps_per_epoch=steps,
        learning_rate=make_learning_rate(options, steps),
        state=state,
        loss_function=state.model.loss,
        stop=StopRequest(),
        log=None,
    )


class Ours:
    """Our training, which continues with the next batches of the epoch in each round."""

    def __init__(self, training: Training, steps: int) -> None:
        self.training, self.steps, self.next = training, steps, 0
        self.batches = training.pairs.epoch(training.options.batch_size, 0, 0)
        self.memory = 0
        training.state.meter.start()
        self.run(self._batches())  # warm-up

    def pace(self) -> float:
        """Return tokens per second."""
        batches = self._batches()
        reset_peak(self.training.device)
        seconds = timed(lambda: self.run(batches), self.training.device)
        self.memory = max(self.memory, peak(self.training.device))
        return sum(int(self.training.pairs.lengths[one].sum()) for one in batches) / seconds

    def run(self, batches: list[np.ndarray]) -> None:
        """Make a step with each batch."""
        for captions in batches:
            train_step(self.training, captions)
        finish_steps(self.training)

    def _batches(self) -> list[np.ndarray]:
        at = np.arange(self.next, self.next + self.steps) % len(self.batches)
        self.next += self.steps
        return [self.batches[place] for place in at]


class Plain:
    """The plain training, with all its data on the device."""

    def __init__(self, system: str, size: int, data: Data, steps: int) -> None:
        torch.manual_seed(0)
        self.size, self.steps, self.data, self.device = size, steps, data, data.device
        self.model = PlainCaptioner(system).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.lengths = torch.from_numpy(data.pairs.lengths)
        self.features = data.kept.features.to(self.device)
        self.mixed = choose_precision("auto", self.device) == torch.bfloat16
        self.memory = 0
        self.run()  # warm-up

    def pace(self) -> float:
        """Return tokens per second, without padding."""
        reset_peak(self.device)
        tokens: list[int] = []
        seconds = timed(lambda: tokens.append(self.run()), self.device)
        self.memory = max(self.memory, peak(self.device))
        return tokens[0] / seconds

    def run(self) -> int:
        """Make the steps; return their tokens."""
        tokens = 0
        order = torch.randperm(len(self.lengths))
        order_there = order.to(self.device)
        for step in range(self.steps):
            start = step * self.size % len(order)
            lengths = self.lengths[order[start : start + self.size]]
            tokens += int(lengths.sum())
            there = order_there[start : start + self.size]
            captions = self.data.padded[there, : int(lengths.max()) + 1]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
                loss = self.model(self.features[self.data.rows[there]].float(), captions)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimizer.step()
        return tokens


def products(system: str, batch_sizes: tuple[int, ...]) -> list[Shape]:
    """Return the matrix products of a step, forward and backward.

    The condition is a part of the LSTM's input at every step, as cuDNN needs it. The recurrent
    products are of one time step each, but for the gradient of their matrix.
    """
    captions, tokens = batch_sizes[0], sum(batch_sizes)
    linear = [
        (tokens, SIZE, WORDS),
        (tokens, SIZE + CONDITIONS[system], GATES * SIZE),
        (captions, FEATURES, OF_IMAGE[system]),
    ]
    shapes = [s for m, k, n in linear for s in ((m, k, n), (m, n, k), (n, m, k))]
    shapes.remove((captions, OF_IMAGE[system], FEATURES))  # features have no gradient
    shapes.append((GATES * SIZE, tokens, SIZE))
    for count in batch_sizes:
        shapes += [(count, SIZE, GATES * SIZE), (count, GATES * SIZE, SIZE)]
    return shapes


def middle_batch(pairs: Pairs, size: int) -> tuple[int, ...]:
    """Return the batch sizes of the batch with the median number of tokens."""
    batches = sorted(pairs.epoch(size, 0, 0), key=lambda one: int(pairs.lengths[one].sum()))
    return pairs.batch(batches[len(batches) // 2]).batch_sizes


def measure(args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure, print and return the rows."""
    data = Data.of(args.images, device)
    pairs = data.pairs
    rows: list[dict[str, Any]] = []
    for size in args.batch_sizes:
        order_seconds = timed(lambda n=size: pairs.epoch(n, 0, 1), torch.device("cpu"))
        for system in SYSTEMS:
            ours = Ours(make_training(system, size, data), args.steps)
            plain = Plain(system, size, data, args.steps)
            shapes = products(system, middle_batch(pairs, size))
            bound = Products(shapes, device, choose_precision("auto", device))
            contestants: dict[str, Callable[[], float]] = {
                "ours": ours.pace,
                "plain": plain.pace,
                "products": partial(bound.seconds, args.products),
            }
            print(f"{system}, batches of {size}")
            figures = interleave(contestants, args.rounds)
            cost = flops(shapes) / sum(middle_batch(pairs, size))  # of a token
            rate = flops(shapes) / statistics.median(figures["products"])
            for who, memory in (("ours", ours.memory), ("plain", plain.memory)):
                pace = statistics.median(figures[who])
                rows.append(
                    {
                        "system": system,
                        "batch": size,
                        "training": who,
                        "tokens_per_second": figures[who],
                        "epoch_seconds": int(pairs.lengths.sum()) / pace
                        + (order_seconds if who == "ours" else 0.0),
                        "ratio": pace / statistics.median(figures["plain"]),
                        "tflops": cost * pace / 1e12,
                        "products_tflops": rate / 1e12,
                        "of_products": cost * pace / rate,
                        "peak_memory": memory,
                    }
                )
    _print(rows, len(pairs))
    return rows


def _print(rows: list[dict[str, Any]], captions: int) -> None:
    print_table(
        ("system", "batch size", "training", "tokens/s", "relative to plain",
         f"epoch of {captions:,} captions, s", "TFLOP/s of products",
         "the products alone, TFLOP/s", "reached", "peak memory, MB"),
        *(
            (
                row["system"],
                f"{row['batch']:,}",
                row["training"],
                spread(row["tokens_per_second"]),
                f"{row['ratio']:.2f}",
                f"{row['epoch_seconds']:.2f}",
                f"{row['tflops']:.1f}",
                f"{row['products_tflops']:.1f}",
                f"{row['of_products']:.0%}",
                f"{row['peak_memory'] / 1e6:,.0f}",
            )
            for row in rows
        ),
    )  # fmt: skip
