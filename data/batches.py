"""Encoded captions and features in memory, as batches for training.

Captions of similar length are batched together. The tokens of a batch are packed: captions are
sorted by decreasing length, their tokens are laid out step by step, and there is no padding.
The order of batches depends only on the seed and the epoch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from multispace.data.cache.reader import Cache
from multispace.data.captions.encoded_captions import Captions
from multispace.data.captions.vocabulary import BOS, EOS
from multispace.errors import CaptionsError, MissingFeatureError

CHUNK = 512  # images whose moments are computed together
MAX_OF_GPU = 0.25  # of a GPU's free memory, for the features of a split
BUCKET = 50  # batches whose captions are sorted by length together


@dataclass(frozen=True)
class Batch:
    """B captions with N tokens in all, packed step by step as in PyTorch's ``PackedSequence``.

    ``batch_sizes[t]`` is the number of captions that have a token at step t. They are the first
    ones, because captions are sorted by decreasing length. ``inputs`` starts with B times BOS;
    ``targets`` has EOS at each caption's last step.
    """

    features: Tensor  # (B, D) in the storage type
    inputs: Tensor  # int64 (N,)
    targets: Tensor  # int64 (N,)
    batch_sizes: tuple[int, ...]

    @property
    def captions(self) -> int:
        """The number of captions."""
        return len(self.features)

    @property
    def tokens(self) -> int:
        """The number of tokens to predict, EOS included."""
        return len(self.targets)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``. The copy to a GPU does not wait for it."""
        features, inputs, targets = (
            _send(tensor, device) for tensor in (self.features, self.inputs, self.targets)
        )
        return Batch(features, inputs, targets, self.batch_sizes)


@dataclass(frozen=True)
class Pairs:
    """The M captions of a split with the D-dimensional features of their P images."""

    captions: Captions
    features: Tensor  # (P, D), one row for each image that has a feature vector
    images: tuple[int, ...]  # row of ``features`` -> image number in ``captions``
    rows: np.ndarray  # int64 (M,), caption -> row of ``features``
    starts: np.ndarray  # int64 (M,), caption -> its first token in ``tokens``
    lengths: np.ndarray  # int64 (M,), tokens of a caption, EOS included
    tokens: np.ndarray  # int16 or int32, all captions one after another, each between BOS and EOS
    without_vector: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def keys(self) -> list[str]:
        """The keys of the images, in the order of ``features``."""
        return [self.captions.keys[image] for image in self.images]

    def kept_on(self, device: torch.device) -> "Pairs":
        """Return the pairs with their features on a GPU, if they take little of its memory.

        The batches are then made there.
        """
        if device.type != "cuda":
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.features.nbytes > MAX_OF_GPU * free:
            return self
        return replace(self, features=self.features.to(device))

    def epoch(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
        """Return the caption numbers of each batch of an epoch, in order."""
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(self))
        bucket = batch_size * BUCKET
        batches = []
        for start in range(0, len(order), bucket):
            part = order[start : start + bucket]
            part = part[np.argsort(-self.lengths[part], kind="stable")]
            batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def sequential(self, batch_size: int) -> Iterator[Batch]:
        """Yield every caption once, longest first."""
        order = np.argsort(-self.lengths, kind="stable")
        for start in range(0, len(order), batch_size):
            yield self.batch(order[start : start + batch_size])

    def batch(self, captions: np.ndarray) -> Batch:
        """Pack captions into a batch.

        :param captions: caption numbers, by decreasing length
        """
        lengths = self.lengths[captions]
        steps = np.arange(lengths[0])
        real = steps[:, None] < lengths  # (T, B)
        place = (self.starts[captions] + steps[:, None])[real]
        numbers = (self.rows[captions], self.tokens[place], self.tokens[place + 1])
        rows, inputs, targets = (torch.from_numpy(n.astype(np.int64)) for n in numbers)
        if self.features.is_cuda:  # one copy in place of three
            whole = _send(torch.cat((rows, inputs, targets)), self.features.device)
            rows, inputs, targets = whole.split((len(rows), len(inputs), len(targets)))
        return Batch(
            features=self.features[rows],
            inputs=inputs,
            targets=targets,
            batch_sizes=tuple(real.sum(axis=1).tolist()),
        )


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device. The CPU does not wait for a GPU, which copies pinned memory."""
    if device.type == "cuda" and not tensor.is_cuda:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def load_pairs(cache: Cache, split: str) -> Pairs:
    """Load the captions of ``split`` with the features of their images.

    Images that the cache records as failed are left out and counted.

    :raises CaptionsError: there is no such split, or none of its images has a feature vector.
    :raises MissingFeatureError: an image has neither a feature vector nor a recorded failure.
    """
    captions = cache.captions(split)
    places = cache.find(captions.keys)
    has = places[:, 0] >= 0
    unknown = [
        key
        for key, there in zip(captions.keys, has, strict=True)
        if not there and key not in cache.failures
    ]
    if unknown:
        raise MissingFeatureError(
            f"{len(unknown)} images of {split!r} have no vector, the first is {unknown[0]}",
            where=cache.root,
            hint="run `multispace preprocess` with --images on this split",
        )
    if not has.any():
        raise CaptionsError(f"no image of {split!r} has a vector", where=cache.root)
    keys = [captions.keys[image] for image in np.flatnonzero(has)]
    return make_pairs(captions, has, torch.from_numpy(cache.read(keys, places[has])))


def make_pairs(captions: Captions, has: np.ndarray, features: Tensor) -> Pairs:
    """Return the captions of the images that have features, with the features.

    :param has: which images have them, bool (images,)
    :param features: theirs, in their order, (P, D)
    """
    row_of = np.cumsum(has) - 1
    kept = np.flatnonzero(has[captions.image])
    tokens, starts = _with_marks(captions)
    return Pairs(
        captions=captions,
        features=features,
        images=tuple(np.flatnonzero(has).tolist()),
        rows=row_of[captions.image[kept]].astype(np.int64),
        starts=starts[kept],
        lengths=np.diff(captions.offsets)[kept] + 1,
        tokens=tokens,
        without_vector=int((~has).sum()),
    )


def _with_marks(captions: Captions) -> tuple[np.ndarray, np.ndarray]:
    """Return all tokens with BOS before and EOS after each caption, and where captions start."""
    count = len(captions.offsets) - 1
    starts = captions.offsets[:-1] + 2 * np.arange(count)
    ends = captions.offsets[1:] + 2 * np.arange(count) + 1
    largest = captions.tokens.max(initial=EOS)  # most vocabularies need half of an int32
    kind = np.int16 if largest <= np.iinfo(np.int16).max else np.int32
    tokens = np.empty(len(captions.tokens) + 2 * count, kind)
    words = np.ones(len(tokens), bool)
    words[starts] = words[ends] = False
    tokens[starts], tokens[ends], tokens[words] = BOS, EOS, captions.tokens
    return tokens, starts


def feature_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each feature over images, float32 (D,) each.

    A constant feature gets a standard deviation of 1, so that standardizing it gives 0.

    :param features: (P, D)
    """
    parts = features.split(CHUNK)  # a float32 copy of all features would double their memory
    # Moments around a point near the mean, so that the difference of squares keeps precision.
    centre = parts[0].float().mean(0)
    first, second = (torch.zeros(features.shape[1], dtype=torch.float64) for _ in range(2))
    for part in parts:
        away = part.float() - centre
        first += away.sum(0)
        second += away.square_().sum(0)
    first, second = first / len(features), second / len(features)
    std = (second - first.square()).clamp(min=0).sqrt()
    std = torch.where(std > 1e-6, std, torch.ones_like(std))
    mean = first + centre
    return mean.float(), std.float()
