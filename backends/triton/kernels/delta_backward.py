"""Gradients of delta rules (`delta.py` has the equations).

Values first: x and the gradient of y, a block of columns at a time. With these in memory
the states and their adjoints are decayed sums of outer products, and a block of their
rows is enough for the gradients of queries, of both sides of the writes and of decays.
"""

import triton
import triton.language as tl

from seqdsl.backends.triton.kernels.decays import (
    collected,
    decays,
    spans,
    spread,
    whole,
)
from seqdsl.backends.triton.kernels.delta import erased, load_scales, pulled
from seqdsl.backends.triton.kernels.rows import (
    load_logs,
    load_rows,
    load_state,
    store_rows,
    store_scalars,
    store_state,
    write,
)


@triton.jit
def delta_values(
    q, l, r, ls, rs, y, do, g, inverse, states, adjoints, x, dy, dinitial,
    scale, T, length, segments,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, SCALED: tl.constexpr,
    DECAY: tl.constexpr, ENTER: tl.constexpr, LEAVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """x, the gradient of y, and that of the initial state."""
    parts: tl.constexpr = tl.cdiv(V, BV)
    part, bh, n = tl.program_id(0) % parts, tl.program_id(0) // parts, tl.program_id(1)
    b, head = (bh // H).to(tl.int64), bh % H
    kc, vc = tl.arange(0, BK), part * BV + tl.arange(0, BV)
    q, l, r = q + b * T * H * K, l + b * T * H * K, r + b * T * H * K
    y, do, x, dy = (
        y + b * T * H * V,
        do + b * T * H * V,
        x + b * T * H * V,
        dy + b * T * H * V,
    )
    g, inverse = (
        g + b * T * H * (K if DECAY == "channel" else 1),
        inverse + b * T * H * C,
    )
    ls, rs = ls + b * T * H, rs + b * T * H
    if ENTER:
        state = load_state(states, bh.to(tl.int64) * segments + n, kc, vc, K, V)
    else:
        state = tl.zeros([BK, BV], tl.float32)
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for i in range(steps):
        first = n * length + i * C
        a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
        lt = load_rows(l, first, T, H, head, kc, K, C)
        rt = load_rows(r, first, T, H, head, kc, K, C)
        yt = load_rows(y, first, T, H, head, vc, V, C)
        since, until, ahead = spans(a, DECAY)
        xt = erased(
            rt,
            rs,
            yt,
            inverse,
            state,
            ahead,
            first,
            T,
            H,
            head,
            C,
            SCALED,
            DECAY,
            PRECISION,
        )
        store_rows(x, xt, first, T, H, head, vc, V, C)
        xt = (xt * load_scales(ls, first, T, H, head, C, SCALED)[:, None]).to(lt.dtype)
        state = write(state, whole(since), lt, xt, until, DECAY, PRECISION)
    if LEAVE:
        adj = load_state(adjoints, bh.to(tl.int64) * segments + n, kc, vc, K, V)
    else:
        adj = tl.zeros([BK, BV], tl.float32)
    for i in range(steps):
        first = n * length + (steps - 1 - i) * C
        adj, dyt = pulled(
            q, l, r, ls, rs, do, g, inverse, adj, scale, first, T, head, kc, vc,
            H, K, V, C, SCALED, DECAY, PRECISION,
        )  # fmt: skip
        store_rows(dy, dyt, first, T, H, head, vc, V, C)
    if n == 0:
        store_state(dinitial, bh.to(tl.int64), adj, kc, vc, K, V)


@triton.jit
def delta_keys(
    q, l, r, ls, rs, do, g, states, adjoints, x, dy, dq, dl, dr, dls, drs, dg,
    scale, T, length, segments,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, WV: tl.constexpr, C: tl.constexpr, SCALED: tl.constexpr,
    DECAY: tl.constexpr, ENTER: tl.constexpr, LEAVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of q and r from the start of a segment, of l and the decays from its end.

    Gradients of numbers for each row come in parts, one for every block of rows.
    """
    parts: tl.constexpr = tl.cdiv(K, BK)
    part, bh, n = tl.program_id(0) % parts, tl.program_id(0) // parts, tl.program_id(1)
    b, head = (bh // H).to(tl.int64), bh % H
    kc, vc = part * BK + tl.arange(0, BK), tl.arange(0, WV)
    q, l, r = q + b * T * H * K, l + b * T * H * K, r + b * T * H * K
    dq, dl, dr = dq + b * T * H * K, dl + b * T * H * K, dr + b * T * H * K
    do, x, dy = do + b * T * H * V, x + b * T * H * V, dy + b * T * H * V
    g, ls, rs = (
        g + b * T * H * (K if DECAY == "channel" else 1),
        ls + b * T * H,
        rs + b * T * H,
    )
    piece = (part * (tl.num_programs(0) // parts // H) + b) * T * H
    dls, drs = dls + piece, drs + piece
    dg += b * T * H * K if DECAY == "channel" else piece
    at, row = bh.to(tl.int64) * segments + n, tl.arange(0, C)
    causal = row[:, None] >= row[None, :]
    if ENTER:
        state = load_state(states, at, kc, vc, K, V)
    else:
        state = tl.zeros([BK, WV], tl.float32)
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for i in range(steps):
        first = n * length + i * C
        a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
        xt = load_rows(x, first, T, H, head, vc, V, C)
        xt = (xt * load_scales(ls, first, T, H, head, C, SCALED)[:, None]).to(xt.dtype)
        lt = load_rows(l, first, T, H, head, kc, K, C)
        dot = load_rows(do, first, T, H, head, vc, V, C)
        dp = tl.where(causal, tl.dot(dot, tl.trans(xt), input_precision=PRECISION), 0.0)
        dqt, since, _, _ = spread(dp, lt, a, False, DECAY, PRECISION)
        dqt += since * tl.dot(
            dot, tl.trans(state.to(dot.dtype)), input_precision=PRECISION
        )
        store_rows(dq, dqt * scale, first, T, H, head, kc, K, C)
        dyt = load_rows(dy, first, T, H, head, vc, V, C)
        dm = tl.where(causal, tl.dot(dyt, tl.trans(xt), input_precision=PRECISION), 0.0)
        drt, since, until, ahead = spread(dm, lt, a, True, DECAY, PRECISION)
        drt += ahead * tl.dot(
            dyt, tl.trans(state.to(dyt.dtype)), input_precision=PRECISION
        )
        if SCALED:
            rt = load_rows(r, first, T, H, head, kc, K, C)
            store_scalars(drs, tl.sum(drt * rt, axis=1), first, T, H, head, C)
            drt *= load_scales(rs, first, T, H, head, C, SCALED)[:, None]
        store_rows(dr, drt, first, T, H, head, kc, K, C)
        state = write(state, whole(since), lt, xt, until, DECAY, PRECISION)
    if LEAVE:
        adj = load_state(adjoints, at, kc, vc, K, V)
    else:
        adj = tl.zeros([BK, WV], tl.float32)
    carry = tl.sum(state * adj, axis=1) if DECAY == "channel" else tl.sum(state * adj)
    tl.debug_barrier()
    for i in range(steps):
        first = n * length + (steps - 1 - i) * C
        a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
        qt = load_rows(q, first, T, H, head, kc, K, C)
        rt = load_rows(r, first, T, H, head, kc, K, C)
        lt = load_rows(l, first, T, H, head, kc, K, C)
        xt = load_rows(x, first, T, H, head, vc, V, C)
        dot = load_rows(do, first, T, H, head, vc, V, C)
        dot = (dot.to(tl.float32) * scale).to(dot.dtype)
        dyt = load_rows(dy, first, T, H, head, vc, V, C)
        dyt = (dyt * load_scales(rs, first, T, H, head, C, SCALED)[:, None]).to(
            dyt.dtype
        )
        dp = tl.where(causal, tl.dot(dot, tl.trans(xt), input_precision=PRECISION), 0.0)
        dlt, since, until, _ = collected(dp, qt, a, False, DECAY, PRECISION)
        dm = tl.where(causal, tl.dot(dyt, tl.trans(xt), input_precision=PRECISION), 0.0)
        more, _, _, ahead = collected(dm, rt, a, True, DECAY, PRECISION)
        dlt += more + until * tl.dot(
            xt, tl.trans(adj.to(xt.dtype)), input_precision=PRECISION
        )
        if SCALED:
            store_scalars(dls, tl.sum(dlt * lt, axis=1), first, T, H, head, C)
            dlt *= load_scales(ls, first, T, H, head, C, SCALED)[:, None]
        store_rows(dl, dlt, first, T, H, head, kc, K, C)
        if DECAY != "none":
            own = rt.to(tl.float32) * load_rows(dr, first, T, H, head, kc, K, C)
            change = qt.to(tl.float32) * load_rows(dq, first, T, H, head, kc, K, C)
            change += own - lt * dlt
            if DECAY == "channel":
                dgt = carry[None, :] + tl.cumsum(change, axis=0, reverse=True) - own
                carry += tl.sum(change, axis=0)
                store_rows(dg, dgt, first, T, H, head, kc, K, C)
            else:
                changes, owns = tl.sum(change, axis=1), tl.sum(own, axis=1)
                dgs = carry + tl.cumsum(changes, reverse=True) - owns
                carry += tl.sum(changes)
                store_scalars(dg, dgs, first, T, H, head, C)
        adj = write(adj, whole(since), qt, dot, since, DECAY, PRECISION)
        ones = tl.full([1], 1.0, tl.float32)
        adj = write(adj, ones, rt, dyt, ahead, DECAY, PRECISION)
