"""Whether an error means that memory or disk space ran out.

Python, torch, NumPy and the operating system report it in different ways. This module imports
none of the libraries, so that the command line can use it before torch is loaded.
"""

import errno

# Texts of torch's allocators for CPU and GPU, of CUDA's libraries, and of C++.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "ALLOC_FAILED",
    "bad_alloc",
)
_NO_SPACE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory was lacking, of the machine or of a GPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one
        return any(text in str(error) for text in _NO_MEMORY)
    return isinstance(error, MemoryError)


def is_out_of_space(error: BaseException) -> bool:
    """Return whether the disk is full, or a file reached the limit of its size or of a quota."""
    return isinstance(error, OSError) and error.errno in _NO_SPACE
