"""Which captions of a batch this process holds, where several processes train together.

The loss is that of the whole batch: its KL terms are batch means inside an absolute value or a
maximum. A captioner therefore takes the batch means and the random draws from its partition.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Partition:
    """The captions of a batch that this process holds: all of them, in a single process.

    With several processes a subclass returns means over all processes, and the rows of draws
    that were made for the whole batch.
    """

    def draw(self, like: Tensor, fill: Callable[..., Tensor]) -> Tensor:
        """Return random numbers in the shape of ``like``.

        :param like: (B, n), B the captions of this process
        :param fill: fills a tensor in place with draws; it takes ``generator``
        :returns: (B, n)
        """
        return fill(torch.empty_like(like))

    def means(self, *local: Tensor) -> tuple[Tensor, ...]:
        """Return means over the whole batch.

        :param local: means over the captions of this process
        :returns: the same means over the captions of all processes. Gradients flow back to
            ``local`` such that their mean over the processes is the gradient of the whole batch.
        """
        return local


WHOLE = Partition()
