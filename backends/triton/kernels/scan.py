"""Scans entry by entry: h[t] = a[t] h[t-1] + b[t], in any semiring.

Sequences lie as [batch, time, channels] and are cut into segments that run side by side;
what each does to a state that comes in (`scan_segments`) is all that the others need.
Gradients are scans of numbers whatever the semiring (`scan_backward.py`).
"""

import triton
import triton.language as tl

from seqdsl.backends.triton.kernels.rows import load_rows, store_rows
from seqdsl.backends.triton.kernels.semirings import after, composed, one, zero


@triton.jit
def scan_segments(
    a, b, ends, wholes, T, length, segments,
    D: tl.constexpr, BD: tl.constexpr, C: tl.constexpr, SEMIRING: tl.constexpr,
):  # fmt: skip
    """What every segment but the last makes of the state 0, and keeps of any."""
    blocks: tl.constexpr = tl.cdiv(D, BD)
    i, n = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(1)
    column = (tl.program_id(0) % blocks) * BD + tl.arange(0, BD)
    a, b = a + i * T * D, b + i * T * D
    h = tl.full([BD], zero(SEMIRING), tl.float32)
    whole = tl.full([BD], one(SEMIRING), tl.float32)
    for s in range(tl.cdiv(tl.minimum(length, T - n * length), C)):
        first = n * length + s * C
        kept, made = tile(a, b, first, T, column, D, C, SEMIRING)
        kept, made = composed(kept, made, False, SEMIRING)
        kept, made = edge(kept, False), edge(made, False)
        h = after(kept, made, h, SEMIRING)
        whole = after(kept, zero(SEMIRING), whole, SEMIRING)
    at = (i * (segments - 1) + n) * D + column
    tl.store(ends + at, h, mask=column < D)
    tl.store(wholes + at, whole, mask=column < D)


@triton.jit
def tile(
    a, b, first, T, column, D: tl.constexpr, C: tl.constexpr, SEMIRING: tl.constexpr
):
    """What C steps keep and add; steps after the end keep everything."""
    there = (tl.arange(0, C) < T - first)[:, None]
    kept = load_rows(a, first, T, 1, 0, column, D, C).to(tl.float32)
    made = load_rows(b, first, T, 1, 0, column, D, C).to(tl.float32)
    return tl.where(there, kept, one(SEMIRING)), tl.where(there, made, zero(SEMIRING))


@triton.jit
def edge(x, START: tl.constexpr):
    """The last row, or the first."""
    row = tl.arange(0, x.shape[0])[:, None]
    at = 0 if START else x.shape[0] - 1
    return tl.sum(tl.where(row == at, x, 0.0), axis=0)


@triton.jit
def scan_forward(
    a, b, initial, ends, wholes, h, T, length, segments,
    D: tl.constexpr, BD: tl.constexpr, C: tl.constexpr, SEMIRING: tl.constexpr,
):  # fmt: skip
    """`h` at all steps of a segment."""
    blocks: tl.constexpr = tl.cdiv(D, BD)
    i, n = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(1)
    column = (tl.program_id(0) % blocks) * BD + tl.arange(0, BD)
    a, b, h = a + i * T * D, b + i * T * D, h + i * T * D
    state = tl.load(initial + i * D + column, mask=column < D, other=0.0).to(tl.float32)
    for m in range(n):
        at = (i * (segments - 1) + m) * D + column
        whole = tl.load(wholes + at, mask=column < D, other=0.0)
        made = tl.load(ends + at, mask=column < D, other=0.0)
        state = after(whole, made, state, SEMIRING)
    for s in range(tl.cdiv(tl.minimum(length, T - n * length), C)):
        first = n * length + s * C
        kept, made = tile(a, b, first, T, column, D, C, SEMIRING)
        kept, made = composed(kept, made, False, SEMIRING)
        y = after(kept, made, state[None, :], SEMIRING)
        store_rows(h, y, first, T, 1, 0, column, D, C)
        state = edge(y, False)
