"""Ancestral sampling: captions drawn word by word from the decoder's softmax."""

import torch
from torch import Tensor

from multispace.model.beam_search import Marks
from multispace.model.decoder import Decoder
from multispace.model.guided_decoder import GuidedDecoder


@torch.inference_mode()
def sample(
    decoder: Decoder | GuidedDecoder,
    condition: Tensor,
    uniforms: Tensor,
    *,
    marks: Marks,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Tensor:
    """Draw a caption for each condition.

    Each word is drawn from softmax(logits / temperature), over the words that :func:`next_words`
    keeps. PAD, BOS and UNK are never produced. The only source of chance is ``uniforms``, so a
    caption does not depend on the other rows.

    :param condition: (B, C)
    :param uniforms: numbers in [0, 1), one for each word of each caption, (B, max words)
    :param marks: ids of the special words
    :param temperature: 0 is greedy search
    :param top_p: probability of the words that are kept at each step
    :returns: int64 (B, <= max words). Each caption ends with EOS, unless it reached the maximum
        length, and is padded with PAD.
    """
    limit = uniforms.shape[1]
    out = torch.full((len(condition), limit), marks.pad, device=condition.device)
    rows = torch.arange(len(condition), device=condition.device)  # captions that are not finished
    never = torch.tensor([marks.pad, marks.bos, marks.unk], device=condition.device)
    state = decoder.start(condition)
    words = torch.full_like(rows, marks.bos)
    for step in range(limit):
        state, logits = decoder.step(state, words)
        allowed = logits.float().index_fill_(-1, never, -torch.inf)
        words = next_words(allowed, uniforms[rows, step], temperature, top_p)
        out[rows, step] = words
        open_ = words != marks.eos
        if not open_.any():
            break
        rows, words, state = rows[open_], words[open_], state.select(open_.nonzero()[:, 0])
    return out[:, : step + 1]


def next_words(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> Tensor:
    """Draw a word for each row by the inverse of the distribution function.

    With ``top_p`` below 1 the words are those of nucleus sampling (Holtzman 2020): the smallest
    set of the most probable words whose probability is at least ``top_p``.

    :param logits: (n, V); -inf for words that are not allowed
    :param uniforms: numbers in [0, 1), (n,)
    :param temperature: 0 returns the most probable word
    :returns: int64 (n,)
    """
    if temperature == 0:
        return logits.argmax(-1)
    weights = ((logits - logits.amax(-1, keepdim=True)) / temperature).exp_()
    if top_p < 1:
        weights, ids = weights.sort(dim=-1, descending=True, stable=True)
        sums = _sums(weights)
        weights = weights.masked_fill(sums - weights >= top_p * sums[:, -1:], 0.0)
    # A number below 1 times the last sum is below that sum. The first sum above the product is
    # that of a word whose weight is above 0.
    sums = _sums(weights)
    drawn = torch.searchsorted(sums, uniforms[:, None].double() * sums[:, -1:], right=True)
    return ids.gather(-1, drawn)[:, 0] if top_p < 1 else drawn[:, 0]


def _sums(weights: Tensor) -> Tensor:
    """Return cumulative sums in float64: in float32 they are wrong in the sixth digit. (n, V)"""
    return weights.cumsum(-1, dtype=torch.float64)
