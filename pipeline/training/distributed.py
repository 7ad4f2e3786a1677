"""The processes of one training, each of which holds a part of every batch.

`torchrun` starts the processes and describes each one in its environment. Together they compute
the batch, the loss and the random draws of a single process with a batch of the same size. The
main process (rank 0) alone writes files and validates. The processes communicate twice in a
step: to average the loss terms over all captions, which also carries a request to stop, and in
`DistributedDataParallel`, which averages the gradients.
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
from multispace.model.batch_partition import WHOLE, Partition
from multispace.model.latent.losses import Loss
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.console.main_process import mute, process_count, unmute
from multispace.pipeline.training.interrupts import SIGNALS, StopRequest

WAIT = timedelta(minutes=30)  # for rank 0 to validate; a process that dies is noticed at once
_trainings = itertools.count()


class ProcessGroup:
    """A group of one process."""

    size, rank = 1, 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files, validates and prints."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Return the name of this process's device, given the value of ``--device``."""
        return name

    def loss_function(self, model: Captioner, device: torch.device) -> Callable[..., Loss]:
        """Return the model's loss, whose gradients are those of the whole batch."""
        return model.loss

    def partition(self, captions: np.ndarray) -> tuple[np.ndarray, Partition]:
        """Return the captions of a batch that this process holds, and their part in the loss.

        Call it when torch is seeded for the step.
        """
        return captions, WHOLE

    def agreed_stop(self, request: StopRequest) -> str | None:
        """Return the signal that all processes stop for after this step, if there is one."""
        return request.signal

    def from_main(self, number: int) -> int:
        """Return the main process's ``number``, and wait for all processes."""
        return number

    def is_lost_process(self, error: RuntimeError) -> bool:
        """Return whether an error means that another process has ended."""
        return False


class DistributedProcessGroup(ProcessGroup):
    """A group of several processes."""

    def __init__(self, request: StopRequest) -> None:
        from torch import distributed

        self._distributed = distributed
        self.size, self.rank = distributed.get_world_size(), distributed.get_rank()
        self._request = request
        self._requests = torch.zeros(len(SIGNALS))  # of all processes, as of the last step
        self._device = torch.device("cpu")

    def device(self, name: str) -> str:
        """Return a GPU of its own for each process of a machine.

        :raises OptionError: ``--device`` names one GPU.
        """
        if name.startswith("cuda:"):
            raise OptionError(
                f"{self.size} processes need a GPU each",
                where=f"--device {name}",
                hint="use --device cuda",
            )
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        return f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}" if name == "cuda" else name

    def loss_function(self, model: Captioner, device: torch.device) -> Callable[..., Loss]:
        """Return the loss under `DistributedDataParallel`."""
        from torch.nn.parallel import DistributedDataParallel

        self._device = device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        parallel = DistributedDataParallel(
            _LossModule(model), forward_sync_buffers=False, gradient_as_bucket_view=True
        )
        # After the first step gradients are laid out anew for sending, once. From three processes
        # on, they would be summed in another order after a resume. So do it before all steps.
        for _ in range(2):
            parallel().backward()
        return parallel

    def partition(self, captions: np.ndarray) -> tuple[np.ndarray, Partition]:
        """Return every ``size``-th caption, so that they stay sorted by length.

        Where there are fewer captions than processes, the spare processes hold one of weight 0.
        """
        own, rows = captions[self.rank :: self.size], slice(self.rank, None, self.size)
        weight = self.size * len(own) / len(captions)
        if not len(own):
            own, rows = captions[:1], slice(0, 1)
        seed = torch.initial_seed()
        generator = torch.Generator(self._device).manual_seed(seed)
        # Draws that are not made for the whole batch (dropout) differ between the processes.
        torch.manual_seed((seed + 1 + self.rank) % 2**64)
        return own, DistributedPartition(len(captions), rows, weight, generator, self._mean)

    def agreed_stop(self, request: StopRequest) -> str | None:
        """Return a signal that some process had received when the last means were taken."""
        return next((n for n, r in zip(SIGNALS, self._requests.tolist(), strict=True) if r), None)

    def from_main(self, number: int) -> int:
        """Return the main process's ``number``; as a sum, so that all processes wait for it."""
        received = torch.tensor(number if self.is_main else 0)
        self._distributed.all_reduce(received)
        return int(received)

    def is_lost_process(self, error: RuntimeError) -> bool:
        """Return whether an error comes from the network; gloo has no type of its own for it."""
        return isinstance(error, self._distributed.DistError) or "/gloo/" in str(error)

    def _mean(self, numbers: Tensor) -> Tensor:
        requests = numbers.new_tensor([name == self._request.signal for name in SIGNALS])
        both = torch.cat((numbers, requests))
        self._distributed.all_reduce(both)
        both /= self.size
        self._requests = both[len(numbers) :]
        return both[: len(numbers)]


class DistributedPartition(Partition):
    """The captions of a batch that one of several processes holds.

    :param captions: number of captions in the whole batch
    :param rows: the captions that this process holds
    :param weight: of a mean over these captions in the mean over the processes
    :param generator: in the same state in all processes
    :param mean: returns the mean of a vector over the processes
    """

    def __init__(
        self,
        captions: int,
        rows: slice,
        weight: float,
        generator: torch.Generator,
        mean: Callable[[Tensor], Tensor],
    ) -> None:
        self._captions, self._rows, self._weight = captions, rows, weight
        self._generator, self._mean = generator, mean

    def draw(self, like: Tensor, fill: Callable[..., Tensor]) -> Tensor:
        """Draw for the whole batch, as one process would, and return this process's rows."""
        whole = like.new_empty(self._captions, *like.shape[1:])
        return fill(whole, generator=self._generator)[self._rows]

    def means(self, *local: Tensor) -> tuple[Tensor, ...]:
        """Return means over the whole batch, the same numbers in all processes."""
        device = max((part.device for part in local), key=lambda device: device.type != "cpu")
        flat = torch.cat([part.reshape(-1).to(device) for part in local]) * self._weight
        whole = _Mean.apply(flat, self._mean).split([part.numel() for part in local])
        return tuple(w.view(part.shape) for w, part in zip(whole, local, strict=True))


class _Mean(torch.autograd.Function):
    """The mean over the processes. Its gradient is averaged with those of the parameters."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        return mean(numbers)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _LossModule(nn.Module):
    """The loss as a ``forward``, which `DistributedDataParallel` needs; 0 without arguments."""

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.model = model

    def forward(self, *arguments: Any) -> Loss | Tensor:
        if not arguments:
            return torch.stack([0 * p.sum() for p in self.model.parameters()]).sum()
        return self.model.loss(*arguments)


@contextmanager
def join_process_group(request: StopRequest) -> Iterator[ProcessGroup]:
    """Connect to the other processes, if there are any, for one training.

    Of several processes that fail, the first one prints the reason.

    :param request: whether this process was asked to stop
    """
    if process_count() == 1:
        yield ProcessGroup()
        return
    from torch import distributed

    rendezvous, rank, size = next(distributed.rendezvous("env://", timeout=WAIT))
    store = distributed.PrefixStore(f"training-{next(_trainings)}", rendezvous)
    try:
        distributed.init_process_group(store=store, rank=rank, world_size=size, timeout=WAIT)
        group = DistributedProcessGroup(request)
        try:
            yield group
        except RuntimeError as error:
            if not group.is_lost_process(error):
                raise
            raise PipelineError(
                f"another of the {size} processes ended before the first step",
                hint="start them again",
            ) from error
    except BaseException:
        (unmute if _is_first_to_fail(store) else mute)()
        raise
    distributed.destroy_process_group()


def _is_first_to_fail(store: Any) -> bool:
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:  # the store was the first to fail
        return True
