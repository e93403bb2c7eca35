"""Memory for large results: in large pages, and kept for the next ones when they are gone.

The first write to each page of fresh memory goes through the system, which clears it; a
virtual machine may even have to ask its host for it. That can take longer than what is
computed. The text below the imports is copied as it stands into generated modules.
"""

import math
import mmap
import threading
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["_unwritten"]

_LARGE = 4 << 20
"""Bytes from which on memory is asked of the system for each tensor alone."""

_MOST_SPARE = 256 << 20
"""The most bytes that wait for tensors to come."""

_SPARE: list[mmap.mmap] = []
"""Memory that no tensor has, the latest last."""

_SPARING = threading.Lock()


def _unwritten(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    """A tensor that is yet to be written."""
    like = torch.empty(0, dtype=dtype, device=device)
    # tensors of other types, of a tracer say, have no memory
    plain = type(like) is Tensor and like.device.type == "cpu"
    size = math.prod(shape) * dtype.itemsize if plain else 0
    block = _memory(size) if size >= _LARGE else None
    if block is None:
        return torch.empty(shape, dtype=dtype, device=device)
    memory = memoryview(block)
    weakref.finalize(memory, _spare, block).atexit = False
    return torch.frombuffer(memory, dtype=dtype, count=math.prod(shape)).view(*shape)


def _memory(size: int) -> mmap.mmap | None:
    """At least `size` bytes; None where the system has no large pages or no memory."""
    size = -(-size // _LARGE) * _LARGE
    if _SPARING.acquire(blocking=False):
        fits = [b for b in _SPARE if size <= len(b) <= size + size // 4]
        if fits:
            _SPARE.remove(fits[-1])
        _SPARING.release()
        if fits:
            return fits[-1]
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    try:
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        return None
    return block


def _spare(block: mmap.mmap) -> None:
    """Keep `block`, whose tensor is gone; this may interrupt the thread that has the lock."""
    if len(block) <= _MOST_SPARE and _SPARING.acquire(blocking=False):
        _SPARE.append(block)
        while sum(map(len, _SPARE)) > _MOST_SPARE:
            del _SPARE[0]
        _SPARING.release()
