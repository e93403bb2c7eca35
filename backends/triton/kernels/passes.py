"""States from chunk to chunk: all that has to wait in a chunkwise form.

S[c + 1] = total S[c] + added + into x, x = known + pulled S[c]. Several states lie one
below another; `total` is then a matrix over them for all rows of a state, or for each. The
gradient is the same from the end: `total` is turned, `pulled` and `into` change places.
A program reads what it wrote itself, a block at a time, so that states may be of any size.
"""

import triton
import triton.language as tl


@triton.jit
def placed(x, n, row, vc, rows, V: tl.constexpr):
    """Where rows of matrix number `n` are, of `rows` by V."""
    return x + (n * rows + row)[:, None] * V + vc[None, :]


@triton.jit
def left_over(
    before, total, n, to, k, vc,
    N: tl.constexpr, K: tl.constexpr, W: tl.constexpr, V: tl.constexpr, ADJOINT: tl.constexpr,
):  # fmt: skip
    """Rows `k` of state `to` after a chunk; W numbers say what is left, 0 that all is."""
    inside = (k < K)[:, None] & (vc < V)[None, :]
    if W == 0:
        return tl.load(placed(before, n, to * K + k, vc, N * K, V), inside, 0.0)
    else:
        made = tl.zeros([k.shape[0], vc.shape[0]], tl.float32)
        for source in range(N):
            pair = source * N + to if ADJOINT else to * N + source
            at = (n * N * N + pair) * W + (k if W > 1 else 0 * k)
            left = tl.load(total + at, mask=k < K, other=0.0)
            there = placed(before, n, source * K + k, vc, N * K, V)
            made += left[:, None] * tl.load(there, mask=inside, other=0.0)
        return made


@triton.jit
def erases_written(
    before, known, pulled, written, n, e, vc, pulled_n, pulled_e, pulled_k,
    R: tl.constexpr, E: tl.constexpr, V: tl.constexpr, BK: tl.constexpr,
    KNOWN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Stores what erases `e` write in a chunk."""
    columns = (vc < V)[None, :]
    inside = (e < E)[:, None] & columns
    x = tl.zeros([e.shape[0], vc.shape[0]], tl.float32)
    if KNOWN:
        x += tl.load(placed(known, n, e, vc, E, V), mask=inside, other=0.0)
    for block in range(tl.cdiv(R, BK)):
        row = block * BK + tl.arange(0, BK)
        at = pulled + n * pulled_n + e[:, None] * pulled_e + row[None, :] * pulled_k
        seen = tl.load(at, mask=(e < E)[:, None] & (row < R)[None, :], other=0.0)
        there = placed(before, n, row, vc, R, V)
        state = tl.load(there, mask=(row < R)[:, None] & columns, other=0.0)
        x += tl.dot(seen, state, input_precision=PRECISION)
    tl.store(placed(written, n, e, vc, E, V), x, mask=inside)


@triton.jit
def after_chunk(
    before, total, added, into, written, n, to, k, vc, into_n, into_k, into_e,
    N: tl.constexpr, K: tl.constexpr, W: tl.constexpr, E: tl.constexpr, V: tl.constexpr,
    BE: tl.constexpr, ADDED: tl.constexpr, ADJOINT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Rows `k` of state `to` after a chunk whose erases have written."""
    columns = (vc < V)[None, :]
    now = left_over(before, total, n, to, k, vc, N, K, W, V, ADJOINT)
    if ADDED:
        more = placed(added, n, to * K + k, vc, N * K, V)
        now += tl.load(more, mask=(k < K)[:, None] & columns, other=0.0)
    for block in range(tl.cdiv(E, BE)):
        e = block * BE + tl.arange(0, BE)
        at = into + n * into_n + (to * K + k)[:, None] * into_k + e[None, :] * into_e
        sides = tl.load(at, mask=(k < K)[:, None] & (e < E)[None, :], other=0.0)
        there = placed(written, n, e, vc, E, V)
        x = tl.load(there, mask=(e < E)[:, None] & columns, other=0.0)
        now += tl.dot(sides, x, input_precision=PRECISION)
    return now


@triton.jit
def chunk_passes(
    first, total, added, known, pulled, into, before, written, last, count,
    pulled_n, pulled_e, pulled_k, into_n, into_k, into_e,
    N: tl.constexpr, K: tl.constexpr, W: tl.constexpr, E: tl.constexpr, V: tl.constexpr,
    BK: tl.constexpr, BE: tl.constexpr, BV: tl.constexpr,
    ADDED: tl.constexpr, KNOWN: tl.constexpr, ADJOINT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The states before each chunk and after the last, and what erases write."""
    parts: tl.constexpr = tl.cdiv(V, BV)
    part, i = tl.program_id(0) % parts, (tl.program_id(0) // parts).to(tl.int64)
    many, vc = tl.num_programs(0) // parts, part * BV + tl.arange(0, BV)
    blocks: tl.constexpr = (K + BK - 1) // BK  # tl.cdiv is no constant to Triton 3.6
    n = i + ((count - 1) * many if ADJOINT else 0)
    for block in range(N * blocks):
        to, k = block // blocks, block % blocks * BK + tl.arange(0, BK)
        row, inside = to * K + k, (k < K)[:, None] & (vc < V)[None, :]
        state = tl.load(placed(first, i, row, vc, N * K, V), mask=inside, other=0.0)
        tl.store(placed(before, n, row, vc, N * K, V), state, mask=inside)
    for step in range(count):
        tl.debug_barrier()
        for block in range(tl.cdiv(E, BE)):
            erases_written(
                before, known, pulled, written, n, block * BE + tl.arange(0, BE), vc,
                pulled_n, pulled_e, pulled_k, N * K, E, V, BK, KNOWN, PRECISION,
            )  # fmt: skip
        tl.debug_barrier()
        then = n - many if ADJOINT else n + many
        for block in range(N * blocks):
            to, k = block // blocks, block % blocks * BK + tl.arange(0, BK)
            row, inside = to * K + k, (k < K)[:, None] & (vc < V)[None, :]
            now = after_chunk(
                before, total, added, into, written, n, to, k, vc, into_n, into_k, into_e,
                N, K, W, E, V, BE, ADDED, ADJOINT, PRECISION,
            )  # fmt: skip
            if step + 1 < count:
                tl.store(placed(before, then, row, vc, N * K, V), now, mask=inside)
            else:
                tl.store(placed(last, i, row, vc, N * K, V), now, mask=inside)
        n = then
