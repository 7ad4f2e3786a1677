"""Captions out of a decoder: greedy, beam search, and sampling, for many pictures at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.decoder import Decoder

MAX_WORDS = 20


@dataclass(frozen=True)
class Marks:
    """The ids of the special words, as the vocabulary has them."""

    pad: int = 0
    bos: int = 1
    eos: int = 2
    unk: int = 3


@torch.inference_mode()
def greedy(
    decoder: Decoder, condition: Tensor, *, marks: Marks, max_words: int = MAX_WORDS
) -> Tensor:
    """Take the likeliest word at each step. (B, C) -> int64 (B, <= max_words)"""
    return beam(decoder, condition, marks=marks, width=1, max_words=max_words)


@torch.inference_mode()
def sample(
    decoder: Decoder,
    condition: Tensor,
    *,
    marks: Marks,
    temperature: float = 1.0,
    max_words: int = MAX_WORDS,
) -> Tensor:
    """Draw each word from the decoder's distribution. (B, C) -> int64 (B, <= max_words)"""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, it must be above 0")
    state = decoder.start(condition)
    words = torch.full((len(condition),), marks.bos, device=condition.device)
    done = torch.zeros_like(words, dtype=torch.bool)
    out = []
    for _ in range(max_words):
        state, logits = decoder.step(state, words)
        allowed = _forbid(logits.float(), marks) / temperature
        words = torch.multinomial(allowed.softmax(-1), 1).squeeze(1)
        words = words.masked_fill(done, marks.pad)
        out.append(words)
        done = done | (words == marks.eos)
        if done.all():
            break
    return torch.stack(out, dim=1)


@torch.inference_mode()
def beam(
    decoder: Decoder,
    condition: Tensor,
    *,
    marks: Marks,
    width: int,
    max_words: int = MAX_WORDS,
    length_penalty: float = 0.0,
) -> Tensor:
    """Return the best caption that a beam of ``width`` finds for each condition.

    A hypothesis is worth its summed log probability divided by length ** ``length_penalty``
    (length with EOS). Ended ones stay in the beam and compete with those that go on. PAD, BOS
    and UNK are never produced.

    :param condition: (B, C)
    :return: int64 (B, <= max_words), each row ended by EOS (unless it ran out) and PAD
    """
    rows, device = len(condition), condition.device
    state = decoder.start(condition.repeat_interleave(width, dim=0))
    words = torch.full((rows * width,), marks.bos, device=device)
    scores = torch.full((rows, width), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all beams of a picture start alike: only one of them counts
    done = torch.zeros(rows, width, dtype=torch.bool, device=device)
    lengths = torch.zeros(rows, width, device=device)
    history = torch.empty(rows, width, 0, dtype=torch.int64, device=device)
    first = torch.arange(rows, device=device)[:, None] * width

    for _ in range(max_words):
        state, logits = decoder.step(state, words)
        steps = _forbid(logits.float(), marks).log_softmax(-1).view(rows, width, -1)
        steps = _only_padding(steps, done, marks)
        vocabulary = steps.shape[-1]
        scores, choice = (scores[:, :, None] + steps).view(rows, -1).topk(width, dim=1)
        origin, new = choice // vocabulary, choice % vocabulary
        done, lengths = done.gather(1, origin), lengths.gather(1, origin)
        lengths = lengths + (~done)
        done = done | (new == marks.eos)
        history = torch.cat((_take(history, origin), new[:, :, None]), dim=2)
        state = state.select((first + origin).view(-1))
        words = new.view(-1)
        if done.all() or (length_penalty == 0 and done[:, 0].all()):
            break  # with plain sums a hypothesis only loses by going on

    worth = scores / lengths**length_penalty
    return _take(history, worth.argmax(dim=1, keepdim=True))[:, 0]


def _take(history: Tensor, origin: Tensor) -> Tensor:
    return history.gather(1, origin[:, :, None].expand(-1, -1, history.shape[2]))


def _forbid(logits: Tensor, marks: Marks) -> Tensor:
    never = torch.tensor([marks.pad, marks.bos, marks.unk], device=logits.device)
    return logits.index_fill(-1, never, -torch.inf)


def _only_padding(steps: Tensor, done: Tensor, marks: Marks) -> Tensor:
    """Let an ended hypothesis go on with PAD at no cost, and with nothing else."""
    steps = steps.masked_fill(done[:, :, None], -torch.inf)
    steps[:, :, marks.pad] = torch.where(done, 0.0, steps[:, :, marks.pad])
    return steps
