"""Captions out of a decoder: greedy, beam search, and sampling, for many images at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from multispace.model.decoder import Decoder

MAX_WORDS = 20
BLOCK = 64  # words whose greatest value is looked for at once


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
    every: bool = False,
) -> Tensor:
    """Return the best caption that a beam of ``width`` finds for each condition.

    A hypothesis is worth its summed log probability divided by length ** ``length_penalty``
    (length with EOS). Ended ones stay in the beam and compete with those that go on. PAD, BOS
    and UNK are never produced.

    :param condition: (B, C)
    :param every: search on until all hypotheses have ended, and return all, the best first
    :return: int64 (B, <= max_words), each row ended by EOS (unless it ran out) and PAD; with
        ``every`` (B, width, <= max_words)
    """
    device = condition.device
    kept = width if every else 1
    out = torch.full((len(condition), kept, max_words), marks.pad, device=device)
    image = torch.arange(len(condition), device=device)  # those still searched for
    # All hypotheses of an image would begin alike: the beam begins with one, and fills up.
    scores = torch.zeros(len(condition), 1, device=device)
    done = torch.zeros_like(scores, dtype=torch.bool)
    lengths = torch.zeros_like(scores)
    history = torch.empty(len(condition), 1, 0, dtype=torch.int64, device=device)
    # Only of the hypotheses that have not ended, in the order of images and beams.
    state = decoder.start(condition)
    words = torch.full((len(condition),), marks.bos, device=device)

    for step in range(max_words):
        state, logits = decoder.step(state, words)
        going, held = ~done.view(-1), scores.shape[1]
        likeliest = _likeliest(logits, min(width, logits.shape[1]), marks)
        gains = scores.new_full((len(going), likeliest[0].shape[1]), -torch.inf)
        follow = torch.full(gains.shape, marks.pad, device=device)
        gains[going], follow[going] = likeliest
        gains[:, 0].masked_fill_(~going, 0.0)  # an ended one goes on with PAD, at no cost
        choices = (scores[:, :, None] + gains.view(len(image), held, -1)).flatten(1)
        scores, choice = choices.topk(min(width, choices.shape[1]), dim=1)
        origin, new = choice // gains.shape[1], follow.view(len(image), -1).gather(1, choice)
        done, lengths = done.gather(1, origin), lengths.gather(1, origin)
        lengths = lengths + (~done)
        done = done | (new == marks.eos)
        history = torch.cat((_take(history, origin), new[:, :, None]), dim=2)
        over = done.all(dim=1)
        if length_penalty == 0 and not every:  # with plain sums one only loses by going on
            over = over | done[:, 0]
        if step == max_words - 1:
            over = torch.ones_like(over)
        worth = scores[over] / lengths[over] ** length_penalty
        best = worth.argsort(dim=1, descending=True, stable=True)[:, :kept]
        out[image[over], : best.shape[1], : step + 1] = _take(history[over], best)
        on = ~over
        if not on.any():
            break
        came_from = torch.arange(len(image), device=device)[:, None] * held + origin
        place = going.cumsum(0) - 1  # of a hypothesis among those that went on
        image, history = image[on], history[on]
        scores, done, lengths = scores[on], done[on], lengths[on]
        state, words = state.select(place[came_from[on][~done]]), new[on][~done]
    out = out[:, :, : step + 1]
    return out if every else out[:, 0]


def _take(history: Tensor, origin: Tensor) -> Tensor:
    return history.gather(1, origin[:, :, None].expand(-1, -1, history.shape[2]))


def _forbid(logits: Tensor, marks: Marks) -> Tensor:
    never = torch.tensor([marks.pad, marks.bos, marks.unk], device=logits.device)
    return logits.float().index_fill_(-1, never, -torch.inf)


def _likeliest(logits: Tensor, count: int, marks: Marks) -> tuple[Tensor, Tensor]:
    """Return log probabilities and ids of the likeliest words after each hypothesis. (n, count)"""
    return _top(_forbid(logits, marks).log_softmax(-1), count)


def _top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the greatest values of each row and where they are, (n, count), in falling order.

    ``topk`` on rows of many words is slow on a CPU. The greatest values lie in the blocks with
    the greatest maxima, so that it is enough to look into as many blocks.
    """
    width = values.shape[1]
    whole = width // BLOCK
    if count == 1 or whole <= count:
        return values.topk(count, dim=1) if count > 1 else values.max(dim=1, keepdim=True)
    blocks = values[:, : whole * BLOCK].view(len(values), whole, BLOCK).amax(-1)
    chosen = blocks.topk(count, dim=1).indices
    inside = torch.arange(BLOCK, device=values.device)
    place = (chosen[:, :, None] * BLOCK + inside).flatten(1)
    rest = torch.arange(whole * BLOCK, width, device=values.device).expand(len(values), -1)
    place = torch.cat((place, rest), dim=1)
    found, at = values.gather(1, place).topk(count, dim=1)
    return found, place.gather(1, at)
