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
        allowed = _forbid(logits, marks) / temperature
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
    device = condition.device
    out = torch.full((len(condition), max_words), marks.pad, device=device)
    picture = torch.arange(len(condition), device=device)  # those still searched for
    state = decoder.start(condition.repeat_interleave(width, dim=0))
    words = torch.full((len(condition) * width,), marks.bos, device=device)
    scores = torch.full((len(condition), width), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all beams of a picture start alike: only one of them counts
    done = torch.zeros_like(scores, dtype=torch.bool)
    lengths = torch.zeros_like(scores)
    history = torch.empty(len(condition), width, 0, dtype=torch.int64, device=device)

    for step in range(max_words):
        state, logits = decoder.step(state, words)
        gains, follow = _likeliest(logits, min(width, logits.shape[1]), done.view(-1), marks)
        choices = scores[:, :, None] + gains.view(len(picture), width, -1)
        scores, choice = choices.view(len(picture), -1).topk(width, dim=1)
        origin, new = choice // gains.shape[1], follow.view(len(picture), -1).gather(1, choice)
        done, lengths = done.gather(1, origin), lengths.gather(1, origin)
        lengths = lengths + (~done)
        done = done | (new == marks.eos)
        history = torch.cat((_take(history, origin), new[:, :, None]), dim=2)
        over = done.all(dim=1)
        if length_penalty == 0:  # with plain sums a hypothesis only loses by going on
            over = over | done[:, 0]
        if step == max_words - 1:
            over = torch.ones_like(over)
        worth = scores[over] / lengths[over] ** length_penalty
        best = worth.argmax(dim=1, keepdim=True)
        out[picture[over], : step + 1] = _take(history[over], best)[:, 0]
        on = ~over
        if not on.any():
            break
        rows = torch.arange(len(picture), device=device)[:, None] * width + origin
        picture, history = picture[on], history[on]
        scores, done, lengths = scores[on], done[on], lengths[on]
        state, words = state.select(rows[on].view(-1)), new[on].view(-1)
    return out[:, : step + 1]


def _take(history: Tensor, origin: Tensor) -> Tensor:
    return history.gather(1, origin[:, :, None].expand(-1, -1, history.shape[2]))


def _forbid(logits: Tensor, marks: Marks) -> Tensor:
    never = torch.tensor([marks.pad, marks.bos, marks.unk], device=logits.device)
    return logits.float().index_fill_(-1, never, -torch.inf)


def _likeliest(logits: Tensor, count: int, done: Tensor, marks: Marks) -> tuple[Tensor, Tensor]:
    """Return log probabilities and ids of the likeliest words after each hypothesis. (n, count)

    An ended hypothesis goes on with PAD at no cost, and with nothing else.
    """
    logits = _forbid(logits, marks)
    best, words = logits.topk(count, dim=-1) if count > 1 else logits.max(dim=-1, keepdim=True)
    gains = best - logits.logsumexp(dim=-1, keepdim=True)
    gains.masked_fill_(done[:, None], -torch.inf)
    gains[:, 0].masked_fill_(done, 0.0)
    return gains, words.masked_fill(done[:, None], marks.pad)
