"""Which captions of a batch are here, where several processes hold a part each.

The loss is one of the whole batch: its KL terms are batch means under an absolute value or a
maximum. So a system asks its share for the means, and for the random draws, of the whole batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Share:
    """All captions of a batch: one process."""

    def draw(self, like: Tensor, fill: Callable[..., Tensor]) -> Tensor:
        """Return noise in the shape of ``like``, (B, n).

        :param fill: fills a tensor in place with draws; takes ``generator``
        """
        return fill(torch.empty_like(like))

    def means(self, *here: Tensor) -> tuple[Tensor, ...]:
        """Return means over the whole batch, given those over the captions that are here.

        Gradients pass to what is here so that their mean over all processes is the whole's.
        """
        return here


WHOLE = Share()
