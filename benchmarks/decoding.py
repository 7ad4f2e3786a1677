"""Speed of decoding many images at once, compared with a beam search of one image at a time.

Ours is :func:`decoding.caption_features`. The other is the usual search: image by image, with
the hypotheses in a Python list and one decoder step for the unfinished ones. Both use the same
untrained `base`. Its output is scaled up so that words differ between images, and one unit of its
LSTM counts words and then produces EOS, so that captions have about ten words, most of them
between eight and twelve as in COCO.

Both searches must find the same captions. Sums in another order differ in their last digits, so
two hypotheses with almost equal scores may swap. For captions that differ, the table shows the
difference in log probability, which must be tiny.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from measurement import (
    device_name,
    interleave,
    options,
    parse,
    print_machine,
    print_table,
    seconds,
    spread,
)
from torch import Tensor
from workload import FEATURES, WORDS, workload

from multispace.data.batches import feature_moments, load_pairs
from multispace.data.captions.vocabulary import Vocabulary
from multispace.model.beam_search import MAX_WORDS
from multispace.model.decoder import State
from multispace.model.device import choose_device
from multispace.model.systems import build
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.inference.decoding import MARKS, caption_features

QUICK = {"rounds": 1, "images": 40, "one_by_one": 10}
WORDS_A_CAPTION = 10
SCALE = 20.0  # factor on the output weights; an untrained output is almost uniform
COUNTER = 40.0  # weight from the counter, which rises by about 0.04 per word, to EOS
TIE = 1e-3  # nats; float32 sums over such captions differ by less than 1e-4


@dataclass(frozen=True)
class Hypothesis:
    """A partial caption: its words after BOS, their log probability, the state after them."""

    words: tuple[int, ...]
    score: float
    state: State  # of one row

    @property
    def ended(self) -> bool:
        """Whether the last word is EOS."""
        return bool(self.words) and self.words[-1] == MARKS.eos


@torch.inference_mode()
def beam_search(system: Captioner, features: Tensor, width: int) -> tuple[int, ...]:
    """Return the best caption of one image, features (1, D)."""
    state = system.decoder.start(system.condition(features))
    beam = [Hypothesis((), 0.0, state)]
    for _ in range(MAX_WORDS):
        unfinished = [one for one in beam if not one.ended]
        state, log_p = _next(system, unfinished)
        scores, words = log_p.topk(width)
        longer = [
            Hypothesis(
                (*one.words, word),
                one.score + score,
                state.select(torch.tensor([row])),
            )
            for row, one in enumerate(unfinished)
            for score, word in zip(scores[row].tolist(), words[row].tolist(), strict=True)
        ]
        ended = [one for one in beam if one.ended]
        beam = sorted([*ended, *longer], key=lambda one: one.score, reverse=True)[:width]
        if beam[0].ended:  # scores of the others can only decrease
            break
    return beam[0].words


@torch.inference_mode()
def log_probability(system: Captioner, features: Tensor, words: Sequence[int]) -> float:
    """Return the log probability of a caption, in nats; features (1, D)."""
    here = Hypothesis((), 0.0, system.decoder.start(system.condition(features)))
    for word in words:
        state, log_p = _next(system, [here])
        here = Hypothesis((*here.words, word), here.score + log_p[0, word].item(), state)
    return here.score


def _next(system: Captioner, unfinished: Sequence[Hypothesis]) -> tuple[State, Tensor]:
    """Read the last word of each hypothesis; return states and (n, V) log probabilities."""
    layers = zip(*(one.state.layers for one in unfinished), strict=True)
    joined = State(
        tuple(tuple(torch.cat(part) for part in zip(*layer, strict=True)) for layer in layers),
        torch.cat([one.state.condition for one in unfinished]),
    )
    last = [one.words[-1] if one.words else MARKS.bos for one in unfinished]
    device = system.feature_mean.device
    state, logits = system.decoder.step(joined, torch.tensor(last, device=device))
    logits[:, [MARKS.pad, MARKS.bos, MARKS.unk]] = -torch.inf
    return state, logits.log_softmax(-1)


def make_system(features: Tensor, vocabulary: Vocabulary, device: torch.device) -> Captioner:
    """Return `base` whose greedy captions of ``features`` have about ten words."""
    torch.manual_seed(0)
    system = build(
        TrainOptions(system="base", cache=Path(), run=Path()).system_options(WORDS, FEATURES)
    )
    system.set_feature_moments(*feature_moments(features))
    system = system.to(device).eval()
    decoder, output = system.decoder, system.decoder.output
    with torch.no_grad():
        output.weight.mul_(SCALE)
        for gate, bias in enumerate((10.0, 10.0, 0.1, 10.0)):  # cell state += 0.1, output gate open
            unit = gate * decoder.recurrent_gates.in_features
            for gates in (decoder.word_gates, decoder.condition_gates, decoder.recurrent_gates):
                gates.weight[unit] = 0.0
            decoder.word_gates.bias[unit] = bias
        output.weight[:, 0] = 0.0
        output.weight[MARKS.eos] = 0.0
        output.weight[MARKS.eos, 0] = COUNTER
    low, high = -COUNTER, COUNTER
    for _ in range(12):
        with torch.no_grad():
            output.bias[MARKS.eos] = (low + high) / 2
        captions = caption_features(system, features[:64], vocabulary)
        if _mean_words(captions) > WORDS_A_CAPTION:
            low = (low + high) / 2
        else:
            high = (low + high) / 2
    return system


def _mean_words(captions: Sequence[str]) -> float:
    return statistics.mean(len(caption.split()) for caption in captions)


def _words(captions: Sequence[str]) -> str:
    lengths = [len(caption.split()) for caption in captions]
    return f"{statistics.mean(lengths):.1f} ({min(lengths)} to {max(lengths)})"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument(
        "--one-by-one", type=int, default=200, help="images that the other search is timed on"
    )
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--device", default="auto")
    args = parse(parser, argv, QUICK)
    device = choose_device(args.device)
    cache = workload(args.workloads, args.images)
    vocabulary = cache.vocabulary()
    features = load_pairs(cache, "train").features
    system = make_system(features, vocabulary, device)
    few = features[: args.one_by_one].to(device)

    found: dict[str, list[str]] = {}

    def many_at_once(width: int) -> float:
        def work() -> None:
            found[f"ours {width}"] = caption_features(system, features, vocabulary, width=width)

        return seconds(work) / len(features)

    def one_by_one(width: int) -> float:
        def work() -> None:
            captions = [beam_search(system, one[None], width) for one in few]
            found[f"other {width}"] = [vocabulary.decode(words) for words in captions]

        return seconds(work) / len(few)

    print_machine(
        args,
        f"{len(features):,} images at once, {len(few):,} one by one",
        f"device {device_name(device)}, float32",
    )
    rows = []
    for width in (1, args.beam):
        figures = interleave(
            {"ours": partial(many_at_once, width), "other": partial(one_by_one, width)},
            args.rounds,
        )
        ours, other = found[f"ours {width}"], found[f"other {width}"]
        gaps = [
            abs(_worth(system, one, vocabulary, a) - _worth(system, one, vocabulary, b))
            for one, a, b in zip(few, ours, other, strict=False)
            if a != b
        ]
        if gaps and max(gaps) > TIE:
            raise AssertionError(f"beam {width}: differing captions are {max(gaps)} nats apart")
        milliseconds = {name: [1000 * v for v in values] for name, values in figures.items()}
        times = statistics.median(figures["other"]) / statistics.median(figures["ours"])
        rows.append(
            (
                "greedy" if width == 1 else f"beam {width}",
                spread(milliseconds["ours"], "{:.2f}"),
                spread(milliseconds["other"], "{:.2f}"),
                f"{times:.1f}",
                _words(ours),
                f"{len(set(ours)):,}",
                f"{len(gaps)} of {len(few):,}" + (f", at most {max(gaps):.0e}" if gaps else ""),
            )
        )
    print_table(
        (
            "search",
            "at once, ms per image",
            "one by one, ms per image",
            "times faster",
            "words per caption",
            "distinct captions",
            "captions that differ (nats apart)",
        ),
        *rows,
    )


def _worth(system: Captioner, features: Tensor, vocabulary: Vocabulary, caption: str) -> float:
    words = vocabulary.encode(caption)
    ended = len(words) < MAX_WORDS
    return log_probability(system, features[None], [*words, *([MARKS.eos] if ended else [])])


if __name__ == "__main__":
    main()
