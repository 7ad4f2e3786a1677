"""The processes of one training: each takes its share of every batch.

`torchrun` starts them and says by the environment which each one is. The batch is that of one
process with as many captions, and so are its loss and its random draws. Rank 0 alone writes and
validates. The processes meet in two places of a step: where a loss is made of the means over all
captions, which also carries the wish to stop, and where `DistributedDataParallel` averages the
gradients.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multispace.errors import OptionError, PipelineError
from multispace.model.latent.losses import Loss
from multispace.model.partition import WHOLE, Partition
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.console.main_process import lose_voice, process_count, take_voice
from multispace.pipeline.training.interrupts import SIGNALS, Stop

WAIT = timedelta(minutes=30)  # for rank 0, which validates; a process that dies is noticed at once
_trainings = itertools.count()


class Ranks:
    """One process alone."""

    count, rank = 1, 0

    @property
    def first(self) -> bool:
        """Whether this process writes, validates and says how it goes."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Return the name of this process's device, given what ``--device`` says."""
        return name

    def loss_of(self, system: Captioner, device: torch.device) -> Callable[..., Loss]:
        """Return the system's loss, whose gradients are those of the whole batch."""
        return system.loss

    def share(self, captions: np.ndarray) -> tuple[np.ndarray, Partition]:
        """Return which captions of a batch are this process's, and their part in the loss.

        Call it when torch is seeded for the step.
        """
        return captions, WHOLE

    def stopped(self, stop: Stop) -> str | None:
        """Return the signal that all processes stop for after this step, if there is one."""
        return stop.asked

    def from_first(self, number: int) -> int:
        """Return what rank 0 has; wait until all processes are there."""
        return number

    def is_loss_of_rank(self, error: RuntimeError) -> bool:
        """Return whether an error says that another process is gone."""
        return False


class _Several(Ranks):
    """One of several processes."""

    def __init__(self, stop: Stop) -> None:
        from torch import distributed

        self._distributed = distributed
        self.count, self.rank = distributed.get_world_size(), distributed.get_rank()
        self._stop = stop
        self._wishes = torch.zeros(len(SIGNALS))
        self._device = torch.device("cpu")

    def device(self, name: str) -> str:
        """Return a GPU of its own for each process of a machine.

        :raises OptionError: one GPU is named.
        """
        if name.startswith("cuda:"):
            raise OptionError(f"--device {name}: {self.count} processes need one each; use cuda")
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        return f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}" if name == "cuda" else name

    def loss_of(self, system: Captioner, device: torch.device) -> Callable[..., Loss]:
        """Return the loss under `DistributedDataParallel`."""
        from torch.nn.parallel import DistributedDataParallel

        self._device = device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        loss_of = DistributedDataParallel(
            _LossOf(system), forward_sync_buffers=False, gradient_as_bucket_view=True
        )
        # After a first step gradients are laid out anew for sending, once; three or more of them
        # would add up in another order after a resume. So that happens before all steps.
        for _ in range(2):
            loss_of().backward()
        return loss_of

    def share(self, captions: np.ndarray) -> tuple[np.ndarray, Partition]:
        """Return every ``count``-th caption, so that they stay sorted by length.

        Where there are fewer captions than processes, one of weight 0 stands in.
        """
        mine, rows = captions[self.rank :: self.count], slice(self.rank, None, self.count)
        weight = self.count * len(mine) / len(captions)
        if not len(mine):
            mine, rows = captions[:1], slice(0, 1)
        seed = torch.initial_seed()
        draws = torch.Generator(self._device).manual_seed(seed)
        # What is not drawn for the whole batch (dropout) differs from process to process.
        torch.manual_seed((seed + 1 + self.rank) % 2**64)
        return mine, RankShare(len(captions), rows, weight, draws, self._mean)

    def stopped(self, stop: Stop) -> str | None:
        """Return what the last means over all processes carried."""
        return next((n for n, w in zip(SIGNALS, self._wishes.tolist(), strict=True) if w), None)

    def from_first(self, number: int) -> int:
        """Return what rank 0 has; a sum, so that none goes on before all are there."""
        told = torch.tensor(number if self.first else 0)
        self._distributed.all_reduce(told)
        return int(told)

    def is_loss_of_rank(self, error: RuntimeError) -> bool:
        """Return whether it comes from the network; gloo has no type of its own for it."""
        return isinstance(error, self._distributed.DistError) or "/gloo/" in str(error)

    def _mean(self, numbers: Tensor) -> Tensor:
        wishes = numbers.new_tensor([name == self._stop.asked for name in SIGNALS])
        both = torch.cat((numbers, wishes))
        self._distributed.all_reduce(both)
        both /= self.count
        self._wishes = both[len(numbers) :]
        return both[: len(numbers)]


class RankShare(Partition):
    """The captions of one of several processes.

    :param captions: of the whole batch
    :param rows: those that are here
    :param weight: what a mean over the captions here counts in the mean over the processes
    :param draws: in the same state in all processes
    :param mean: returns the mean of a vector over the processes
    """

    def __init__(
        self,
        captions: int,
        rows: slice,
        weight: float,
        draws: torch.Generator,
        mean: Callable[[Tensor], Tensor],
    ) -> None:
        self._captions, self._rows, self._weight = captions, rows, weight
        self._draws, self._mean = draws, mean

    def draw(self, like: Tensor, fill: Callable[..., Tensor]) -> Tensor:
        """Draw for the whole batch, as one process would, and return the rows that are here."""
        whole = like.new_empty(self._captions, *like.shape[1:])
        return fill(whole, generator=self._draws)[self._rows]

    def means(self, *here: Tensor) -> tuple[Tensor, ...]:
        """Return means over the whole batch, the same numbers in all processes."""
        device = max((part.device for part in here), key=lambda device: device.type != "cpu")
        flat = torch.cat([part.reshape(-1).to(device) for part in here]) * self._weight
        whole = _Mean.apply(flat, self._mean).split([part.numel() for part in here])
        return tuple(w.view(part.shape) for w, part in zip(whole, here, strict=True))


class _Mean(torch.autograd.Function):
    """The mean over the processes. Its gradient is averaged with those of the parameters."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        return mean(numbers)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _LossOf(nn.Module):
    """`DistributedDataParallel` watches a module's ``forward``. Of nothing, the loss is 0."""

    def __init__(self, system: Captioner) -> None:
        super().__init__()
        self.system = system

    def forward(self, *arguments: Any) -> Loss | Tensor:
        if not arguments:
            return torch.stack([0 * p.sum() for p in self.system.parameters()]).sum()
        return self.system.loss(*arguments)


@contextmanager
def join(stop: Stop) -> Iterator[Ranks]:
    """Meet the other processes, if there are any, for one training.

    Of those that fail, the first one speaks.
    """
    if process_count() == 1:
        yield Ranks()
        return
    from torch import distributed

    where, rank, count = next(distributed.rendezvous("env://", timeout=WAIT))
    store = distributed.PrefixStore(f"training-{next(_trainings)}", where)
    try:
        distributed.init_process_group(store=store, rank=rank, world_size=count, timeout=WAIT)
        ranks = _Several(stop)
        try:
            yield ranks
        except RuntimeError as error:
            if not ranks.is_loss_of_rank(error):
                raise
            raise PipelineError(
                f"another of the {count} processes ended before the first step; start them again"
            ) from error
    except BaseException:
        (take_voice if _is_first(store) else lose_voice)()
        raise
    distributed.destroy_process_group()


def _is_first(store: Any) -> bool:
    """Return whether no other process has failed before."""
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:  # the store was the first to go
        return True
