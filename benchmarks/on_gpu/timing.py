"""Times on a device that computes later than it is called."""

import time
from collections.abc import Callable, Sequence

import torch

Shape = tuple[int, int, int]  # (m, k, n) of a product of (m, k) and (k, n)


def wait(device: torch.device) -> None:
    """Wait until a device has computed all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of ``work``, with all that it leaves the device to compute."""
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began


def reset_peak(device: torch.device) -> None:
    """Start to measure the peak of a GPU's memory."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int:
    """Return the peak of a GPU's memory in bytes; 0 for a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def flops(shapes: Sequence[Shape]) -> int:
    """Return the multiplications and additions of matrix products."""
    return sum(2 * m * k * n for m, k, n in shapes)


class Products:
    """Matrix products, one after another.

    :param shapes: (m, k, n) of each
    """

    def __init__(self, shapes: Sequence[Shape], device: torch.device, dtype: torch.dtype) -> None:
        self.device, kinds = device, set(shapes)
        self.shapes = shapes
        self.factors = {
            (m, k, n): (
                torch.randn(m, k, device=device).to(dtype),
                torch.randn(n, k, device=device).to(dtype).T,  # as the weight of nn.Linear
            )
            for m, k, n in kinds
        }

    def seconds(self, times: int) -> float:
        """Return the seconds of all products, the mean over ``times``."""

        def work() -> None:
            for _ in range(times):
                for shape in self.shapes:
                    left, right = self.factors[shape]
                    torch.mm(left, right)

        work()
        return timed(work, self.device) / times
