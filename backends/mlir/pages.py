"""Memory for what kernels write: in large pages where the system has them.

The first write to each page of fresh memory goes through the system; for pages of four
kilobytes that can take longer than the kernel itself.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

_LARGE = 4 << 20
"""Bytes from which on memory holds whole large pages in most places."""


def fresh(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor that is yet to be written."""
    tensor = torch.empty(shape, dtype=dtype)
    size = tensor.numel() * tensor.element_size()
    advise = _advise()
    if size >= _LARGE and advise is not None:
        low = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = (tensor.data_ptr() + size - low) // mmap.PAGESIZE * mmap.PAGESIZE
        # mere advice: a system that does not take it goes on as it would have
        advise(low, whole, mmap.MADV_HUGEPAGE)
    return tensor


@cache
def _advise() -> Callable[[int, int, int], int] | None:
    """The system's call, where it knows of large pages."""
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    call = ctypes.CDLL(None).madvise
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return call
