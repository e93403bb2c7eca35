"""Matrix states by chunks: products of vectors instead of a state for every step."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunks import _apart, _Steps
from seqdsl.backends.torch.carried.stretches import _stretch

__all__ = ["_chunkwise", "_decay_grid", "_group_size", "_vectors"]


def _vectors(
    x: Tensor,
    lead: tuple[int, int],
    copies: Sequence[int],
    inner: Sequence[int],
    entries: Sequence[int],
) -> Tensor:
    """`x` along batch, time and all these dimensions, as `[batch, time, copies, inner, entries]`."""
    sizes = [math.prod(d) for d in (copies, inner, entries)]
    return x.expand(*lead, *copies, *inner, *entries).reshape(*lead, *sizes)


def _decay_grid(lines: Sequence[Sequence[Tensor]]) -> Tensor:
    """Decays `[…, rows]` (or 1) of every state from every other, as one tensor."""
    many = max(x.shape[-1] for line in lines for x in line)
    stacked = [
        torch.stack([x.expand(*x.shape[:-1], many) for x in line], -2) for line in lines
    ]
    return torch.stack(stacked, -3)


def _chunkwise(
    decay: Tensor | None,
    right: Tensor | None,
    left: Tensor,
    value: Tensor,
    query: Tensor | None,
    first: Tensor,
    initial: Tensor | None,
    starts: Tensor | None,
    time: int,
    now: int,
    size: int,
    states: int = 1,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """What queries read of matrix states at every step, and the states at the end.

    A step makes `S = decay * S + left^T (value + right S)` of the matrix before it, with
    `left: [batch, time, copies, writes, rows]`, `value: […, writes, columns]` and
    `right: […, erases, rows]` for the first of the writes. `query: […, queries, rows]`
    reads the new matrix for the last `now` of the queries, for the others the old one.
    `decay: […, rows]` (or 1); for several `states`, whose rows then lie below one
    another, `[…, states, states, rows of one]`. Batch, time and copies may be 1 in any.
    `first: [batch, copies, rows, columns]` is the state to begin with and `initial` (None
    is 0) the one where a segment `starts`.

    In a chunk of `size` steps (rounded up to a power of 2) what the steps do to each
    other takes a few products of matrices and a triangular solve, the WY form of Yang et al. 2024,
    "Parallelizing linear transformers with the delta rule over sequence length"; decays
    may be any numbers. The gradient keeps the states between groups of chunks only and
    does the rest again.
    """
    batch, rows, columns = len(first), *first.shape[-2:]
    copies = math.prod(first.shape[1:-2])
    shape = (batch, time, copies)
    first = first.reshape(batch, copies, rows, columns)
    if right is None:
        right = left.new_zeros(1, 1, 1, 0, rows)
    if query is None:
        query = left.new_zeros(1, 1, 1, 0, rows)
    given = (decay, right, left, value, query)
    tensors = [None if x is None else x.expand(*shape, *x.shape[3:]) for x in given]
    dtype = first.dtype
    for x in (*tensors, initial):
        dtype = dtype if x is None else torch.promote_types(dtype, x.dtype)
    tensors, first = (
        [None if x is None else x.to(dtype) for x in tensors],
        first.to(dtype),
    )
    if starts is None:
        initial = None
    elif initial is not None:
        initial = initial.reshape(-1, copies, rows, columns).expand_as(first).to(dtype)
    if reverse:
        tensors = [None if x is None else x.flip(1) for x in tensors]
        starts = None if starts is None else starts.flip(1)
    if time == 0:
        return first.new_zeros(*shape, query.shape[3], columns), first
    size = 1 << (min(size, time) - 1).bit_length()
    how = _How(size, _group_size(size, batch * copies * rows), states, now)
    arguments = (*tensors, first, initial, starts, how)
    function: Any = _ByChunks
    run = _by_chunks if torch.compiler.is_compiling() else function.apply
    reads, last, _ = run(*arguments)
    return (reads.flip(1) if reverse else reads).to(dtype), last.to(dtype)


class _How(NamedTuple):
    """Steps in a chunk and in a group of chunks; states; reads of the new ones."""

    size: int
    group: int
    states: int
    now: int


def _group_size(size: int, width: int) -> int:
    """Steps that are worked on at once: as many chunks as keep their tensors small."""
    return size * max(1, (1 << 18) // max(1, size * width))


def _by_chunks(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Group after group: reads, the states at the end, and those before each group."""
    *tensors, state, initial, starts, how = arguments
    reads: list[Tensor] = []
    borders: list[Tensor] = []
    for begin in range(0, tensors[2].shape[1], how.group):
        borders.append(state)
        at = _Steps._make(_some([*tensors, starts], begin, how))
        out, state = _some_chunks(at, state, initial, how)
        reads.append(out)
    return torch.cat(reads, 1), state, torch.stack(borders)


def _some(tensors: Sequence[Any], begin: int, how: _How) -> list[Any]:
    """The steps of one group of those tensors that are there."""
    return [None if x is None else x[:, begin : begin + how.group] for x in tensors]


def _some_chunks(
    at: _Steps, state: Tensor, fresh: Tensor | None, how: _How
) -> tuple[Tensor, Tensor]:
    """Some chunks of `[batch, time, copies, …]`: their reads and the states after them."""
    batch, time, copies = at.left.shape[:3]
    pad = -time % how.size
    if at.start is not None:
        at = at._replace(start=at.start.unsqueeze(2).expand(-1, -1, copies))
    many = at.each(lambda x: _by_copy(x, pad))
    if many.decay is not None and pad:
        unit = many.decay.new_ones(1)
        if how.states > 1:
            unit = torch.diag_embed(unit.expand(how.states)).unsqueeze(-1)
        decay = many.decay[:, :time]
        unit = unit.expand(len(decay), pad, *decay.shape[2:])
        many = many._replace(decay=torch.cat([decay, unit], 1))
    begin = None if fresh is None else _single(fresh.flatten(0, 1))
    state = _single(state.flatten(0, 1))
    reads, state = _stretch(many, state, begin, how.size, how.states, how.now)
    reads = _apart(reads[:, :time], 0, batch, copies).transpose(1, 2)
    return reads, _apart(state, 0, batch, copies)


def _single(x: Tensor) -> Tensor:
    """Half precision as single: products are added up."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _by_copy(x: Tensor, pad: int) -> Tensor:
    """`[batch, time, copies, …]` as `[batch * copies, time, …]` and some steps of zeros."""
    x = _single(x.transpose(1, 2).flatten(0, 1))
    return torch.cat([x, x.new_zeros(len(x), pad, *x.shape[2:])], 1) if pad else x


class _ByChunks(torch.autograd.Function):
    """`_by_chunks` with a gradient that does each group again, the last one first."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _by_chunks(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        # The states before each group are an output, so that they have a gradient too.
        ctx.save_for_backward(*inputs[:8], output[2])
        ctx.save_for_forward(*inputs[:8])
        ctx.how = inputs[8]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        *tensors, _, initial, starts, borders = ctx.saved_tensors
        d_reads, d_state, d_borders = grads
        pieces: list[list[Tensor]] = [[] for x in tensors if x is not None]
        d_initial = None
        for i in reversed(range(len(borders))):
            begin = i * ctx.how.group
            at = [*_some(tensors, begin, ctx.how), borders[i], initial]
            start, d_out = _some([starts, d_reads], begin, ctx.how)
            run = _of_those_there(at, start, ctx.how)
            there = [x for x in at if x is not None]
            found = list(torch.func.vjp(run, *there)[1]((d_out, d_state)))
            if initial is not None:
                more = found.pop()
                d_initial = more if d_initial is None else d_initial + more
            d_state = found.pop() + d_borders[i]
            for piece, more in zip(pieces, found, strict=True):
                piece.insert(0, more)
        # One after another, so that pieces are let go of as they are joined.
        d_tensors = [
            None if x is None else torch.cat(pieces.pop(0), 1) for x in tensors
        ]
        return *d_tensors, d_state, d_initial, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        *at, starts = ctx.saved_tensors

        def run(*there: Tensor) -> Any:
            return _by_chunks(*_filled(at, there), starts, ctx.how)

        there = [(x, t) for x, t in zip(at, tangents, strict=False) if x is not None]
        moved = [torch.zeros_like(x) if t is None else t for x, t in there]
        return torch.func.jvp(run, tuple(x for x, _ in there), tuple(moved))[1]


def _filled(at: Sequence[Any], there: Sequence[Tensor]) -> list[Any]:
    """`there` in the places of `at` that are not None."""
    given = iter(there)
    return [None if x is None else next(given) for x in at]


def _of_those_there(at: Sequence[Any], start: Tensor | None, how: _How) -> Any:
    """`_some_chunks` as a function of those of its tensors that are there."""

    def run(*there: Tensor) -> tuple[Tensor, Tensor]:
        *tensors, state, fresh = _filled(at, there)
        return _some_chunks(_Steps._make((*tensors, start)), state, fresh, how)

    return run
