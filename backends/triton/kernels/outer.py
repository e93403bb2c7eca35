"""Decayed outer products: S[t] = a[t] S[t-1] + k[t] v[t]^T, o[t] = scale S[t]^T q[t].

A sequence is cut into segments that run side by side. What a segment adds to the state
(`outer_segments`) is all that the next ones need of it; then every segment goes through
its chunks with the state in registers. Nothing of a chunk goes through memory.
"""

import triton
import triton.language as tl

from seqdsl.backends.triton.kernels.decays import (
    collected,
    decays,
    scores,
    spans,
    spread,
    whole,
)
from seqdsl.backends.triton.kernels.rows import (
    load_logs,
    load_rows,
    load_state,
    load_whole,
    read,
    store_rows,
    store_scalars,
    store_state,
    store_whole,
    write,
)


@triton.jit
def outer_segments(
    k, v, g, added, wholes, scale, T, TK, length, segments,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, C: tl.constexpr,
    DECAY: tl.constexpr, ADJOINT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What every segment but the last adds to the state at its end, and what it keeps.

    ADJOINT: what each but the first adds to the state's adjoint at its start, `k` being
    the queries and `v` the gradients of the outputs, of `TK` steps where others have `T`.
    """
    parts: tl.constexpr = tl.cdiv(K, BK) * tl.cdiv(V, BV)
    part, bh, slot = (
        tl.program_id(0) % parts,
        tl.program_id(0) // parts,
        tl.program_id(1),
    )
    n = slot + 1 if ADJOINT else slot
    ik, iv = part % tl.cdiv(K, BK), part // tl.cdiv(K, BK)
    b, head = (bh // H).to(tl.int64), bh % H
    kc, vc = ik * BK + tl.arange(0, BK), iv * BV + tl.arange(0, BV)
    k, v, g = (
        k + b * T * H * K,
        v + b * T * H * V,
        g + b * T * H * (K if DECAY == "channel" else 1),
    )
    state = tl.zeros([BK, BV], tl.float32)
    total = tl.full([BK if DECAY == "channel" else 1], 1.0, tl.float32)
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for i in range(steps):
        first = n * length + (steps - 1 - i if ADJOINT else i) * C
        a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
        kt = load_rows(k, first, TK, H, head, kc, K, C)
        vt = load_rows(v, first, TK, H, head, vc, V, C)
        since, until, _ = spans(a, DECAY)
        weight, decay = (since * scale if ADJOINT else until), whole(since)
        state = write(state, decay, kt, vt, weight, DECAY, PRECISION)
        total *= decay
    at = bh.to(tl.int64) * (segments - 1) + slot
    store_state(added, at, state, kc, vc, K, V)
    if iv == 0:
        store_whole(wholes, at, total, kc, K, DECAY)


@triton.jit
def entering(
    initial, added, wholes, bh, n, segments, kc, vc,
    K: tl.constexpr, V: tl.constexpr, DECAY: tl.constexpr, INITIAL: tl.constexpr,
):  # fmt: skip
    """The state before segment `n`."""
    if INITIAL:
        state = load_state(initial, bh.to(tl.int64), kc, vc, K, V)
    else:
        state = tl.zeros([kc.shape[0], vc.shape[0]], tl.float32)
    for m in range(n):
        at = bh.to(tl.int64) * (segments - 1) + m
        decay = load_whole(wholes, at, kc, K, DECAY)
        state = state * decay[:, None] + load_state(added, at, kc, vc, K, V)
    return state


@triton.jit
def leaving(
    final, added, wholes, bh, n, segments, kc, vc,
    K: tl.constexpr, V: tl.constexpr, DECAY: tl.constexpr, FINAL: tl.constexpr,
):  # fmt: skip
    """The adjoint of the state after segment `n`."""
    if FINAL:
        state = load_state(final, bh.to(tl.int64), kc, vc, K, V)
    else:
        state = tl.zeros([kc.shape[0], vc.shape[0]], tl.float32)
    for m in range(segments - 1 - n):
        at = bh.to(tl.int64) * (segments - 1) + (segments - 2 - m)
        decay = load_whole(wholes, at, kc, K, DECAY)
        state = state * decay[:, None] + load_state(added, at, kc, vc, K, V)
    return state


@triton.jit
def outer_forward(
    q, k, v, g, initial, added, wholes, o, final, scale, T, TQ, length, segments,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, C: tl.constexpr,
    DECAY: tl.constexpr, INITIAL: tl.constexpr, FINAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The outputs of one segment; the last one stores the state after it.

    `q` and `o` have `TQ` steps: those of the steps 1 … T - 1 where the state is read
    before it is updated.
    """
    parts: tl.constexpr = tl.cdiv(V, BV)
    part, bh, n = tl.program_id(0) % parts, tl.program_id(0) // parts, tl.program_id(1)
    b, head = (bh // H).to(tl.int64), bh % H
    kc, vc = tl.arange(0, BK), part * BV + tl.arange(0, BV)
    more = BK + kc  # keys of which a second block takes care, where there are any
    q, k = q + b * T * H * K, k + b * T * H * K
    v, o = v + b * T * H * V, o + b * T * H * V
    g += b * T * H * (K if DECAY == "channel" else 1)
    state = entering(
        initial, added, wholes, bh, n, segments, kc, vc, K, V, DECAY, INITIAL
    )
    other = state
    if K > BK:
        other = entering(
            initial, added, wholes, bh, n, segments, more, vc, K, V, DECAY, INITIAL
        )
    for i in range(tl.cdiv(tl.minimum(length, T - n * length), C)):
        first = n * length + i * C
        if K > BK:
            vt = load_rows(v, first, T, H, head, vc, V, C)
            p, y, state = outer_block(
                q, k, g, vt, state, first, T, TQ, head, kc, H, K, C, DECAY, PRECISION
            )
            p2, y2, other = outer_block(
                q, k, g, vt, other, first, T, TQ, head, more, H, K, C, DECAY, PRECISION
            )
            p, y = p + p2, y + y2
            y += tl.dot(p.to(vt.dtype), vt, input_precision=PRECISION)
            store_rows(o, y * scale, first, TQ, H, head, vc, V, C)
        else:
            a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
            qt = load_rows(q, first, TQ, H, head, kc, K, C)
            kt = load_rows(k, first, T, H, head, kc, K, C)
            vt = load_rows(v, first, T, H, head, vc, V, C)
            p, since, until, _ = scores(qt, kt, a, DECAY, PRECISION)
            decay = whole(since)
            y = read(qt, since, state, DECAY, PRECISION)
            y += tl.dot(p.to(vt.dtype), vt, input_precision=PRECISION)
            store_rows(o, y * scale, first, TQ, H, head, vc, V, C)
            state = write(state, decay, kt, vt, until, DECAY, PRECISION)
    if FINAL and n == segments - 1:
        store_state(final, bh.to(tl.int64), state, kc, vc, K, V)
        if K > BK:
            store_state(final, bh.to(tl.int64), other, more, vc, K, V)


@triton.jit
def outer_block(
    q, k, g, vt, state, first, T, TQ, head, kc,
    H: tl.constexpr, K: tl.constexpr, C: tl.constexpr, DECAY: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of a chunk and a block of keys: products, what is read of the state, and the next."""
    a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
    qt = load_rows(q, first, TQ, H, head, kc, K, C)
    kt = load_rows(k, first, T, H, head, kc, K, C)
    p, since, until, _ = scores(qt, kt, a, DECAY, PRECISION)
    y = read(qt, since, state, DECAY, PRECISION)
    return p, y, write(state, whole(since), kt, vt, until, DECAY, PRECISION)


@triton.jit
def outer_backward(
    q, k, v, g, do, initial, added, wholes, dfinal, adjoint, kept, dq, dk, dv, dg, dinitial,
    scale, T, TQ, length, segments,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, WK: tl.constexpr, WV: tl.constexpr, C: tl.constexpr,
    DECAY: tl.constexpr, INITIAL: tl.constexpr, FINAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All gradients of one segment: some programs take keys, the others values.

    `dg` of scalar decays comes in parts, one for every block of keys.
    """
    parts: tl.constexpr = tl.cdiv(K, BK) + tl.cdiv(V, BV)
    part, bh, n = tl.program_id(0) % parts, tl.program_id(0) // parts, tl.program_id(1)
    b, head = (bh // H).to(tl.int64), bh % H
    q, k, v, do = (
        q + b * T * H * K,
        k + b * T * H * K,
        v + b * T * H * V,
        do + b * T * H * V,
    )
    dq, dk, dv = dq + b * T * H * K, dk + b * T * H * K, dv + b * T * H * V
    g += b * T * H * (K if DECAY == "channel" else 1)
    if DECAY == "channel":
        dg += b * T * H * K
    elif DECAY == "scalar":
        dg += (part * (tl.num_programs(0) // parts // H) + b) * T * H
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    if part < tl.cdiv(K, BK):
        outer_backward_keys(
            q, k, v, g, do, initial, added, wholes, dfinal, adjoint, kept, dq, dk, dg,
            scale, T, TQ, length, segments, steps, part, n, bh, head,
            H, K, V, BK, WV, C, DECAY, INITIAL, FINAL, PRECISION,
        )  # fmt: skip
    else:
        outer_backward_values(
            q, k, g, do, dfinal, adjoint, kept, dv, dinitial,
            scale, T, TQ, length, segments, steps, part - tl.cdiv(K, BK), n, bh, head,
            H, K, V, WK, BV, C, DECAY, INITIAL, FINAL, PRECISION,
        )  # fmt: skip


@triton.jit
def outer_backward_values(
    q, k, g, do, dfinal, adjoint, kept, dv, dinitial,
    scale, T, TQ, length, segments, steps, iv, n, bh, head,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, WK: tl.constexpr, BV: tl.constexpr, C: tl.constexpr,
    DECAY: tl.constexpr, INITIAL: tl.constexpr, FINAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of values and of the initial state, from the end with the adjoint state."""
    kc, vc = tl.arange(0, WK), iv * BV + tl.arange(0, BV)
    state = leaving(dfinal, adjoint, kept, bh, n, segments, kc, vc, K, V, DECAY, FINAL)
    for i in range(steps):
        first = n * length + (steps - 1 - i) * C
        a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
        qt = load_rows(q, first, TQ, H, head, kc, K, C)
        kt = load_rows(k, first, T, H, head, kc, K, C)
        dot = load_rows(do, first, TQ, H, head, vc, V, C)
        p, since, until, _ = scores(qt, kt, a, DECAY, PRECISION)
        y = read(kt, until, state, DECAY, PRECISION)
        p = tl.trans(p * scale).to(dot.dtype)
        y += tl.dot(p, dot, input_precision=PRECISION)
        store_rows(dv, y, first, T, H, head, vc, V, C)
        state = write(state, whole(since), qt, dot, since * scale, DECAY, PRECISION)
    if INITIAL and n == 0:
        store_state(dinitial, bh.to(tl.int64), state, kc, vc, K, V)


@triton.jit
def outer_backward_keys(
    q, k, v, g, do, initial, added, wholes, dfinal, adjoint, kept, dq, dk, dg,
    scale, T, TQ, length, segments, steps, ik, n, bh, head,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, WV: tl.constexpr, C: tl.constexpr,
    DECAY: tl.constexpr, INITIAL: tl.constexpr, FINAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of queries from the start, then of keys and decays from the end.

    The gradient of log a[t] is the sum of q dq - k dk over the steps from t on, and of
    the state times its adjoint at the end of the segment.
    """
    kc, vc = ik * BK + tl.arange(0, BK), tl.arange(0, WV)
    row = tl.arange(0, C)
    causal = row[:, None] >= row[None, :]
    state = entering(
        initial, added, wholes, bh, n, segments, kc, vc, K, V, DECAY, INITIAL
    )
    for i in range(steps):
        first = n * length + i * C
        a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
        kt = load_rows(k, first, T, H, head, kc, K, C)
        vt = load_rows(v, first, T, H, head, vc, V, C)
        dot = load_rows(do, first, TQ, H, head, vc, V, C)
        dp = tl.where(causal, tl.dot(dot, tl.trans(vt), input_precision=PRECISION), 0.0)
        y, since, until, _ = spread(dp, kt, a, DECAY, PRECISION)
        y += since * tl.dot(
            dot, tl.trans(state.to(dot.dtype)), input_precision=PRECISION
        )
        store_rows(dq, y * scale, first, TQ, H, head, kc, K, C)
        state = write(state, whole(since), kt, vt, until, DECAY, PRECISION)
    adj = leaving(dfinal, adjoint, kept, bh, n, segments, kc, vc, K, V, DECAY, FINAL)
    carry = tl.sum(state * adj, axis=1) if DECAY == "channel" else tl.sum(state * adj)
    tl.debug_barrier()
    for i in range(steps):
        first = n * length + (steps - 1 - i) * C
        a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
        qt = load_rows(q, first, TQ, H, head, kc, K, C)
        kt = load_rows(k, first, T, H, head, kc, K, C)
        vt = load_rows(v, first, T, H, head, vc, V, C)
        dot = load_rows(do, first, TQ, H, head, vc, V, C)
        dqt = load_rows(dq, first, TQ, H, head, kc, K, C)
        dp = tl.where(causal, tl.dot(dot, tl.trans(vt), input_precision=PRECISION), 0.0)
        y, since, until, _ = collected(dp, qt, a, DECAY, PRECISION)
        y *= scale
        y += until * tl.dot(vt, tl.trans(adj.to(vt.dtype)), input_precision=PRECISION)
        store_rows(dk, y, first, T, H, head, kc, K, C)
        change = qt.to(tl.float32) * dqt - kt * y
        if DECAY == "channel":
            dgt = carry[None, :] + tl.cumsum(change, axis=0, reverse=True)
            carry += tl.sum(change, axis=0)
            store_rows(dg, dgt, first, T, H, head, kc, K, C)
        elif DECAY == "scalar":
            changes = tl.sum(change, axis=1)
            store_scalars(
                dg, carry + tl.cumsum(changes, reverse=True), first, T, H, head, C
            )
            carry += tl.sum(changes)
        adj = write(adj, whole(since), qt, dot, since * scale, DECAY, PRECISION)
