"""Memory for what is written next: in large pages where the system has them.

The first write to each page of fresh memory goes through the system; for pages of four
kilobytes that can take longer than what is computed. The text below the imports is copied as
it stands into generated modules.
"""

import ctypes
import mmap
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["_unwritten"]

_LARGE = 4 << 20
"""Bytes from which on memory holds whole large pages in most places."""


def _advice() -> Callable[[int, int, int], int] | None:
    """The system's call, where it knows of large pages."""
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    call = ctypes.CDLL(None).madvise
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return call


_ADVISE = _advice()


def _unwritten(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    """A tensor that is yet to be written."""
    tensor = torch.empty(shape, dtype=dtype, device=device)
    size = tensor.numel() * tensor.element_size()
    # tensors of other types, of a tracer say, have no memory
    plain = type(tensor) is Tensor and tensor.device.type == "cpu"
    if _ADVISE is not None and size >= _LARGE and plain:
        low = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = (tensor.data_ptr() + size - low) // mmap.PAGESIZE * mmap.PAGESIZE
        # mere advice: a system that does not take it goes on as it would have
        _ADVISE(low, whole, mmap.MADV_HUGEPAGE)
    return tensor
