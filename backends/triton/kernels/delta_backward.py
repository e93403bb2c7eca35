"""Gradients of delta rules (`delta.py` has the equations): x, values, initial states.

Values first: x and the gradients of y and v, a block of columns at a time. With these in
memory the states and their adjoints are decayed sums of outer products, and a block of
their rows is enough for the rest (`delta_sides.py`).
"""

import triton
import triton.language as tl

from seqdsl.backends.triton.kernels.decays import decays, spans, whole
from seqdsl.backends.triton.kernels.delta import erased, load_scales, within, written
from seqdsl.backends.triton.kernels.pairs import turned
from seqdsl.backends.triton.kernels.rows import (
    load_logs,
    load_rows,
    load_state,
    read,
    store_rows,
    store_state,
    write,
)


@triton.jit
def delta_adjoints(
    q, l, r, ls, rs, do, g, inner, added, scale, T, length, segments,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, W: tl.constexpr,
    SCALED: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The adjoint of the state before every segment, were it 0 after it."""
    parts: tl.constexpr = tl.cdiv(V, BV)
    part, bh, n = tl.program_id(0) % parts, tl.program_id(0) // parts, tl.program_id(1)
    b, head = (bh // H).to(tl.int64), bh % H
    kc, vc = tl.arange(0, BK), part * BV + tl.arange(0, BV)
    q, l, r, do = (
        q + b * T * H * K,
        l + b * T * H * K,
        r + b * T * H * K,
        do + b * T * H * V,
    )
    g += b * T * H * (K if DECAY == "channel" else 1)
    ls, rs, inner = ls + b * T * H, rs + b * T * H, inner + b * T * H * W
    state = tl.zeros([BK, BV], tl.float32)
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for i in range(steps):
        first = n * length + (steps - 1 - i) * C
        state, _, _ = pulled(
            q, l, r, ls, rs, l, do, g, inner, state, scale, first, T, head, kc, vc,
            H, K, V, C, W, SCALED, False, DECAY, GROUP, PRECISION,
        )  # fmt: skip
    store_state(added, bh.to(tl.int64) * segments + n, state, kc, vc, K, V)


@triton.jit
def pulled(
    q, l, r, ls, rs, k, do, g, inner, state, scale, first, T, head, kc, vc,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, W: tl.constexpr,
    SCALED: tl.constexpr, PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The adjoints of the state before a chunk, of `y` and (with PLAIN) of `v`."""
    a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
    qt = load_rows(q, first, T, H, head, kc, K, C)
    lt = load_rows(l, first, T, H, head, kc, K, C)
    rt = load_rows(r, first, T, H, head, kc, K, C)
    dot = load_rows(do, first, T, H, head, vc, V, C)
    dot = (dot.to(tl.float32) * scale).to(dot.dtype)
    since, until, ahead = spans(a, DECAY, GROUP)
    ql = within(inner, 1, first, T, H, head, C, W)
    dx = read(lt, until, state, DECAY, PRECISION)
    dx += tl.dot(tl.trans(ql.to(dot.dtype)), dot, input_precision=PRECISION)
    dx *= load_scales(ls, first, T, H, head, C, SCALED)[:, None]
    found = within(inner, 0, first, T, H, head, C, W)
    dy = tl.dot(tl.trans(found), dx.to(found.dtype), input_precision=PRECISION)
    pull = (dy * load_scales(rs, first, T, H, head, C, SCALED)[:, None]).to(rt.dtype)
    dv = dy
    if PLAIN:
        kt = load_rows(k, first, T, H, head, kc, K, C)
        dv = read(kt, until, state, DECAY, PRECISION)
        more = within(inner, 2, first, T, H, head, C, W)
        qk = within(inner, 3, first, T, H, head, C, W)
        dv += turned(qk, dot, more, dx.to(dot.dtype), PRECISION)
    state = write(state, whole(since), qt, dot, since, DECAY, PRECISION)
    ones = tl.full([1], 1.0, tl.float32)
    return write(state, ones, rt, pull, ahead, DECAY, PRECISION), dy, dv


@triton.jit
def delta_values(
    q, l, r, ls, rs, y, k, v, do, g, inner, states, adjoints, x, dy, dv, dinitial,
    scale, T, length, segments,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, W: tl.constexpr, SCALED: tl.constexpr,
    OWN: tl.constexpr, PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr,
    ENTER: tl.constexpr, LEAVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """x, the gradients of y and v, and that of the initial state."""
    parts: tl.constexpr = tl.cdiv(V, BV)
    part, bh, n = tl.program_id(0) % parts, tl.program_id(0) // parts, tl.program_id(1)
    b, head = (bh // H).to(tl.int64), bh % H
    kc, vc = tl.arange(0, BK), part * BV + tl.arange(0, BV)
    q, l, r = q + b * T * H * K, l + b * T * H * K, r + b * T * H * K
    y, k, v = y + b * T * H * V, k + b * T * H * K, v + b * T * H * V
    do, x, dy = do + b * T * H * V, x + b * T * H * V, dy + b * T * H * V
    g += b * T * H * (K if DECAY == "channel" else 1)
    ls, rs = ls + b * T * H, rs + b * T * H
    inner += b * T * H * W
    dv += b * T * H * V
    if ENTER:
        state = load_state(states, bh.to(tl.int64) * segments + n, kc, vc, K, V)
    else:
        state = tl.zeros([BK, BV], tl.float32)
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for i in range(steps):
        first = n * length + i * C
        a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
        since, until, ahead = spans(a, DECAY, GROUP)
        kept = whole(since)
        xt = erased(
            r, rs, y, v, inner, state, ahead, first, T, T, head, kc, vc,
            H, K, V, C, W, SCALED, OWN, PLAIN, DECAY, PRECISION,
        )  # fmt: skip
        store_rows(x, xt, first, T, H, head, vc, V, C)
        state = written(
            l, ls, k, v, xt, state, kept, until, first, T, T, head, kc, vc,
            H, K, V, C, SCALED, PLAIN, DECAY, PRECISION,
        )  # fmt: skip
    if LEAVE:
        adj = load_state(adjoints, bh.to(tl.int64) * segments + n, kc, vc, K, V)
    else:
        adj = tl.zeros([BK, BV], tl.float32)
    for i in range(steps):
        first = n * length + (steps - 1 - i) * C
        adj, dyt, dvt = pulled(
            q, l, r, ls, rs, k, do, g, inner, adj, scale, first, T, head, kc, vc,
            H, K, V, C, W, SCALED, PLAIN, DECAY, GROUP, PRECISION,
        )  # fmt: skip
        store_rows(dy, dyt, first, T, H, head, vc, V, C)
        if PLAIN:
            store_rows(dv, dvt, first, T, H, head, vc, V, C)
    if n == 0:
        store_state(dinitial, bh.to(tl.int64), adj, kc, vc, K, V)
