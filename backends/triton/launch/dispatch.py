"""Which calls of a module run as kernels, and how they are put to these."""

from __future__ import annotations

import torch
from torch import Tensor
from triton import knobs

from seqdsl.backends.triton.launch.delta import delta_products
from seqdsl.backends.triton.launch.outer import decayed_products
from seqdsl.backends.triton.launch.scan import scan

EVERYWHERE = bool(knobs.runtime.interpret)
"""Whether kernels run wherever tensors are, as in Triton's interpreter."""

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_MOST_ROWS = 256


def on_gpu(*tensors: Tensor | None) -> bool:
    """Whether kernels can run on all of `tensors`."""
    there = [x for x in tensors if x is not None]
    alike = all(x.dtype in _FLOATS for x in there)
    return alike and (EVERYWHERE or all(x.is_cuda for x in there))


def scan_fits(a: Tensor, b: Tensor, first: Tensor) -> bool:
    """Whether a scan runs as kernels."""
    return on_gpu(a, b, first) and b.numel() > 0


def scan_fused(a: Tensor, b: Tensor, first: Tensor, reverse: bool) -> Tensor:
    """`h = a * h[t-1] + b` along dimension 1, from `first`."""
    lead = b.shape[:2]
    flat = [x.flip(1) if reverse else x for x in (a.expand_as(b), b)]
    a, b = (x.reshape(*lead, -1).contiguous() for x in flat)
    h = scan(a, b, first.reshape(len(first), -1).contiguous())
    h = h.view(*lead, *first.shape[1:])
    return h.flip(1) if reverse else h


def chunks_fit(
    decay: Tensor | None,
    right: Tensor | None,
    left: Tensor,
    value: Tensor,
    query: Tensor | None,
    initial: Tensor | None,
    now: int,
    states: int,
    bounded: bool,
) -> bool:
    """Whether matrix states run as kernels.

    They have one write, which may erase, and one read, and begin at 0 in every segment.
    `bounded` says that log decay has a bounded derivative: kernels know the gradient of
    a decay only by that of its logarithm.
    """
    single = states == 1 and left.shape[3] == 1 and left.shape[4] <= _MOST_ROWS
    if query is None or initial is not None or not single or query.shape[3] != 1:
        return False
    if right is not None and (right.shape[3] != 1 or now != 1):
        return False
    if decay is not None and decay.requires_grad and not bounded:
        return False
    same = {x.dtype for x in (left, value, query, right) if x is not None}
    return len(same) == 1 and on_gpu(decay, right, left, value, query)


def chunks_fused(
    decay: Tensor | None,
    right: Tensor | None,
    left: Tensor,
    value: Tensor,
    query: Tensor,
    first: Tensor,
    starts: Tensor | None,
    time: int,
    now: int,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Reads `[batch, time, copies, 1, columns]` and the states after the last step."""
    rows, columns = left.shape[-1], value.shape[-1]
    first = first.reshape(len(first), -1, rows, columns)
    lead = (len(first), time, first.shape[1])
    before = starts if now == 0 else None
    q, k = _laid(query, lead, before, reverse), _laid(left, lead, None, reverse)
    r, v = _laid(right, lead, starts, reverse), _laid(value, lead, None, reverse)
    assert q is not None and k is not None and v is not None
    g = _logarithm(decay, starts, lead, reverse)
    if r is None:
        o, last = decayed_products(q, k, v, g, first, 1.0, 1 - now)
    else:
        o, last = delta_products(q, k, r, v, g, initial=first)
    return (o.flip(1) if reverse else o).unsqueeze(3), last


def _laid(
    x: Tensor | None, lead: tuple[int, ...], starts: Tensor | None, reverse: bool
) -> Tensor | None:
    """Vectors as `[batch, time, copies, entries]`, in the order of the steps.

    Those that read the states before a step see nothing where a segment `starts`.
    """
    if x is None:
        return None
    x = x.squeeze(3).expand(*lead, x.shape[-1])
    if starts is not None:
        x = x.masked_fill(starts[..., None, None], 0)
    return x.flip(1) if reverse else x


def _logarithm(
    decay: Tensor | None,
    starts: Tensor | None,
    lead: tuple[int, ...],
    reverse: bool,
) -> Tensor | None:
    """log decay; -inf where a segment starts."""
    if decay is None and starts is None:
        return None
    if decay is None:
        assert starts is not None
        g = torch.zeros(lead, device=starts.device)
    else:
        g = decay.float().clamp_min(1e-38).log().expand(*lead, decay.shape[-1])
        g = g.squeeze(-1) if decay.shape[-1] == 1 else g
    if starts is not None:
        at = starts.view(*starts.shape, *[1] * (g.dim() - 2))
        g = g.masked_fill(at, float("-inf"))
    return g.flip(1) if reverse else g
