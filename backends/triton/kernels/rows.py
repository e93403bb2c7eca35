"""Rows of sequences and whole states, to and from memory.

Sequences lie as [batch, time, heads, channels]; offsets beyond a chunk are 64 bits wide.
"""

import triton
import triton.language as tl


@triton.jit
def load_rows(x, first, T, heads, head, column, K: tl.constexpr, C: tl.constexpr):
    """Rows first … first + C - 1 of a head, 0 from `T` on."""
    row = tl.arange(0, C)
    x += (first.to(tl.int64) * heads + head) * K
    at = row[:, None] * (heads * K) + column[None, :]
    inside = (row < T - first)[:, None] & (column < K)[None, :]
    return tl.load(x + at, mask=inside, other=0.0)


@triton.jit
def store_rows(x, y, first, T, heads, head, column, K: tl.constexpr, C: tl.constexpr):
    """Stores `y` as the rows that `load_rows` loads."""
    row = tl.arange(0, C)
    x += (first.to(tl.int64) * heads + head) * K
    at = row[:, None] * (heads * K) + column[None, :]
    inside = (row < T - first)[:, None] & (column < K)[None, :]
    tl.store(x + at, y.to(x.dtype.element_ty), mask=inside)


@triton.jit
def load_scalars(x, first, T, heads, head, C: tl.constexpr):
    """One number for each row, 0 from `T` on."""
    row = tl.arange(0, C)
    x += first.to(tl.int64) * heads + head
    return tl.load(x + row * heads, mask=row < T - first, other=0.0).to(tl.float32)


@triton.jit
def store_scalars(x, y, first, T, heads, head, C: tl.constexpr):
    """Stores one number for each row."""
    row = tl.arange(0, C)
    x += first.to(tl.int64) * heads + head
    tl.store(x + row * heads, y.to(x.dtype.element_ty), mask=row < T - first)


@triton.jit
def load_logs(
    g,
    first,
    T,
    heads,
    head,
    column,
    K: tl.constexpr,
    C: tl.constexpr,
    DECAY: tl.constexpr,
):
    """Logarithms of the decays of the rows, 0 from `T` on: [C, K], or [C]."""
    if DECAY == "channel":
        return load_rows(g, first, T, heads, head, column, K, C).to(tl.float32)
    elif DECAY == "scalar":
        return load_scalars(g, first, T, heads, head, C)
    else:
        return tl.full([C], 0.0, tl.float32)


@triton.jit
def load_state(x, n, kc, vc, K: tl.constexpr, V: tl.constexpr):
    """State number `n` of [K, V] each."""
    inside = (kc < K)[:, None] & (vc < V)[None, :]
    at = kc[:, None] * V + vc[None, :]
    return tl.load(x + n * K * V + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def store_state(x, n, y, kc, vc, K: tl.constexpr, V: tl.constexpr):
    """Stores state number `n`."""
    inside = (kc < K)[:, None] & (vc < V)[None, :]
    at = kc[:, None] * V + vc[None, :]
    tl.store(x + n * K * V + at, y.to(x.dtype.element_ty), mask=inside)


@triton.jit
def load_whole(x, n, kc, K: tl.constexpr, DECAY: tl.constexpr):
    """The product of all decays of segment `n`, for each channel or one."""
    if DECAY == "channel":
        return tl.load(x + n * K + kc, mask=kc < K, other=1.0)
    else:
        return tl.load(x + n + tl.arange(0, 1))


@triton.jit
def store_whole(x, n, y, kc, K: tl.constexpr, DECAY: tl.constexpr):
    """Stores what `load_whole` loads."""
    if DECAY == "channel":
        tl.store(x + n * K + kc, y, mask=kc < K)
    else:
        tl.store(x + n + tl.arange(0, 1), y)


@triton.jit
def read(q, weight, state, DECAY: tl.constexpr, PRECISION: tl.constexpr):
    """(q * weight) state; one weight for a row goes on the smaller side."""
    if DECAY == "channel":
        weighted = (q * weight).to(q.dtype)
        return tl.dot(weighted, state.to(q.dtype), input_precision=PRECISION)
    else:
        return weight * tl.dot(q, state.to(q.dtype), input_precision=PRECISION)


@triton.jit
def write(state, decay, k, v, weight, DECAY: tl.constexpr, PRECISION: tl.constexpr):
    """decay * state + (k * weight)^T v."""
    if DECAY == "channel":
        k = (k * weight).to(k.dtype)
    else:
        v = (v * weight).to(v.dtype)
    return state * decay[:, None] + tl.dot(tl.trans(k), v, input_precision=PRECISION)
