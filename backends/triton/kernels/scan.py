"""Scans entry by entry: h[t] = a[t] h[t-1] + b[t].

Sequences lie as [batch, time, channels] and are cut into segments that run side by side;
what each does to a state that comes in (`scan_segments`) is all that the others need.
"""

import triton
import triton.language as tl

from seqdsl.backends.triton.kernels.rows import load_rows, store_rows


@triton.jit
def chained(a, b, c, d):
    """First h -> a h + b, then h -> c h + d."""
    return a * c, b * c + d


@triton.jit
def scan_segments(
    a, b, ends, wholes, T, length, segments,
    D: tl.constexpr, BD: tl.constexpr, C: tl.constexpr, ADJOINT: tl.constexpr,
):  # fmt: skip
    """What every segment but the last makes of the state 0, and keeps of any.

    ADJOINT: every segment but the first, from its end; `b` is the gradient of `h`, and
    what is kept is that of the step after.
    """
    blocks: tl.constexpr = tl.cdiv(D, BD)
    i, slot = tl.program_id(0) // blocks, tl.program_id(1)
    n = slot + 1 if ADJOINT else slot
    column = (tl.program_id(0) % blocks) * BD + tl.arange(0, BD)
    a, b = a + i.to(tl.int64) * T * D, b + i.to(tl.int64) * T * D
    h, whole = tl.zeros([BD], tl.float32), tl.full([BD], 1.0, tl.float32)
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for s in range(steps):
        first = n * length + (steps - 1 - s if ADJOINT else s) * C
        kept, made = tile(a, b, first, T, column, D, C, ADJOINT)
        kept, made = tl.associative_scan((kept, made), 0, chained, reverse=ADJOINT)
        h = edge(kept, ADJOINT) * h + edge(made, ADJOINT)
        whole *= edge(kept, ADJOINT)
    at = (i.to(tl.int64) * (segments - 1) + slot) * D + column
    tl.store(ends + at, h, mask=column < D)
    tl.store(wholes + at, whole, mask=column < D)


@triton.jit
def tile(
    a, b, first, T, column, D: tl.constexpr, C: tl.constexpr, ADJOINT: tl.constexpr
):
    """What C steps keep and add; steps after the end keep everything."""
    later = first + 1 if ADJOINT else first
    kept = load_rows(a, later, T, 1, 0, column, D, C).to(tl.float32)
    kept = tl.where((tl.arange(0, C) < T - later)[:, None], kept, 1.0)
    return kept, load_rows(b, first, T, 1, 0, column, D, C).to(tl.float32)


@triton.jit
def edge(x, ADJOINT: tl.constexpr):
    """The last row, or the first for `ADJOINT`."""
    row = tl.arange(0, x.shape[0])[:, None]
    return tl.sum(tl.where(row == (0 if ADJOINT else x.shape[0] - 1), x, 0.0), axis=0)


@triton.jit
def scan_forward(
    a, b, initial, ends, wholes, h, T, length, segments,
    D: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
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
        state = whole * state + tl.load(ends + at, mask=column < D, other=0.0)
    for s in range(tl.cdiv(tl.minimum(length, T - n * length), C)):
        first = n * length + s * C
        kept, made = tile(a, b, first, T, column, D, C, False)
        kept, made = tl.associative_scan((kept, made), 0, chained)
        y = kept * state[None, :] + made
        store_rows(h, y, first, T, 1, 0, column, D, C)
        state = edge(y, False)


@triton.jit
def scan_backward(
    a, h, dh, initial, ends, wholes, da, db, dinitial, T, length, segments,
    D: tl.constexpr, BD: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Gradients of one segment, from its end."""
    blocks: tl.constexpr = tl.cdiv(D, BD)
    i, n = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(1)
    column = (tl.program_id(0) % blocks) * BD + tl.arange(0, BD)
    a, h, dh = a + i * T * D, h + i * T * D, dh + i * T * D
    da, db = da + i * T * D, db + i * T * D
    state = tl.zeros([BD], tl.float32)
    for m in range(segments - 1 - n):
        at = (i * (segments - 1) + (segments - 2 - m)) * D + column
        whole = tl.load(wholes + at, mask=column < D, other=0.0)
        state = whole * state + tl.load(ends + at, mask=column < D, other=0.0)
    begin = tl.load(initial + i * D + column, mask=column < D, other=0.0).to(tl.float32)
    row = tl.arange(0, C)[:, None]
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for s in range(steps):
        first = n * length + (steps - 1 - s) * C
        kept, made = tile(a, dh, first, T, column, D, C, True)
        kept, made = tl.associative_scan((kept, made), 0, chained, reverse=True)
        y = kept * state[None, :] + made
        at = (first.to(tl.int64) + row - 1) * D + column[None, :]
        there = (row + first > 0) & (row + first < T) & (column < D)[None, :]
        before = tl.load(h + at, mask=there, other=0.0).to(tl.float32)
        before = tl.where(row + first == 0, begin[None, :], before)
        store_rows(db, y, first, T, 1, 0, column, D, C)
        store_rows(da, y * before, first, T, 1, 0, column, D, C)
        state = edge(y, True)
    if n == 0:
        once = tl.load(a + column, mask=column < D, other=0.0).to(tl.float32)
        tl.store(dinitial + i * D + column, once * state, mask=column < D)
