"""A TensorBoard event file, written without a thread.

`SummaryWriter` writes in a thread of its own: a full disk would end that thread with a traceback
and training would go on without its log. Here the writer meets the error.
"""

import os
import socket
import time
from pathlib import Path

import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard.summary import histogram, scalar

_POSITIVE = [1e-12 * 1.1**power for power in range(774)]  # up to 1e20, as TensorBoard has them
BINS = [-edge for edge in reversed(_POSITIVE)] + [0.0] + _POSITIVE


class EventFile:
    """Appends scalars and histograms to a new event file in ``folder``.

    :param first_step: earlier event files of the folder count up to the step before it only
    :raises OSError: the file cannot be written; so do all methods.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():019d}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        self._records = RecordWriter(self.path.open("wb"))
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Record a number at an optimizer step."""
        self._write(Event(step=step, summary=scalar(name, value)))

    def histogram(self, name: str, values: Tensor, step: int) -> None:
        """Record the distribution of ``values``, of any shape, at an optimizer step."""
        values = values.detach().to("cpu", torch.float32).flatten()
        self._write(Event(step=step, summary=histogram(name, values.numpy(), BINS)))

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()
