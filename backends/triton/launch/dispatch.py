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


def scan_fused(
    a: Tensor, b: Tensor, first: Tensor, reverse: bool, semiring: str = "real"
) -> Tensor:
    """`h = a * h[t-1] + b` along dimension 1, from `first`."""
    lead = b.shape[:2]
    flat = [x.flip(1) if reverse else x for x in (a.expand_as(b), b)]
    a, b = (x.reshape(*lead, -1).contiguous() for x in flat)
    h = scan(a, b, first.reshape(len(first), -1).contiguous(), semiring)
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

    They have one read, one write, or one that erases and maybe another that does not, and
    begin at 0 in every segment. `bounded` says that log decay has a bounded derivative:
    kernels know the gradient of a decay only by that of its logarithm.
    """
    if query is None or initial is not None or query.shape[3] != 1 or states != 1:
        return False
    writes, erases = left.shape[3], 0 if right is None else right.shape[3]
    if (writes, erases) not in ((1, 0), (1, 1), (2, 1)) or left.shape[4] > _MOST_ROWS:
        return False
    if erases and now != 1:
        return False
    if decay is not None and decay.requires_grad and not bounded:
        return False
    same = {x.dtype for x in (left, value, query, right) if x is not None}
    return len(same) == 1 and on_gpu(decay, right, left, value, query)


def outer_fused(
    decay: Tensor | None,
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
    first = first.reshape(len(first), -1, left.shape[-1], value.shape[-1])
    lead = (len(first), time, first.shape[1])
    q = _laid(query, lead, starts if now == 0 else None, reverse)
    k, v = (_laid(x, lead, None, reverse) for x in (left, value))
    g = _logarithm(decay, starts, lead, reverse)
    o, last = decayed_products(q, k, v, g, first, 1.0, 1 - now)
    return (o.flip(1) if reverse else o).unsqueeze(3), last


def delta_fused(
    decay: Tensor | None,
    right: Tensor,
    left: Tensor,
    value: Tensor,
    query: Tensor,
    first: Tensor,
    starts: Tensor | None,
    time: int,
    reverse: bool,
    own: bool,
) -> tuple[Tensor, Tensor]:
    """`outer_fused` where the first write erases, by `right`.

    `own` says that it also writes a value of its own.
    """
    first = first.reshape(len(first), -1, left.shape[-1], value.shape[-1])
    lead = (len(first), time, first.shape[1])
    q = _laid(query, lead, None, reverse)
    r = _laid(right, lead, starts, reverse)
    left_, values = (
        [_laid(x[..., i : i + 1, :], lead, None, reverse) for i in range(left.shape[3])]
        for x in (left, value)
    )
    g = _logarithm(decay, starts, lead, reverse)
    y = values[0] if own or len(values) == 1 else None
    plain = {"k": left_[1], "v": values[1]} if len(values) > 1 else {}
    o, last = delta_products(q, left_[0], r, y, g, initial=first, **plain)
    return (o.flip(1) if reverse else o).unsqueeze(3), last


def _laid(
    x: Tensor, lead: tuple[int, ...], starts: Tensor | None, reverse: bool
) -> Tensor:
    """Vectors as `[batch, time, copies, entries]`, in the order of the steps.

    Those that read the states before a step see nothing where a segment `starts`.
    """
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
