"""Gradients of scans: a scan of numbers from the end, whatever the semiring.

The gradient of h[t] gathers that of h[t+1] times the derivative of step t + 1. Sequences
are cut into the same segments as forwards (`scan.py`).
"""

import triton
import triton.language as tl

from seqdsl.backends.triton.kernels.rows import load_rows, store_rows
from seqdsl.backends.triton.kernels.scan import edge
from seqdsl.backends.triton.kernels.semirings import composed, shares


@triton.jit
def derived(
    a, b, h, begin, first, T, column,
    D: tl.constexpr, C: tl.constexpr, SEMIRING: tl.constexpr,
):  # fmt: skip
    """Derivatives of C steps; `begin` is what comes before step 0."""
    row = first + tl.arange(0, C)[:, None]
    at = (first.to(tl.int64) + tl.arange(0, C)[:, None] - 1) * D + column[None, :]
    there = (row > 0) & (row < T) & (column < D)[None, :]
    before = tl.load(h + at, mask=there, other=0.0).to(tl.float32)
    before = tl.where(row == 0, begin[None, :], before)
    kept = load_rows(a, first, T, 1, 0, column, D, C).to(tl.float32)
    if SEMIRING == "real":
        return shares(kept, kept, before, before, SEMIRING)
    else:
        made = load_rows(b, first, T, 1, 0, column, D, C).to(tl.float32)
        now = load_rows(h, first, T, 1, 0, column, D, C).to(tl.float32)
        return shares(kept, made, before, now, SEMIRING)


@triton.jit
def later(
    a, b, h, begin, first, T, column,
    D: tl.constexpr, C: tl.constexpr, SEMIRING: tl.constexpr,
):  # fmt: skip
    """Derivatives of the steps after C steps, by what came before them; 1 after the end."""
    if SEMIRING == "real":
        kept = load_rows(a, first + 1, T, 1, 0, column, D, C).to(tl.float32)
    else:
        kept, _, _ = derived(a, b, h, begin, first + 1, T, column, D, C, SEMIRING)
    return tl.where((tl.arange(0, C) < T - first - 1)[:, None], kept, 1.0)


@triton.jit
def scan_adjoints(
    a, b, h, dh, ends, wholes, T, length, segments,
    D: tl.constexpr, BD: tl.constexpr, C: tl.constexpr, SEMIRING: tl.constexpr,
):  # fmt: skip
    """What every segment but the first makes of the gradient 0 after it, and of any."""
    blocks: tl.constexpr = tl.cdiv(D, BD)
    i, slot = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(1)
    n = slot + 1
    column = (tl.program_id(0) % blocks) * BD + tl.arange(0, BD)
    a, b = a + i * T * D, b + i * T * D
    h, dh = h + i * T * D, dh + i * T * D
    state, whole = tl.zeros([BD], tl.float32), tl.full([BD], 1.0, tl.float32)
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for s in range(steps):
        first = n * length + (steps - 1 - s) * C
        kept = later(a, b, h, state, first, T, column, D, C, SEMIRING)
        made = load_rows(dh, first, T, 1, 0, column, D, C).to(tl.float32)
        kept, made = composed(kept, made, True, "real")
        state = edge(kept, True) * state + edge(made, True)
        whole *= edge(kept, True)
    at = (i * (segments - 1) + slot) * D + column
    tl.store(ends + at, state, mask=column < D)
    tl.store(wholes + at, whole, mask=column < D)


@triton.jit
def scan_backward(
    a, b, h, dh, initial, ends, wholes, da, db, dinitial, T, length, segments,
    D: tl.constexpr, BD: tl.constexpr, C: tl.constexpr, SEMIRING: tl.constexpr,
):  # fmt: skip
    """Gradients of one segment, from its end."""
    blocks: tl.constexpr = tl.cdiv(D, BD)
    i, n = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(1)
    column = (tl.program_id(0) % blocks) * BD + tl.arange(0, BD)
    a, b = a + i * T * D, b + i * T * D
    h, dh = h + i * T * D, dh + i * T * D
    da, db = da + i * T * D, db + i * T * D
    state = tl.zeros([BD], tl.float32)
    for m in range(segments - 1 - n):
        at = (i * (segments - 1) + (segments - 2 - m)) * D + column
        whole = tl.load(wholes + at, mask=column < D, other=0.0)
        state = whole * state + tl.load(ends + at, mask=column < D, other=0.0)
    begin = tl.load(initial + i * D + column, mask=column < D, other=0.0).to(tl.float32)
    into = begin
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for s in range(steps):
        first = n * length + (steps - 1 - s) * C
        kept = later(a, b, h, begin, first, T, column, D, C, SEMIRING)
        made = load_rows(dh, first, T, 1, 0, column, D, C).to(tl.float32)
        kept, made = composed(kept, made, True, "real")
        y = kept * state[None, :] + made
        back, by_a, by_b = derived(a, b, h, begin, first, T, column, D, C, SEMIRING)
        store_rows(da, y * by_a, first, T, 1, 0, column, D, C)
        store_rows(db, y * by_b, first, T, 1, 0, column, D, C)
        state, into = edge(y, True), edge(y * back, True)
    if n == 0:
        tl.store(dinitial + i * D + column, into, mask=column < D)
