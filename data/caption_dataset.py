"""A split as a PyTorch dataset, for models that are trained outside this package."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_sequence
from torch.utils.data import Dataset

from multispace.data.batches import Pairs
from multispace.data.captions.vocabulary import PAD


class CaptionItem(NamedTuple):
    """One caption and the feature vector of its image."""

    feature: Tensor  # float32 (D,)
    tokens: Tensor  # int64 (T,), from BOS to EOS
    key: str  # of the image


class PaddedBatch(NamedTuple):
    """B captions, padded to the longest one.

    ``tokens[:, :-1]`` are the inputs of a decoder, and ``tokens[:, 1:]`` its targets.
    """

    features: Tensor  # float32 (B, D)
    tokens: Tensor  # int64 (B, T), from BOS to EOS and then PAD, which is 0
    lengths: Tensor  # int64 (B,), tokens of each caption, BOS and EOS included
    keys: list[str]


class PackedBatch(NamedTuple):
    """B captions as PyTorch's recurrent layers take them, without padding."""

    features: Tensor  # float32 (B, D)
    tokens: PackedSequence  # int64, from BOS to EOS
    keys: list[str]


class CaptionDataset(Dataset[CaptionItem]):
    """The M captions of a split, each with the feature vector of its image.

    Features and captions are in memory. Worker processes of a ``DataLoader`` share them.

    :param padded: whether ``collate`` returns :class:`PaddedBatch` or :class:`PackedBatch`
    """

    collate: Callable[[Sequence[CaptionItem]], Any]
    """The ``collate_fn`` that a ``DataLoader`` over the dataset needs."""

    def __init__(self, pairs: Pairs, padded: bool = True) -> None:
        self.collate = collate_padded if padded else collate_packed
        # Tensors, because processes that are spawned share the memory of tensors.
        self._features = pairs.features
        self._tokens = torch.from_numpy(pairs.tokens)
        self._rows = torch.from_numpy(pairs.rows)
        self._starts = torch.from_numpy(pairs.starts)
        self._ends = self._starts + torch.from_numpy(pairs.lengths) + 1
        self._keys = pairs.keys

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> CaptionItem:
        row = self._rows[index]
        tokens = self._tokens[self._starts[index] : self._ends[index]]
        return CaptionItem(self._features[row].float(), tokens.long(), self._keys[row])


def collate_padded(items: Sequence[CaptionItem]) -> PaddedBatch:
    """Return the items as one batch, padded to the longest caption."""
    features, tokens, keys = zip(*items, strict=True)
    return PaddedBatch(
        torch.stack(features),
        pad_sequence(list(tokens), batch_first=True, padding_value=PAD),
        torch.tensor([len(caption) for caption in tokens]),
        list(keys),
    )


def collate_packed(items: Sequence[CaptionItem]) -> PackedBatch:
    """Return the items as one batch with a ``PackedSequence`` of tokens."""
    features, tokens, keys = zip(*items, strict=True)
    return PackedBatch(
        torch.stack(features), pack_sequence(list(tokens), enforce_sorted=False), list(keys)
    )
