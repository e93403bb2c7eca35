"""Scans entry by entry as operators of torch, with their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.triton.kernels.scan import (
    scan_backward,
    scan_forward,
    scan_segments,
)
from seqdsl.backends.triton.launch.tiles import (
    NAMESPACE,
    Tiles,
    blank,
    blocks,
    cut,
    fitting,
)

SCAN = Tiles(chunk=32, rows=1, columns=64, warps=4, stages=2)


@torch.library.custom_op(f"{NAMESPACE}::scan", mutates_args=())
def scan(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    """`h[t] = a[t] * h[t-1] + b[t]` along time, from `h[-1] = initial`.

    `a`, `b` and the result are [batch, time, channels], `initial` is [batch, channels].
    """
    h = torch.empty_like(b)
    if b.numel():
        length, segments, programs, constants = _cut(b)
        ends, wholes = _ends(a, b, adjoint=False)
        scan_forward[programs, segments](
            a, b, initial, ends, wholes, h, b.shape[1], length, segments, **constants
        )
    return h


@scan.register_fake
def _scan_made(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    return torch.empty_like(b)


def _cut(b: Tensor) -> tuple[int, int, int, dict[str, int]]:
    """Length and number of segments, programs for each, and what kernels are made for."""
    batch, time, channels = b.shape
    columns = min(SCAN.columns, fitting(channels))
    programs = batch * blocks(channels, columns)
    length, segments = cut(SCAN.chunk, programs, time, b.device)
    constants = {"D": channels, "BD": columns, "C": SCAN.chunk}
    options = {"num_warps": SCAN.warps, "num_stages": SCAN.stages}
    return length, segments, programs, constants | options


def _ends(a: Tensor, b: Tensor, adjoint: bool) -> tuple[Tensor, Tensor]:
    """What segments make of the state 0, and what they keep of any."""
    length, segments, programs, constants = _cut(b)
    shape = (2, b.shape[0], segments - 1, b.shape[2])
    ends, wholes = blank(b, *shape, dtype=torch.float32).unbind()
    if segments > 1:
        scan_segments[programs, segments - 1](
            a, b, ends, wholes, b.shape[1], length, segments,
            **constants, ADJOINT=adjoint,
        )  # fmt: skip
    return ends, wholes


@torch.library.custom_op(f"{NAMESPACE}::scan_gradients", mutates_args=())
def scan_gradients(
    a: Tensor, h: Tensor, initial: Tensor, dh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a, b and initial."""
    made = _scan_gradients_made(a, h, initial, dh)
    da, db, dinitial = made
    if not h.numel():
        dinitial.zero_()
        return made
    length, segments, programs, constants = _cut(h)
    ends, wholes = _ends(a, dh, adjoint=True)
    scan_backward[programs, segments](
        a, h, dh, initial, ends, wholes, da, db, dinitial, h.shape[1], length, segments,
        **constants,
    )  # fmt: skip
    return made


@scan_gradients.register_fake
def _scan_gradients_made(
    a: Tensor, h: Tensor, initial: Tensor, dh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(a), torch.empty_like(h), torch.empty_like(initial)


def _scan_remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    a, _, initial = inputs
    ctx.save_for_backward(a, output, initial)


def _scan_pulled(ctx: Any, dh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, h, initial = ctx.saved_tensors
    return scan_gradients(a, h, initial, dh.contiguous())


scan.register_autograd(_scan_pulled, setup_context=_scan_remember)
