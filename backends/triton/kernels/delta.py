"""Delta rules: S[t] = a[t] S[t-1] + l[t] x[t]^T + k[t] v[t]^T, x[t] = y[t] + S[t-1]^T r[t].

What is read is o = S^T q. With OWN there is a `y`, with PLAIN there are `k` and `v`.

In a chunk x = T (y + R S), where S is the state before it and T is the inverse of a unit
lower triangular matrix (the WY form of Yang et al. 2024, "Parallelizing linear
transformers with the delta rule over sequence length"). A step may be several rows
(GROUP, see `decays.py`), whose writes all erase what was there before it. Segments of a
sequence run side by side: what one does to any state is a matrix, found by running it on the identity.
`ls` and `rs` (SCALED) are a number for each row that `l` and `r` are multiplied with.
"""

import triton
import triton.language as tl

from seqdsl.backends.triton.kernels.decays import (
    decays,
    diagonal,
    doublings,
    joined,
    spans,
    whole,
)
from seqdsl.backends.triton.kernels.pairs import all_scores
from seqdsl.backends.triton.kernels.rows import (
    load_logs,
    load_rows,
    load_scalars,
    load_state,
    read,
    store_rows,
    store_state,
    write,
)


@triton.jit
def load_scales(x, first, T, heads, head, C: tl.constexpr, SCALED: tl.constexpr):
    """Numbers for the rows, 1 without any."""
    if SCALED:
        return load_scalars(x, first, T, heads, head, C)
    else:
        return tl.full([C], 1.0, tl.float32)


@triton.jit
def within(x, part, first, T, heads, head, C: tl.constexpr, W: tl.constexpr):
    """A matrix between the steps of a chunk, of those that `delta_inverse` stores."""
    column = part * C + tl.arange(0, C)
    return load_rows(x, first, T, heads, head, column, W, C)


@triton.jit
def delta_inverse(
    q, l, r, ls, rs, k, g, inner, T,
    H: tl.constexpr, K: tl.constexpr, BK: tl.constexpr, C: tl.constexpr, W: tl.constexpr,
    SCALED: tl.constexpr, PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr,
    PRECISION: tl.constexpr, SOLVE: tl.constexpr,
):  # fmt: skip
    """Of every chunk: T, and what queries read of what is written in it.

    With PLAIN also what of plain writes comes into x, and what queries read of them.
    """
    bh, first = tl.program_id(0), tl.program_id(1) * C
    b, head = (bh // H).to(tl.int64), bh % H
    keys, rows = b * T * H * K, b * T * H
    logs = keys if DECAY == "channel" else rows
    row = tl.arange(0, C)
    ql = tl.zeros([C, C], tl.float32)
    rl, qk, rk = ql, ql, ql
    for block in range(tl.cdiv(K, BK)):
        kc = block * BK + tl.arange(0, BK)
        a = decays(load_logs(g + logs, first, T, H, head, kc, K, C, DECAY), DECAY)
        qt = load_rows(q + keys, first, T, H, head, kc, K, C)
        lt = load_rows(l + keys, first, T, H, head, kc, K, C)
        rt = load_rows(r + keys, first, T, H, head, kc, K, C)
        kt = load_rows(k + keys, first, T, H, head, kc, K, C) if PLAIN else lt
        by = all_scores(qt, rt, lt, kt, a, PLAIN, DECAY, GROUP, PRECISION)
        ql, rl, qk, rk = ql + by[0], rl + by[1], qk + by[2], rk + by[3]
    down = load_scales(rs + rows, first, T, H, head, C, SCALED)[:, None]
    along = load_scales(ls + rows, first, T, H, head, C, SCALED)[None, :]
    found = inverted(rl * down * along, SOLVE)
    inner += rows * W
    store_rows(inner, found, first, T, H, head, row, W, C)
    store_rows(inner, ql, first, T, H, head, C + row, W, C)
    if PLAIN:
        made = tl.dot(found, rk * down, input_precision=SOLVE)
        store_rows(inner, made, first, T, H, head, 2 * C + row, W, C)
        store_rows(inner, qk, first, T, H, head, 3 * C + row, W, C)


@triton.jit
def inverted(m, SOLVE: tl.constexpr):
    """1 / (1 - m) of a strictly lower triangular matrix: that of two blocks makes both."""
    C: tl.constexpr = m.shape[0]
    found = tl.where(diagonal(C), 1.0, 0.0)
    for n in tl.static_range(doublings(C)):
        part = tl.where(joined(C, 1 << n), m, 0.0)
        part = tl.dot(part, found, input_precision=SOLVE)
        found += tl.dot(found, part, input_precision=SOLVE)
    return found


@triton.jit
def delta_segments(
    l, r, ls, rs, y, k, v, g, inner, added, moved, T, length, segments,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, W: tl.constexpr, SCALED: tl.constexpr,
    OWN: tl.constexpr, PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """What every segment makes of the state 0, and of the identity."""
    parts: tl.constexpr = tl.cdiv(V, BV) + tl.cdiv(K, BV)
    part, bh, n = tl.program_id(0) % parts, tl.program_id(0) // parts, tl.program_id(1)
    b, head = (bh // H).to(tl.int64), bh % H
    own = part < tl.cdiv(V, BV)
    block = tl.where(own, part, part - tl.cdiv(V, BV))
    kc, vc = tl.arange(0, BK), block * BV + tl.arange(0, BV)
    l, r = l + b * T * H * K, r + b * T * H * K
    g += b * T * H * (K if DECAY == "channel" else 1)
    ls, rs = ls + b * T * H, rs + b * T * H
    inner += b * T * H * W
    y, k, v = y + b * T * H * V, k + b * T * H * K, v + b * T * H * V
    other = part >= tl.cdiv(V, BV)
    state = tl.where((kc[:, None] == vc[None, :]) & other, 1.0, 0.0)
    known = tl.where(own, T, 0)
    steps = tl.cdiv(tl.minimum(length, T - n * length), C)
    for i in range(steps):
        first = n * length + i * C
        state = passed(
            l, r, ls, rs, y, k, v, g, inner, state, first, T, known, head, kc, vc,
            H, K, V, C, W, SCALED, OWN, PLAIN, DECAY, GROUP, PRECISION,
        )  # fmt: skip
    at = bh.to(tl.int64) * segments + n
    if own:
        store_state(added, at, state, kc, vc, K, V)
    else:
        store_state(moved, at, state, kc, vc, K, K)


@triton.jit
def passed(
    l, r, ls, rs, y, k, v, g, inner, state, first, T, known, head, kc, vc,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, W: tl.constexpr, SCALED: tl.constexpr,
    OWN: tl.constexpr, PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The state after a chunk; values are 0 from step `known` on."""
    a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
    since, until, ahead = spans(a, DECAY, GROUP)
    kept = whole(since)
    x = erased(
        r, rs, y, v, inner, state, ahead, first, T, known, head, kc, vc,
        H, K, V, C, W, SCALED, OWN, PLAIN, DECAY, PRECISION,
    )  # fmt: skip
    return written(
        l, ls, k, v, x, state, kept, until, first, T, known, head, kc, vc,
        H, K, V, C, SCALED, PLAIN, DECAY, PRECISION,
    )  # fmt: skip


@triton.jit
def erased(
    r, rs, y, v, inner, state, ahead, first, T, known, head, kc, vc,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, W: tl.constexpr, SCALED: tl.constexpr,
    OWN: tl.constexpr, PLAIN: tl.constexpr, DECAY: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """x of a chunk: what is written, after what is erased."""
    rt = load_rows(r, first, T, H, head, kc, K, C)
    x = read(rt, ahead, state, DECAY, PRECISION)
    x *= load_scales(rs, first, T, H, head, C, SCALED)[:, None]
    if OWN:
        x += load_rows(y, first, known, H, head, vc, V, C)
    found = within(inner, 0, first, T, H, head, C, W)
    x = tl.dot(found, x.to(found.dtype), input_precision=PRECISION)
    if PLAIN:
        vt = load_rows(v, first, known, H, head, vc, V, C)
        more = within(inner, 2, first, T, H, head, C, W)
        x += tl.dot(more.to(vt.dtype), vt, input_precision=PRECISION)
    return x


@triton.jit
def written(
    l, ls, k, v, x, state, kept, until, first, T, known, head, kc, vc,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, SCALED: tl.constexpr,
    PLAIN: tl.constexpr, DECAY: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The state after a chunk whose x is known; `kept` is the product of its decays."""
    x *= load_scales(ls, first, T, H, head, C, SCALED)[:, None]
    lt = load_rows(l, first, T, H, head, kc, K, C)
    state = write(state, kept, lt, x.to(lt.dtype), until, DECAY, PRECISION)
    if PLAIN:
        kt = load_rows(k, first, T, H, head, kc, K, C)
        vt = load_rows(v, first, known, H, head, vc, V, C)
        ones = tl.full([1], 1.0, tl.float32)
        state = write(state, ones, kt, vt, until, DECAY, PRECISION)
    return state


@triton.jit
def delta_states(
    initial, added, moved, states, segments,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
    ADJOINT: tl.constexpr, INITIAL: tl.constexpr, SOLVE: tl.constexpr,
):  # fmt: skip
    """The state before every segment; ADJOINT: the adjoint of the state after each.

    A program goes from segment to segment and reads what it wrote itself, a block of rows
    at a time.
    """
    parts: tl.constexpr = tl.cdiv(V, BV)
    part, bh = tl.program_id(0) % parts, (tl.program_id(0) // parts).to(tl.int64)
    vc = part * BV + tl.arange(0, BV)
    now = bh * segments + (segments - 1 if ADJOINT else 0)
    for block in range(tl.cdiv(K, BK)):
        rows = block * BK + tl.arange(0, BK)
        state = tl.zeros([BK, BV], tl.float32)
        if INITIAL:
            state = load_state(initial, bh, rows, vc, K, V)
        store_state(states, now, state, rows, vc, K, V)
    for _ in range(segments - 1):
        then = now - 1 if ADJOINT else now + 1
        tl.debug_barrier()
        for block in range(tl.cdiv(K, BK)):
            rows = block * BK + tl.arange(0, BK)
            state = load_state(added, now, rows, vc, K, V)
            for other in range(tl.cdiv(K, BK)):
                kc = other * BK + tl.arange(0, BK)
                if ADJOINT:
                    matrix = tl.trans(load_state(moved, now, kc, rows, K, K))
                else:
                    matrix = load_state(moved, now, rows, kc, K, K)
                before = load_state(states, now, kc, vc, K, V)
                state += tl.dot(matrix, before, input_precision=SOLVE)
            store_state(states, then, state, rows, vc, K, V)
        now = then


@triton.jit
def delta_forward(
    q, l, r, ls, rs, y, k, v, g, inner, states, o, final, scale, T, length, segments,
    H: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, W: tl.constexpr, SCALED: tl.constexpr,
    OWN: tl.constexpr, PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr,
    ENTER: tl.constexpr, FINAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The outputs of one segment; the last one stores the state after it."""
    parts: tl.constexpr = tl.cdiv(V, BV)
    part, bh, n = tl.program_id(0) % parts, tl.program_id(0) // parts, tl.program_id(1)
    b, head = (bh // H).to(tl.int64), bh % H
    kc, vc = tl.arange(0, BK), part * BV + tl.arange(0, BV)
    q, l, r = q + b * T * H * K, l + b * T * H * K, r + b * T * H * K
    y, k, v = y + b * T * H * V, k + b * T * H * K, v + b * T * H * V
    g += b * T * H * (K if DECAY == "channel" else 1)
    ls, rs = ls + b * T * H, rs + b * T * H
    inner += b * T * H * W
    o += b * T * H * V
    if ENTER:
        state = load_state(states, bh.to(tl.int64) * segments + n, kc, vc, K, V)
    else:
        state = tl.zeros([BK, BV], tl.float32)
    for i in range(tl.cdiv(tl.minimum(length, T - n * length), C)):
        first = n * length + i * C
        a = decays(load_logs(g, first, T, H, head, kc, K, C, DECAY), DECAY)
        since, until, ahead = spans(a, DECAY, GROUP)
        kept = whole(since)
        qt = load_rows(q, first, T, H, head, kc, K, C)
        out = read(qt, since, state, DECAY, PRECISION)
        x = erased(
            r, rs, y, v, inner, state, ahead, first, T, T, head, kc, vc,
            H, K, V, C, W, SCALED, OWN, PLAIN, DECAY, PRECISION,
        )  # fmt: skip
        shown = x * load_scales(ls, first, T, H, head, C, SCALED)[:, None]
        ql = within(inner, 1, first, T, H, head, C, W)
        out += tl.dot(ql, shown.to(ql.dtype), input_precision=PRECISION)
        if PLAIN:
            vt = load_rows(v, first, T, H, head, vc, V, C)
            qk = within(inner, 3, first, T, H, head, C, W)
            out += tl.dot(qk.to(vt.dtype), vt, input_precision=PRECISION)
        store_rows(o, out * scale, first, T, H, head, vc, V, C)
        state = written(
            l, ls, k, v, x, state, kept, until, first, T, T, head, kc, vc,
            H, K, V, C, SCALED, PLAIN, DECAY, PRECISION,
        )  # fmt: skip
    if FINAL and n == segments - 1:
        store_state(final, bh.to(tl.int64), state, kc, vc, K, V)
