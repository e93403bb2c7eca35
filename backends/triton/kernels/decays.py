"""Products of decays between the steps of a chunk, exact for any decay from 0 to 1.

Decays come as logarithms. Those that a row shares are summed as logarithms; those of
every channel are multiplied, block by block of doubling length, so that no exponent is
ever positive and a decay of 0 stays 0. Nothing is divided by a decay.

A step may be GROUP rows (a power of 2), of which the first alone decays: what stands before
a step's own decay stands before all of its rows.
"""

import triton
import triton.language as tl


@triton.constexpr_function
def doublings(C):
    """How often a block of one row is doubled to be a chunk of `C`."""
    return C.bit_length() - 1


@triton.jit
def decays(g, DECAY: tl.constexpr):
    """What the other functions take: decays of channels themselves, else logarithms."""
    return tl.exp(g) if DECAY == "channel" else g


@triton.jit
def spans(a, DECAY: tl.constexpr, GROUP: tl.constexpr = 1):
    """Products of the decays from the chunk's start through each row, of those after
    each row, and of those before its step."""
    if DECAY == "channel":
        C: tl.constexpr = a.shape[0]
        since, until, ahead = single(a)
        for n in tl.static_range(doublings(C)):
            since, until, ahead = doubled(since, until, ahead, 1 << n, GROUP)
    else:
        _, since, until, ahead = between(a, False, GROUP)
    return since, until, ahead


@triton.jit
def whole(since):
    """The product over the chunk, a value for each channel (or one)."""
    row = tl.arange(0, since.shape[0])[:, None]
    return tl.sum(tl.where(row == since.shape[0] - 1, since, 0.0), axis=0)


@triton.jit
def single(a):
    """`since`, `until` and `ahead` in blocks of one row."""
    return a, tl.full(a.shape, 1.0, tl.float32), tl.full(a.shape, 1.0, tl.float32)


@triton.jit
def doubled(since, until, ahead, HALF: tl.constexpr, GROUP: tl.constexpr = 1):
    """Products within blocks of 2 * HALF rows from those within blocks of HALF rows."""
    C: tl.constexpr = since.shape[0]
    K: tl.constexpr = since.shape[1]
    PAIR: tl.constexpr = 2 * HALF
    row = tl.arange(0, PAIR)[None, :, None]
    since = tl.reshape(since, [C // PAIR, PAIR, K])
    until = tl.reshape(until, [C // PAIR, PAIR, K])
    ahead = tl.reshape(ahead, [C // PAIR, PAIR, K])
    low = tl.sum(tl.where(row == HALF - 1, since, 0.0), axis=1)[:, None, :]
    high = tl.sum(tl.where(row == PAIR - 1, since, 0.0), axis=1)[:, None, :]
    since = tl.where(row >= HALF, since * low, since)
    until = tl.where(row >= HALF, until, until * high)
    if HALF >= GROUP:
        ahead = tl.where(row >= HALF, ahead * low, ahead)
    return (
        tl.reshape(since, [C, K]),
        tl.reshape(until, [C, K]),
        tl.reshape(ahead, [C, K]),
    )


@triton.jit
def upper(C: tl.constexpr, HALF: tl.constexpr):
    """Rows in the second half of their block of 2 * HALF."""
    return ((tl.arange(0, C) // HALF) % 2 == 1)[:, None]


@triton.jit
def joined(C: tl.constexpr, HALF: tl.constexpr):
    """Pairs of a row in the second half of a block and one in the first half of it."""
    i = tl.arange(0, C)
    same = (i // (2 * HALF))[:, None] == (i // (2 * HALF))[None, :]
    first = (i // HALF)[None, :] % 2 == 0
    return same & upper(C, HALF) & first


@triton.jit
def diagonal(C: tl.constexpr):
    """Pairs of a row with itself."""
    i = tl.arange(0, C)
    return i[:, None] == i[None, :]


@triton.jit
def earlier(C: tl.constexpr, GROUP: tl.constexpr):
    """Pairs of a row and one of an earlier step."""
    i = tl.arange(0, C) // GROUP
    return i[:, None] > i[None, :]


@triton.jit
def gathered(x, GROUP: tl.constexpr):
    """For every number of `x` [C], the sum of those of the same step."""
    C: tl.constexpr = x.shape[0]
    if GROUP == 1:
        return x
    else:
        sums = tl.sum(tl.reshape(x, [C // GROUP, GROUP]), axis=1)[:, None]
        return tl.reshape(tl.broadcast_to(sums, [C // GROUP, GROUP]), [C])


@triton.jit
def gathered_rows(x, GROUP: tl.constexpr):
    """For every row of `x` [C, K], the sum of those of the same step."""
    C: tl.constexpr = x.shape[0]
    K: tl.constexpr = x.shape[1]
    if GROUP == 1:
        return x
    else:
        sums = tl.sum(tl.reshape(x, [C // GROUP, GROUP, K]), axis=1)[:, None, :]
        return tl.reshape(tl.broadcast_to(sums, [C // GROUP, GROUP, K]), [C, K])


@triton.jit
def between(g, BEFORE: tl.constexpr, GROUP: tl.constexpr = 1):
    """exp of the sums of `g` [C] over the rows (j, i], 0 where j > i; and the spans.

    With BEFORE over the rows after j and before the step of i, 0 where j is not. Sums are
    exact to 1e-8 whatever the size of `g`: its multiples of 1/256 and the rest are summed
    apart. Below -80 a decay counts as 0.
    """
    C: tl.constexpr = g.shape[0]
    i = tl.arange(0, C)
    zero = g < -80.0
    g = tl.where(zero, 0.0, g)
    large = tl.floor(g * 256.0) / 256.0
    coarse, fine = tl.cumsum(large, axis=0), tl.cumsum(g - large, axis=0)
    zeros = tl.cumsum(zero.to(tl.int32), axis=0)
    coarse_1 = coarse - gathered(large, GROUP)
    fine_1 = fine - gathered(g - large, GROUP)
    zeros_1 = zeros - gathered(zero.to(tl.int32), GROUP)
    coarse_i = coarse_1 if BEFORE else coarse
    fine_i = fine_1 if BEFORE else fine
    zeros_i = zeros_1 if BEFORE else zeros
    below = earlier(C, GROUP) if BEFORE else i[:, None] >= i[None, :]
    linked = below & (zeros_i[:, None] == zeros[None, :])
    sums = (coarse_i[:, None] - coarse[None, :]) + (fine_i[:, None] - fine[None, :])
    products = tl.exp(tl.where(linked, sums, float("-inf")))
    left = tl.sum(tl.where(i == C - 1, coarse, 0.0), axis=0) - coarse
    left += tl.sum(tl.where(i == C - 1, fine, 0.0), axis=0) - fine
    since = tl.where(zeros == 0, tl.exp(coarse + fine), 0.0)
    until = tl.where(zeros == tl.max(zeros, axis=0), tl.exp(left), 0.0)
    ahead = tl.where(zeros_1 == 0, tl.exp(coarse_1 + fine_1), 0.0)
    return products, since[:, None], until[:, None], ahead[:, None]


@triton.jit
def scores(q, k, a, DECAY: tl.constexpr, PRECISION: tl.constexpr):
    """p[i, j]: the sum over channels of q[i] k[j] and the decays (j, i]; and the spans."""
    C: tl.constexpr = q.shape[0]
    p = tl.dot(q, tl.trans(k), input_precision=PRECISION)
    if DECAY == "channel":
        p = tl.where(diagonal(C), p, 0.0)
        since, until, ahead = single(a)
        for n in tl.static_range(doublings(C)):
            factor = tl.where(upper(C, 1 << n), since, until)
            left = (q * factor).to(q.dtype)
            right = tl.trans((k * factor).to(k.dtype))
            pair = tl.dot(left, right, input_precision=PRECISION)
            p = tl.where(joined(C, 1 << n), pair, p)
            since, until, ahead = doubled(since, until, ahead, 1 << n)
    else:
        products, since, until, ahead = between(a, False)
        p *= products
    return p, since, until, ahead


@triton.jit
def spread(p, x, a, DECAY: tl.constexpr, PRECISION: tl.constexpr):
    """y[i, c]: the sum over j <= i of p[i, j] x[j, c] and the decays (j, i] of c."""
    C: tl.constexpr = x.shape[0]
    if DECAY == "channel":
        own = tl.where(diagonal(C), p, 0.0).to(x.dtype)
        y = tl.dot(own, x, input_precision=PRECISION)
        since, until, ahead = single(a)
        for n in tl.static_range(doublings(C)):
            part = tl.where(joined(C, 1 << n), p, 0.0).to(x.dtype)
            moved = tl.dot(part, (x * until).to(x.dtype), input_precision=PRECISION)
            y += tl.where(upper(C, 1 << n), moved * since, 0.0)
            since, until, ahead = doubled(since, until, ahead, 1 << n)
    else:
        products, since, until, ahead = between(a, False)
        y = tl.dot((p * products).to(x.dtype), x, input_precision=PRECISION)
    return y, since, until, ahead


@triton.jit
def collected(p, x, a, DECAY: tl.constexpr, PRECISION: tl.constexpr):
    """y[j, c]: the sum over i >= j of p[i, j] x[i, c] and the decays (j, i] of c."""
    C: tl.constexpr = x.shape[0]
    if DECAY == "channel":
        own = tl.where(diagonal(C), p, 0.0).to(x.dtype)
        y = tl.dot(own, x, input_precision=PRECISION)
        since, until, ahead = single(a)
        for n in tl.static_range(doublings(C)):
            part = tl.trans(tl.where(joined(C, 1 << n), p, 0.0)).to(x.dtype)
            weighted = (x * since).to(x.dtype)
            moved = tl.dot(part, weighted, input_precision=PRECISION)
            y += tl.where(upper(C, 1 << n), 0.0, until * moved)
            since, until, ahead = doubled(since, until, ahead, 1 << n)
    else:
        products, since, until, ahead = between(a, False)
        y = tl.dot(tl.trans(p * products).to(x.dtype), x, input_precision=PRECISION)
    return y, since, until, ahead
