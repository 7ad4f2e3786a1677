"""Beam search for the captions of many images at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from multispace.model.decoder import Decoder

MAX_WORDS = 20
BLOCK = 64  # words whose maximum is taken at once


@dataclass(frozen=True)
class Marks:
    """The ids of the special words in the vocabulary."""

    pad: int = 0
    bos: int = 1
    eos: int = 2
    unk: int = 3


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

    The score of a hypothesis is its summed log probability divided by
    length ** ``length_penalty``, where the length includes EOS. Finished hypotheses stay in the
    beam and compete with the others. PAD, BOS and UNK are never produced. A width of 1 is greedy
    search.

    :param condition: (B, C)
    :param marks: ids of the special words
    :param max_words: maximum length, EOS included
    :param every: search until all hypotheses are finished, and return them all, best first
    :returns: int64 (B, <= max_words); with ``every`` (B, width, <= max_words). Each caption ends
        with EOS, unless it reached the maximum length, and is padded with PAD.
    """
    device = condition.device
    kept = width if every else 1
    out = torch.full((len(condition), kept, max_words), marks.pad, device=device)
    image = torch.arange(len(condition), device=device)  # images that are not finished
    # All first hypotheses of an image would be equal, so the beam starts with one and fills up.
    scores = torch.zeros(len(condition), 1, device=device)
    done = torch.zeros_like(scores, dtype=torch.bool)
    lengths = torch.zeros_like(scores)
    history = torch.empty(len(condition), 1, 0, dtype=torch.int64, device=device)
    # The state holds only unfinished hypotheses, in the order of images and hypotheses.
    state = decoder.start(condition)
    words = torch.full((len(condition),), marks.bos, device=device)

    for step in range(max_words):
        state, logits = decoder.step(state, words)
        unfinished, held = ~done.view(-1), scores.shape[1]
        likeliest = _likeliest(logits, min(width, logits.shape[1]), marks)
        gains = scores.new_full((len(unfinished), likeliest[0].shape[1]), -torch.inf)
        follow = torch.full(gains.shape, marks.pad, device=device)
        gains[unfinished], follow[unfinished] = likeliest
        gains[:, 0].masked_fill_(~unfinished, 0.0)  # a finished one continues with PAD for free
        choices = (scores[:, :, None] + gains.view(len(image), held, -1)).flatten(1)
        scores, choice = choices.topk(min(width, choices.shape[1]), dim=1)
        origin, new = choice // gains.shape[1], follow.view(len(image), -1).gather(1, choice)
        done, lengths = done.gather(1, origin), lengths.gather(1, origin)
        lengths = lengths + (~done)
        done = done | (new == marks.eos)
        history = torch.cat((_take(history, origin), new[:, :, None]), dim=2)
        over = done.all(dim=1)
        if length_penalty == 0 and not every:  # a sum of log probabilities only decreases
            over = over | done[:, 0]
        if step == max_words - 1:
            over = torch.ones_like(over)
        final = scores[over] / lengths[over] ** length_penalty
        best = final.argsort(dim=1, descending=True, stable=True)[:, :kept]
        out[image[over], : best.shape[1], : step + 1] = _take(history[over], best)
        open_ = ~over
        if not open_.any():
            break
        parent = torch.arange(len(image), device=device)[:, None] * held + origin
        row = unfinished.cumsum(0) - 1  # row of a hypothesis in the state
        image, history = image[open_], history[open_]
        scores, done, lengths = scores[open_], done[open_], lengths[open_]
        state, words = state.select(row[parent[open_][~done]]), new[open_][~done]
    out = out[:, :, : step + 1]
    return out if every else out[:, 0]


def _take(history: Tensor, origin: Tensor) -> Tensor:
    return history.gather(1, origin[:, :, None].expand(-1, -1, history.shape[2]))


def _likeliest(logits: Tensor, count: int, marks: Marks) -> tuple[Tensor, Tensor]:
    """Return log probabilities and ids of the most likely next words, (n, count) each."""
    never = torch.tensor([marks.pad, marks.bos, marks.unk], device=logits.device)
    allowed = logits.float().index_fill_(-1, never, -torch.inf)
    return _top(allowed.log_softmax(-1), count)


def _top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest values of each row and their columns, (n, count) each, sorted.

    ``topk`` over rows of many words is slow on a CPU. The ``count`` largest values lie in the
    ``count`` blocks with the largest maxima, so only these blocks are searched.
    """
    width = values.shape[1]
    whole = width // BLOCK
    if count == 1 or whole <= count:
        return values.topk(count, dim=1) if count > 1 else values.max(dim=1, keepdim=True)
    blocks = values[:, : whole * BLOCK].view(len(values), whole, BLOCK).amax(-1)
    chosen = blocks.topk(count, dim=1).indices
    inside = torch.arange(BLOCK, device=values.device)
    columns = (chosen[:, :, None] * BLOCK + inside).flatten(1)
    rest = torch.arange(whole * BLOCK, width, device=values.device).expand(len(values), -1)
    columns = torch.cat((columns, rest), dim=1)
    found, at = values.gather(1, columns).topk(count, dim=1)
    return found, columns.gather(1, at)
