"""Gradients of delta rules by rows of the state: queries, both sides of writes, decays.

`x` and the gradients `dy` of what is written are in memory (`delta_backward.py`).
"""

import triton
import triton.language as tl

from seqdsl.backends.triton.kernels.decays import (
    decays,
    gathered,
    gathered_rows,
    whole,
)
from seqdsl.backends.triton.kernels.delta import load_scales
from seqdsl.backends.triton.kernels.pairs import collected_all, spread_all
from seqdsl.backends.triton.kernels.rows import (
    load_logs,
    load_rows,
    load_state,
    store_rows,
    store_scalars,
    write,
)


@triton.jit
def paired(x, y, PRECISION: tl.constexpr):
    """x[i] y[j] for j <= i."""
    row = tl.arange(0, x.shape[0])
    pairs = tl.dot(x, tl.trans(y), input_precision=PRECISION)
    return tl.where(row[:, None] >= row[None, :], pairs, 0.0)


@triton.jit
def through(x, state, PRECISION: tl.constexpr):
    """Values `x` against the rows of a state."""
    return tl.dot(x, tl.trans(state.to(x.dtype)), input_precision=PRECISION)


@triton.jit
def moved_on(a, b, c, d, offset):
    """Four pointers, each that much further."""
    return a + offset, b + offset, c + offset, d + offset


@triton.jit
def delta_keys(
    q, l, r, ls, rs, k, v, do, g, states, adjoints, x, dy, dq, dl, dr, dk, dls, drs, dg,
    scale, T, length, segments,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, WV: tl.constexpr, C: tl.constexpr, SCALED: tl.constexpr,
    PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr,
    ENTER: tl.constexpr, LEAVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of q and r from the start of a segment, of the others from its end.

    Gradients of numbers for each row come in parts, one for every block of rows.
    """
    parts: tl.constexpr = tl.cdiv(K, BK)
    part, bh, n = tl.program_id(0) % parts, tl.program_id(0) // parts, tl.program_id(1)
    b, head = (bh // H).to(tl.int64), bh % H
    rows, piece = b * T * H, (part * (tl.num_programs(0) // parts // H) + b) * T * H
    q, l, r, k = moved_on(q, l, r, k, rows * K)
    dq, dl, dr, dk = moved_on(dq, dl, dr, dk, rows * K)
    do, x, dy, v = moved_on(do, x, dy, v, rows * V)
    ls, rs, dls, drs = ls + rows, rs + rows, dls + piece, drs + piece
    g += rows * (K if DECAY == "channel" else 1)
    dg += rows * K if DECAY == "channel" else piece
    kc, at = part * BK + tl.arange(0, BK), bh.to(tl.int64) * segments + n
    state = delta_read(
        l, r, ls, rs, k, v, do, g, states, x, dy, dq, dr, drs, scale, T, length, n, at, head, kc,
        H, K, V, WV, C, SCALED, PLAIN, DECAY, GROUP, ENTER, PRECISION,
    )  # fmt: skip
    tl.debug_barrier()
    delta_write(
        q, l, r, ls, rs, k, v, do, g, adjoints, x, dy, dq, dl, dr, dk, dls, dg, state,
        scale, T, length, n, at, head, kc,
        H, K, V, WV, C, SCALED, PLAIN, DECAY, GROUP, LEAVE, PRECISION,
    )  # fmt: skip


@triton.jit
def delta_read(
    l, r, ls, rs, k, v, do, g, states, x, dy, dq, dr, drs, scale, T, length, n, at, head, kc,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, WV: tl.constexpr, C: tl.constexpr,
    SCALED: tl.constexpr, PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr,
    ENTER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of q and r in segment `n`; the state after it."""
    vc = tl.arange(0, WV)
    if ENTER:
        state = load_state(states, at, kc, vc, K, V)
    else:
        state = tl.zeros([kc.shape[0], WV], tl.float32)
    for i in range(tl.cdiv(tl.minimum(length, T - n * length), C)):
        state = delta_readers(
            l, r, ls, rs, k, v, do, g, x, dy, dq, dr, drs, state, scale,
            n * length + i * C, T, head, kc, vc,
            H, K, V, C, SCALED, PLAIN, DECAY, GROUP, PRECISION,
        )  # fmt: skip
    return state


@triton.jit
def delta_write(
    q, l, r, ls, rs, k, v, do, g, adjoints, x, dy, dq, dl, dr, dk, dls, dg, state,
    scale, T, length, n, at, head, kc,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, WV: tl.constexpr, C: tl.constexpr,
    SCALED: tl.constexpr, PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr,
    LEAVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of l, k and decays in segment `n`, after which the state is `state`."""
    vc = tl.arange(0, WV)
    if LEAVE:
        adj = load_state(adjoints, at, kc, vc, K, V)
    else:
        adj = tl.zeros([kc.shape[0], WV], tl.float32)
    carry = tl.sum(state * adj, axis=1) if DECAY == "channel" else tl.sum(state * adj)
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for i in range(steps):
        adj, carry = delta_writers(
            q, l, r, ls, rs, k, v, do, g, x, dy, dq, dl, dr, dk, dls, dg, adj, carry, scale,
            n * length + (steps - 1 - i) * C, T, head, kc, vc,
            H, K, V, C, SCALED, PLAIN, DECAY, GROUP, PRECISION,
        )  # fmt: skip


@triton.jit
def delta_readers(
    l, r, ls, rs, k, v, do, g, x, dy, dq, dr, drs, state, scale, first, T, head, kc, vc,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, SCALED: tl.constexpr,
    PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of what reads the state in a chunk, q and r; the state after it."""
    a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
    xt = load_rows(x, first, T, H, head, vc, V, C)
    xt = (xt * load_scales(ls, first, T, H, head, C, SCALED)[:, None]).to(xt.dtype)
    dot = load_rows(do, first, T, H, head, vc, V, C)
    dyt = load_rows(dy, first, T, H, head, vc, V, C)
    lt, kt, vt, p, m, pk, mk = products_of(
        l, k, v, xt, dot, dyt, first, T, head, kc, vc, H, K, V, C, PLAIN, PRECISION
    )
    dqt, drt, since, until, ahead = spread_all(
        p, m, lt, pk, mk, kt, a, PLAIN, DECAY, GROUP, PRECISION
    )
    dqt += since * through(dot, state, PRECISION)
    drt += ahead * through(dyt, state, PRECISION)
    state = write(state, whole(since), lt, xt, until, DECAY, PRECISION)
    if PLAIN:
        ones = tl.full([1], 1.0, tl.float32)
        state = write(state, ones, kt, vt, until, DECAY, PRECISION)
    store_rows(dq, dqt * scale, first, T, H, head, kc, K, C)
    if SCALED:
        rt = load_rows(r, first, T, H, head, kc, K, C)
        store_scalars(drs, tl.sum(drt * rt, axis=1), first, T, H, head, C)
        drt *= load_scales(rs, first, T, H, head, C, SCALED)[:, None]
    store_rows(dr, drt, first, T, H, head, kc, K, C)
    return state


@triton.jit
def products_of(
    l, k, v, xt, dot, dyt, first, T, head, kc, vc,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr,
    PLAIN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """l, k and v of a chunk; `dot` and `dyt` against what is written, x and (PLAIN) v."""
    lt = load_rows(l, first, T, H, head, kc, K, C)
    p, m = paired(dot, xt, PRECISION), paired(dyt, xt, PRECISION)
    kt, vt, pk, mk = lt, xt, p, m
    if PLAIN:
        kt = load_rows(k, first, T, H, head, kc, K, C)
        vt = load_rows(v, first, T, H, head, vc, V, C)
        pk, mk = paired(dot, vt, PRECISION), paired(dyt, vt, PRECISION)
    return lt, kt, vt, p, m, pk, mk


@triton.jit
def delta_writers(
    q, l, r, ls, rs, k, v, do, g, x, dy, dq, dl, dr, dk, dls, dg, adj, carry, scale,
    first, T, head, kc, vc,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, SCALED: tl.constexpr,
    PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of what is written in a chunk, l and k, and of its decays.

    Returns the adjoint of the state before it, and what log decays gather until there.
    """
    a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
    qt = load_rows(q, first, T, H, head, kc, K, C)
    rt = load_rows(r, first, T, H, head, kc, K, C)
    dot = load_rows(do, first, T, H, head, vc, V, C)
    dot = (dot.to(tl.float32) * scale).to(dot.dtype)
    dyt = load_rows(dy, first, T, H, head, vc, V, C)
    dyt = (dyt * load_scales(rs, first, T, H, head, C, SCALED)[:, None]).to(dyt.dtype)
    xt = load_rows(x, first, T, H, head, vc, V, C)
    lt, kt, vt, p, m, pk, mk = products_of(
        l, k, v, xt, dot, dyt, first, T, head, kc, vc, H, K, V, C, PLAIN, PRECISION
    )
    dlt, dkt, since, until, ahead = collected_all(
        p, m, pk, mk, qt, rt, a, PLAIN, DECAY, GROUP, PRECISION
    )
    dlt += until * through(xt, adj, PRECISION)
    if SCALED:
        store_scalars(dls, tl.sum(dlt * lt, axis=1), first, T, H, head, C)
        dlt *= load_scales(ls, first, T, H, head, C, SCALED)[:, None]
    store_rows(dl, dlt, first, T, H, head, kc, K, C)
    left = lt * dlt
    if PLAIN:
        dkt += until * through(vt, adj, PRECISION)
        store_rows(dk, dkt, first, T, H, head, kc, K, C)
        left += kt * dkt
    if DECAY != "none":
        carry = delta_decays(
            qt, rt, left, dq, dr, dg, carry, first, T, head, kc, H, K, C, DECAY, GROUP
        )
    adj = write(adj, whole(since), qt, dot, since, DECAY, PRECISION)
    ones = tl.full([1], 1.0, tl.float32)
    return write(adj, ones, rt, dyt, ahead, DECAY, PRECISION), carry


@triton.jit
def delta_decays(
    qt, rt, left, dq, dr, dg, carry, first, T, head, kc,
    H: tl.constexpr, K: tl.constexpr, C: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Gradients of the log decays of a chunk, and what those before it gather.

    What a step reads before its own decay says nothing of it.
    """
    own = rt.to(tl.float32) * load_rows(dr, first, T, H, head, kc, K, C)
    change = qt.to(tl.float32) * load_rows(dq, first, T, H, head, kc, K, C)
    change += own - left
    if DECAY == "channel":
        dgt = carry[None, :] + tl.cumsum(change, axis=0, reverse=True)
        dgt -= gathered_rows(own, GROUP)
        store_rows(dg, dgt, first, T, H, head, kc, K, C)
        return carry + tl.sum(change, axis=0)
    else:
        changes, owns = tl.sum(change, axis=1), tl.sum(own, axis=1)
        dgs = carry + tl.cumsum(changes, reverse=True) - gathered(owns, GROUP)
        store_scalars(dg, dgs, first, T, H, head, C)
        return carry + tl.sum(changes)
