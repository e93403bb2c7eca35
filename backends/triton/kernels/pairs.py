"""Products between the steps of a chunk for two who read and two who write, in one go.

Queries `q` read after a step's own decay, `r` before it; `l` and (with PLAIN) `k` are
written to. Decays are multiplied once for all of them; `decays.py` says how, and what
GROUP is: rows of the same step do not read each other through `r`.
"""

import triton
import triton.language as tl

from seqdsl.backends.triton.kernels.decays import (
    between,
    diagonal,
    doubled,
    doublings,
    earlier,
    joined,
    single,
    upper,
)


@triton.jit
def multiplied(x, y, PRECISION: tl.constexpr):
    """x y^T."""
    return tl.dot(x, tl.trans(y), input_precision=PRECISION)


@triton.jit
def all_scores(
    q, r, l, k, a,
    PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Products (`scores`) of q and, before a step's own decay, of r: with l, then with k."""
    C: tl.constexpr = q.shape[0]
    ql, rl = multiplied(q, l, PRECISION), multiplied(r, l, PRECISION)
    qk, rk = ql, rl
    if PLAIN:
        qk, rk = multiplied(q, k, PRECISION), multiplied(r, k, PRECISION)
    if DECAY == "channel":
        ql, qk = tl.where(diagonal(C), ql, 0.0), tl.where(diagonal(C), qk, 0.0)
        rl, rk = tl.zeros([C, C], tl.float32), tl.zeros([C, C], tl.float32)
        since, until, ahead = single(a)
        for n in tl.static_range(doublings(C)):
            pairs = joined(C, 1 << n)
            qf, rf = (q * since).to(q.dtype), (r * ahead).to(r.dtype)
            lf = (l * until).to(l.dtype)
            ql = tl.where(pairs, multiplied(qf, lf, PRECISION), ql)
            rl = tl.where(pairs, multiplied(rf, lf, PRECISION), rl)
            if PLAIN:
                kf = (k * until).to(k.dtype)
                qk = tl.where(pairs, multiplied(qf, kf, PRECISION), qk)
                rk = tl.where(pairs, multiplied(rf, kf, PRECISION), rk)
            since, until, ahead = doubled(since, until, ahead, 1 << n, GROUP)
        rl, rk = apart(rl, GROUP), apart(rk, GROUP)
    else:
        products, _, _, _ = between(a, False)
        before, _, _, _ = between(a, True, GROUP)
        ql, qk, rl, rk = ql * products, qk * products, rl * before, rk * before
    return ql, rl, qk, rk


@triton.jit
def apart(m, GROUP: tl.constexpr):
    """m without the pairs of rows of the same step."""
    if GROUP == 1:
        return m
    else:
        return tl.where(earlier(m.shape[0], GROUP), m, 0.0)


@triton.jit
def taken(p, l, pk, k, PLAIN: tl.constexpr, PRECISION: tl.constexpr):
    """p l, and pk k as well."""
    y = tl.dot(p.to(l.dtype), l, input_precision=PRECISION)
    if PLAIN:
        y += tl.dot(pk.to(k.dtype), k, input_precision=PRECISION)
    return y


@triton.jit
def spread_all(
    p, m, l, pk, mk, k, a,
    PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums of `spread`: of p over l and pk over k; (before) of m over l and mk over k."""
    C: tl.constexpr = l.shape[0]
    if DECAY == "channel":
        own, m, mk = diagonal(C), apart(m, GROUP), apart(mk, GROUP)
        by_q = taken(
            tl.where(own, p, 0.0), l, tl.where(own, pk, 0.0), k, PLAIN, PRECISION
        )
        by_r = tl.zeros(by_q.shape, tl.float32)
        since, until, ahead = single(a)
        for n in tl.static_range(doublings(C)):
            high, pairs = upper(C, 1 << n), joined(C, 1 << n)
            lf, kf = (l * until).to(l.dtype), (k * until).to(k.dtype)
            moved = taken(
                tl.where(pairs, p, 0.0),
                lf,
                tl.where(pairs, pk, 0.0),
                kf,
                PLAIN,
                PRECISION,
            )
            by_q += tl.where(high, moved * since, 0.0)
            moved = taken(
                tl.where(pairs, m, 0.0),
                lf,
                tl.where(pairs, mk, 0.0),
                kf,
                PLAIN,
                PRECISION,
            )
            by_r += tl.where(high, moved * ahead, 0.0)
            since, until, ahead = doubled(since, until, ahead, 1 << n, GROUP)
    else:
        products, since, until, ahead = between(a, False, GROUP)
        by_q = taken(p * products, l, pk * products, k, PLAIN, PRECISION)
        before, _, _, _ = between(a, True, GROUP)
        by_r = taken(m * before, l, mk * before, k, PLAIN, PRECISION)
    return by_q, by_r, since, until, ahead


@triton.jit
def turned(p, q, m, r, PRECISION: tl.constexpr):
    """p^T q + m^T r."""
    y = tl.dot(tl.trans(p.to(q.dtype)), q, input_precision=PRECISION)
    return y + tl.dot(tl.trans(m.to(r.dtype)), r, input_precision=PRECISION)


@triton.jit
def collected_all(
    p, m, pk, mk, q, r, a,
    PLAIN: tl.constexpr, DECAY: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums of `collected`: of p over q and (before) m over r; the same of pk and mk."""
    C: tl.constexpr = q.shape[0]
    if DECAY == "channel":
        own, none = diagonal(C), tl.zeros([C, C], tl.float32)
        m, mk = apart(m, GROUP), apart(mk, GROUP)
        by_l = turned(tl.where(own, p, 0.0), q, none, r, PRECISION)
        by_k = by_l
        if PLAIN:
            by_k = turned(tl.where(own, pk, 0.0), q, none, r, PRECISION)
        since, until, ahead = single(a)
        for n in tl.static_range(doublings(C)):
            low, pairs = upper(C, 1 << n) == 0, joined(C, 1 << n)
            qf, rf = (q * since).to(q.dtype), (r * ahead).to(r.dtype)
            moved = turned(
                tl.where(pairs, p, 0.0), qf, tl.where(pairs, m, 0.0), rf, PRECISION
            )
            by_l += tl.where(low, until * moved, 0.0)
            if PLAIN:
                moved = turned(
                    tl.where(pairs, pk, 0.0),
                    qf,
                    tl.where(pairs, mk, 0.0),
                    rf,
                    PRECISION,
                )
                by_k += tl.where(low, until * moved, 0.0)
            since, until, ahead = doubled(since, until, ahead, 1 << n, GROUP)
    else:
        products, since, until, ahead = between(a, False, GROUP)
        before, _, _, _ = between(a, True, GROUP)
        by_l = turned(p * products, q, m * before, r, PRECISION)
        by_k = by_l
        if PLAIN:
            by_k = turned(pk * products, q, mk * before, r, PRECISION)
    return by_l, by_k, since, until, ahead
