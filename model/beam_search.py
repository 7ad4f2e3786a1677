"""Beam search for the captions of many images at once."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from multispace.model.decoder import Decoder
from multispace.model.device import is_gpu
from multispace.model.guided_decoder import GuidedDecoder

MAX_WORDS = 20
LOOK = 4  # steps of a GPU between two looks at whether all captions are finished
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
    decoder: Decoder | GuidedDecoder,
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
    search = _Search(decoder, condition, marks, width, length_penalty, every)
    run = search.in_place if is_gpu(condition.device) else search.shrinking
    out = run(max_words)
    return out if every else out[:, 0]


class _Hypotheses(NamedTuple):
    """The hypotheses of n images, the best ones first; their captions have t words."""

    scores: Tensor  # sums of log probabilities, (n, h)
    done: Tensor  # whether the caption has ended, bool (n, h)
    lengths: Tensor  # words with EOS, (n, h)
    history: Tensor  # words, int64 (n, h, t)

    def select(self, images: Tensor) -> "_Hypotheses":
        """Return those of some images, bool (n,)."""
        return _Hypotheses(*(part[images] for part in self))


class _Search:
    """A beam search for all images at once, in one of two ways with the same results.

    All first hypotheses of an image would be equal, so the beam starts with one and fills up.
    """

    def __init__(
        self,
        decoder: Decoder | GuidedDecoder,
        condition: Tensor,
        marks: Marks,
        width: int,
        length_penalty: float,
        every: bool,
    ) -> None:
        self.decoder, self.marks, self.width = decoder, marks, width
        self.length_penalty, self.every = length_penalty, every
        self.kept = width if every else 1
        self.images, self.device = len(condition), condition.device
        self.never = torch.tensor([marks.pad, marks.bos, marks.unk], device=self.device)
        self.state = decoder.start(condition)
        self.words = torch.full((self.images,), marks.bos, device=self.device)
        scores = torch.zeros(self.images, 1, device=self.device)
        history = torch.empty(self.images, 1, 0, dtype=torch.int64, device=self.device)
        self.found = _Hypotheses(
            scores, torch.zeros_like(scores, dtype=torch.bool), torch.zeros_like(scores), history
        )

    def shrinking(self, max_words: int) -> Tensor:
        """Search with only the unfinished hypotheses of the unfinished images.

        The state holds only them, in the order of images and hypotheses.

        :returns: int64 (B, kept, <= max_words)
        """
        out = torch.full((self.images, self.kept, max_words), self.marks.pad, device=self.device)
        image = torch.arange(self.images, device=self.device)  # images that are not finished
        for step in range(max_words):
            likeliest = self._next()
            done = self.found.done
            unfinished, held = ~done.view(-1), done.shape[1]
            gains = likeliest[0].new_full((len(unfinished), likeliest[0].shape[1]), -torch.inf)
            follow = torch.full(gains.shape, self.marks.pad, device=self.device)
            gains[unfinished], follow[unfinished] = likeliest
            origin, new = self._extend(gains, follow)
            over = self._over()
            if step == max_words - 1:
                over = torch.ones_like(over)
            best = self._best(self.found.select(over))
            out[image[over], : best.shape[1], : step + 1] = best
            open_ = ~over
            if not open_.any():
                break
            parent = torch.arange(len(image), device=self.device)[:, None] * held + origin
            row = unfinished.cumsum(0) - 1  # row of a hypothesis in the state
            image, self.found = image[open_], self.found.select(open_)
            still = ~self.found.done
            self.state = self.state.select(row[parent[open_][still]])
            self.words = new[open_][still]
        return out[:, :, : step + 1]

    def in_place(self, max_words: int) -> Tensor:
        """Search with all hypotheses of all images until the last one is finished.

        To leave out the finished ones, the CPU would have to wait for the GPU in each step.

        :returns: int64 (B, kept, <= max_words)
        """
        for step in range(max_words):
            gains, follow = self._next()
            done = self.found.done
            finished, held = done.view(-1, 1), done.shape[1]
            gains = gains.masked_fill(finished, -torch.inf)
            origin, new = self._extend(gains, follow.masked_fill(finished, self.marks.pad))
            if step % LOOK == LOOK - 1 and self._over().all():
                break
            parent = torch.arange(self.images, device=self.device)[:, None] * held + origin
            self.state, self.words = self.state.select(parent.view(-1)), new.view(-1)
        best = self._best(self.found)
        longest = int((best != self.marks.pad).sum(-1).max())
        out = torch.full((self.images, self.kept, longest), self.marks.pad, device=self.device)
        out[:, : best.shape[1]] = best[:, :, :longest]
        return out

    def _next(self) -> tuple[Tensor, Tensor]:
        """Read a word per hypothesis of the state; return what may follow, (n, count) each."""
        self.state, logits = self.decoder.step(self.state, self.words)
        allowed = logits.float().index_fill_(-1, self.never, -torch.inf)
        return _top(allowed.log_softmax(-1), min(self.width, logits.shape[1]))

    def _extend(self, gains: Tensor, follow: Tensor) -> tuple[Tensor, Tensor]:
        """Extend the hypotheses by one word, and keep the best of each image.

        :param gains: log probabilities of next words, (images * h, count); -inf after the end
        :param follow: these words; PAD after the end
        :returns: the hypothesis that each new one extends, and its new word, (n, h) each
        """
        scores, done, lengths, history = self.found
        ended = done.view(-1)
        gains[:, 0].masked_fill_(ended, 0.0)  # a finished one continues with PAD for free
        count = gains.shape[1]
        choices = (scores[:, :, None] + gains.view(*scores.shape, count)).flatten(1)
        scores, choice = choices.topk(min(self.width, choices.shape[1]), dim=1)
        origin = choice // count
        new = follow.view(len(scores), -1).gather(1, choice)
        done, lengths = done.gather(1, origin), lengths.gather(1, origin)
        history = torch.cat((_take(history, origin), new[:, :, None]), dim=2)
        self.found = _Hypotheses(scores, done | (new == self.marks.eos), lengths + ~done, history)
        return origin, new

    def _over(self) -> Tensor:
        """Return which images are finished, bool (n,)."""
        over = self.found.done.all(dim=1)
        if self.length_penalty == 0 and not self.every:
            return over | self.found.done[:, 0]  # a sum of log probabilities only decreases
        return over

    def _best(self, found: _Hypotheses) -> Tensor:
        """Return the captions to keep of each image, the best ones first, (n, <= kept, t)."""
        final = found.scores / found.lengths**self.length_penalty
        best = final.argsort(dim=1, descending=True, stable=True)[:, : self.kept]
        return _take(found.history, best)


def _take(history: Tensor, origin: Tensor) -> Tensor:
    return history.gather(1, origin[:, :, None].expand(-1, -1, history.shape[2]))


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
