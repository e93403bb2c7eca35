"""States from chunk to chunk: all that has to wait in a chunkwise form.

S[c + 1] = total S[c] + added + into x, x = known + pulled S[c]. Several states lie one
below another; `total` is then a matrix over them for all rows of a state, or for each. The
gradient is the same from the end: `total` is turned, `pulled` and `into` change places.
"""

import triton
import triton.language as tl


@triton.jit
def placed(state, n, row, vc, rows, V: tl.constexpr):
    """Where the entries of state number `n` are."""
    return state + n * rows * V + row[:, None] * V + vc[None, :]


@triton.jit
def turned_states(
    state, total, n,
    N: tl.constexpr, K: tl.constexpr, W: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ADJOINT: tl.constexpr,
):  # fmt: skip
    """`total` times the states, those of one after those of another."""
    BV: tl.constexpr = state.shape[1]
    to, k = tl.arange(0, BN)[:, None], tl.arange(0, BK)[None, :]
    apart = tl.reshape(state, [BN, BK, BV])
    made = tl.zeros([BN, BK, BV], tl.float32)
    for source in tl.static_range(N):
        here = (tl.arange(0, BN) == source)[:, None, None]
        one = tl.sum(tl.where(here, apart, 0.0), axis=0)
        pair = source * N + to if ADJOINT else to * N + source
        at = (n * N * N + pair) * W + (k if W > 1 else 0 * k)
        left = tl.load(total + at, mask=(to < N) & (k < K), other=0.0)
        made += left[:, :, None] * one[None, :, :]
    return tl.reshape(made, [BN * BK, BV])


@triton.jit
def left_over(
    state, total, n,
    N: tl.constexpr, K: tl.constexpr, W: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ADJOINT: tl.constexpr,
):  # fmt: skip
    """What a chunk leaves of the states; W is how many numbers say that, 0 that all is."""
    if W == 0:
        return state
    elif N > 1:
        return turned_states(state, total, n, N, K, W, BN, BK, ADJOINT)
    else:
        k = tl.arange(0, BK)
        left = tl.load(total + n * W + (k if W > 1 else 0 * k), mask=k < K, other=0.0)
        return state * left[:, None]


@triton.jit
def chunk_passes(
    first, total, added, known, pulled, into, before, written, last, count,
    pulled_n, pulled_e, pulled_k, into_n, into_k, into_e,
    N: tl.constexpr, K: tl.constexpr, W: tl.constexpr, E: tl.constexpr, V: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, BE: tl.constexpr, BV: tl.constexpr,
    ADDED: tl.constexpr, KNOWN: tl.constexpr, ADJOINT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The states before each chunk and after the last, and what erases write."""
    parts: tl.constexpr = tl.cdiv(V, BV)
    part, i = tl.program_id(0) % parts, (tl.program_id(0) // parts).to(tl.int64)
    many = tl.num_programs(0) // parts
    vc, place = part * BV + tl.arange(0, BV), tl.arange(0, BN * BK)
    row, there = place // BK * K + place % BK, (place // BK < N) & (place % BK < K)
    inside = there[:, None] & (vc < V)[None, :]
    state = tl.load(placed(first, i, row, vc, N * K, V), mask=inside, other=0.0)
    for step in range(count):
        n = i + (count - 1 - step if ADJOINT else step) * many
        tl.store(placed(before, n, row, vc, N * K, V), state, mask=inside)
        now = left_over(state, total, n, N, K, W, BN, BK, ADJOINT)
        if ADDED:
            now += tl.load(placed(added, n, row, vc, N * K, V), mask=inside, other=0.0)
        for block in range(tl.cdiv(E, BE)):
            e = block * BE + tl.arange(0, BE)
            wrote = (e < E)[:, None] & (vc < V)[None, :]
            at = pulled + n * pulled_n + e[:, None] * pulled_e + row[None, :] * pulled_k
            seen = tl.load(at, mask=(e < E)[:, None] & there[None, :], other=0.0)
            x = tl.dot(seen, state, input_precision=PRECISION)
            if KNOWN:
                x += tl.load(placed(known, n, e, vc, E, V), mask=wrote, other=0.0)
            tl.store(placed(written, n, e, vc, E, V), x, mask=wrote)
            at = into + n * into_n + row[:, None] * into_k + e[None, :] * into_e
            to = tl.load(at, mask=there[:, None] & (e < E)[None, :], other=0.0)
            now += tl.dot(to, x, input_precision=PRECISION)
        state = now
    tl.store(placed(last, i, row, vc, N * K, V), state, mask=inside)
