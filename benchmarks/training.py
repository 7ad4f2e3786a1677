"""Tokens per second of `train`, compared with plain PyTorch and the machine's matrix products.

Ours is :func:`train.train` on the workload. The speed comes from its log and does not include
what happens before and after the steps. The plain training is that of public tutorials: a
DataLoader with a padding collate function, nn.LSTM over the concatenation of image and word
vectors, cross entropy that ignores padding, float32, Adam, gradient clipping. Both have the same
sizes, captions and batch size. The plain training reads its vectors from memory and its captions
encoded. Tokens do not include padding, but EOS; the first steps are not counted.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from measurement import (
    IMAGES,
    device_name,
    interleave,
    options,
    parse,
    print_machine,
    print_table,
    spread,
)
from plain_captioner import SIZE, PlainCaptioner
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from workload import FEATURES, WORDS, workload

from multispace.data.batches import Pairs, load_pairs
from multispace.data.captions.vocabulary import PAD
from multispace.model.device import choose_device, choose_precision
from multispace.model.systems import build
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.train import train

SYSTEMS = ("base", "multispace")
NEVER = 10**9
FEW = 3  # batches that FLOPs are counted on; FLOPs per token hardly differ between batches
QUICK = {
    "rounds": 1,
    "steps": 2,
    "warm_up": 1,
    "batch_size": 8,
    "images": 200,
    "workers": 0,
    "square": 256,
}


def ours(system: str, cache: Path, args: argparse.Namespace) -> float:
    """Return the tokens per second of `train`: the mean over the log except its first line."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train(
            TrainOptions(
                system=system,
                cache=cache,
                run=run,
                steps=args.warm_up + args.steps,
                batch_size=args.batch_size,
                log_every=args.warm_up,
                save_every=NEVER,
                device=args.device,
                precision=args.precision,
            )
        )
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    # All lines stand for the same number of steps, and so for about as many tokens.
    return statistics.harmonic_mean([line["tokens_per_second"] for line in lines[1:]])


class PlainPairs(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of an image vector and one of its captions, with BOS and EOS."""

    def __init__(self, pairs: Pairs) -> None:
        self.features, self.rows = pairs.features, torch.from_numpy(pairs.rows)
        ends = pairs.starts + pairs.lengths + 1
        self.places = list(zip(pairs.starts.tolist(), ends.tolist(), strict=True))
        self.tokens = torch.from_numpy(pairs.tokens).long()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start, end = self.places[index]
        return self.features[self.rows[index]].float(), self.tokens[start:end]


def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Stack vectors, (B, D), and pad captions to the longest, (B, T)."""
    captions = pad_sequence([c for _, c in items], batch_first=True, padding_value=PAD)
    return torch.stack([features for features, _ in items]), captions


def plain(system: str, pairs: Pairs, args: argparse.Namespace, device: torch.device) -> float:
    """Return the tokens per second of the plain training."""
    torch.manual_seed(0)
    model = PlainCaptioner(system).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = _plain_batches(pairs, args)
    began, tokens = 0.0, 0
    for step, (features, captions) in enumerate(batches):
        if step == args.warm_up:
            began = time.perf_counter()
        loss = model(features.to(device), captions.to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        loss.item()  # tutorials print it; it also waits for the device
        if step >= args.warm_up:
            tokens += int((captions[:, 1:] != PAD).sum())
    return tokens / (time.perf_counter() - began)


def _plain_batches(pairs: Pairs, args: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of the plain training, the same ones in every call."""
    loader = DataLoader(
        PlainPairs(pairs),
        batch_size=args.batch_size,
        shuffle=True,
        collate_fn=collate,
        num_workers=args.workers,
        generator=torch.Generator().manual_seed(0),
    )
    endless = itertools.chain.from_iterable(itertools.repeat(loader))
    return itertools.islice(endless, args.warm_up + args.steps)


def _product_flops(_total: list[int], a: list[int], b: list[int], **_: object) -> int:
    return 2 * a[0] * a[1] * b[1]


IN_PLACE = {torch.ops.aten.addmm_: _product_flops}  # the counter does not know it


def flops(system: str, pairs: Pairs, args: argparse.Namespace) -> dict[str, float]:
    """Return the FLOPs per token of our training and of the plain one.

    Multiplications and additions of all matrix products, forward and backward, are counted by
    their shapes, in a few batches of ours and in all batches of the plain training.
    """
    torch.manual_seed(0)
    system_options = TrainOptions(system=system, cache=Path(), run=Path()).system_options(
        WORDS, FEATURES
    )
    network, tokens = build(system_options), 0
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        for captions in pairs.epoch(args.batch_size, 0, 0)[:FEW]:
            batch = pairs.batch(captions)
            loss = network.loss(batch.features, batch.inputs, batch.targets, batch.batch_sizes, 0)
            loss.total.backward()
            tokens += batch.tokens
    costs = {"ours": counter.get_total_flops() / tokens}
    # On other devices than meta, the LSTM is a single operation that the counter does not know.
    model, tokens = PlainCaptioner(system).to("meta"), 0
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        for features, padded in _plain_batches(pairs, args):
            model(features.to("meta"), padded.to("meta")).backward()
            tokens += int((padded[:, 1:] != PAD).sum())
    return {**costs, "plain": counter.get_total_flops() / tokens}


def product_rate(
    shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device, min_time: float = 0.5
) -> float:
    """Return the FLOP/s of matrix products of ``shape`` (m, k, n) over ``min_time`` seconds."""
    m, k, n = shape
    left = torch.randn(m, k, device=device).to(dtype)
    right = torch.randn(n, k, device=device).to(dtype).t()  # the layout of the weight of nn.Linear
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    left @ right
    wait()
    began, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < min_time:
        left @ right
        wait()
        count += 1
    return 2 * m * k * n * count / elapsed


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10, help="measured steps")
    parser.add_argument(
        "--warm-up", type=int, default=5, help="steps before them; must divide --steps"
    )
    parser.add_argument("--workers", type=int, default=2, help="workers of the plain DataLoader")
    parser.add_argument("--square", type=int, default=2048, help="size of the square product")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="ours; the plain training uses float32")
    args = parse(parser, argv, QUICK)
    if args.steps < args.warm_up or args.steps % args.warm_up:
        parser.error(f"--steps {args.steps}: give a multiple of --warm-up {args.warm_up}")
    device = choose_device(args.device)
    precision = str(choose_precision(args.precision, device)).removeprefix("torch.")
    cache = workload(args.workloads, args.images)
    pairs = load_pairs(cache, "train")

    shapes = {
        "as in training": (10 * args.batch_size, SIZE, WORDS),
        "square": (args.square,) * 3,
    }
    contestants: dict[str, Callable[[], float]] = {
        f"{kind}, {name}": partial(product_rate, shape, dtype, device)
        for kind, shape in shapes.items()
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }
    for system in SYSTEMS:
        contestants[f"{system}, ours"] = partial(ours, system, cache.root, args)
        contestants[f"{system}, plain"] = partial(plain, system, pairs, args, device)

    print_machine(
        args,
        f"{args.images:,} images, batches of {args.batch_size}, {args.steps} steps",
        f"device {device_name(device)}, ours in {precision}",
        f"{args.workers} workers of the plain DataLoader",
    )
    figures = interleave(contestants, args.rounds)
    print_table(
        ("matrix product", "m x k x n", "type", "GFLOP/s"),
        *(
            (
                kind,
                " x ".join(map(str, shape)),
                name,
                spread([rate / 1e9 for rate in figures[f"{kind}, {name}"]]),
            )
            for kind, shape in shapes.items()
            for name in ("float32", "bfloat16")
        ),
    )
    rows = []
    for system in SYSTEMS:
        paces = {who: figures[f"{system}, {who}"] for who in ("ours", "plain")}
        costs = flops(system, pairs, args)
        for who, kind in (("ours", precision), ("plain", "float32")):
            middle = statistics.median(paces[who])
            known = figures.get(f"as in training, {kind}")
            reached = costs[who] * middle
            rows.append(
                (
                    system,
                    who,
                    spread(paces[who]),
                    f"{middle / statistics.median(paces['plain']):.2f}",
                    f"{costs[who] / 1e6:.1f}",
                    f"{reached / 1e9:,.0f}",
                    f"{reached / statistics.median(known):.0%}" if known else "-",
                )
            )
    print_table(
        (
            "system",
            "training",
            "tokens/s",
            "ratio to plain",
            "MFLOP per token",
            "GFLOP/s",
            "of the product as in training",
        ),
        *rows,
    )


if __name__ == "__main__":
    main()
