"""Matrix states by chunks: products of vectors instead of a state for every step."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunk_groups import (
    _FOR_GRADIENTS,
    _by_chunks,
    _group_size,
    _groups_back,
)
from seqdsl.backends.torch.carried.chunks import _Steps
from seqdsl.backends.torch.carried.group_order import _How

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
    into: Tensor | None,
    known: Tensor | None,
    left: Tensor | None,
    value: Tensor | None,
    old: Tensor | None,
    new: Tensor | None,
    first: Tensor,
    initial: Tensor | None,
    starts: Tensor | None,
    time: int,
    size: int,
    states: int = 1,
    reverse: bool = False,
    minus: bool = False,
) -> tuple[Tensor, Tensor]:
    """What queries read of matrix states at every step, and the states at the end.

    A step makes `S = decay * S + into^T (known + right S) + left^T value` of the matrix
    before it: erases have `right` and `into: [batch, time, copies, erases, rows]` and
    `known: […, erases, columns]` (None is 0), writes `left: […, writes, rows]` and
    `value: […, writes, columns]`. Queries `[…, queries, rows]` read the matrix before the
    step (`old`) and after it (`new`), in this order in the result. What is not there is
    None. `decay: […, rows]` (or 1); for several `states`, whose rows then lie below one
    another, `[…, states, states, rows of one]`. Batch, time and copies may be 1 in any.
    `first: [batch, copies, rows, columns]` is the state to begin with and `initial` (None
    is 0) the one where a segment `starts`. Erases are `known - right S` if `minus`.

    In a chunk of `size` steps (rounded up to a power of 2) what the steps do to each
    other takes a few products of matrices and the inverse of a triangular one, the WY form
    of Yang et al. 2024, "Parallelizing linear transformers with the delta rule over
    sequence length"; decays may be any numbers. The gradient keeps the states between
    chunks, and of what erases do at most as much; the rest is done again.
    """
    given = (decay, right, into, known, left, value, old, new)
    at, state, fresh = _spread(given, first, None if starts is None else initial, time)
    none = state.new_zeros(*state.shape[:1], time, *state.shape[1:2], 0, state.shape[3])
    if time == 0 or len(state) == 0:
        found = [x.new_zeros(*x.shape[:4], state.shape[3]) for x in at.queries()]
        return _together(found, none), state
    if reverse:
        at = at.each(lambda x: x.flip(1))
        starts = None if starts is None else starts.flip(1)
    size = 1 << (min(size, time) - 1).bit_length()
    width = math.prod(state.shape[:3])
    if state.is_cuda:
        width = -(-width // 128)  # there is room for more at once
    how = _How(size, _group_size(size, width), states, minus)
    function: Any = _ByChunks
    run = _by_chunks if torch.compiler.is_compiling() else function.apply
    with torch.autocast(state.device.type, enabled=False):  # all are of one dtype
        *found, last = run(*at[:8], state, fresh, starts, how)[:-_FOR_GRADIENTS]
    reads = _together(found, none)
    return reads.flip(1) if reverse else reads, last


def _spread(
    given: Sequence[Any], first: Tensor, initial: Tensor | None, time: int
) -> tuple[_Steps, Tensor, Tensor | None]:
    """Steps and states along batch and copies, in one dtype; at least no writes."""
    batch, rows, columns = len(first), *first.shape[-2:]
    copies = math.prod(first.shape[1:-2])
    lead = (batch, time, copies)
    dtype = _dtype([*given, first, initial])
    at = _Steps(*given).each(lambda x: x.expand(*lead, *x.shape[3:]).to(dtype))
    state = first.reshape(batch, copies, rows, columns).to(dtype)
    if initial is not None:
        initial = initial.reshape(-1, copies, rows, columns).expand_as(state).to(dtype)
    if not at.writers():
        sides = [state.new_zeros(*lead, 0, x) for x in (rows, columns)]
        at = at._replace(left=sides[0], value=sides[1])
    return at, state, initial


def _together(reads: Sequence[Tensor], none: Tensor) -> Tensor:
    """All reads as one tensor."""
    return torch.cat(list(reads), 3) if len(reads) > 1 else [*reads, none][0]


def _dtype(tensors: Sequence[Tensor | None]) -> torch.dtype:
    """One that holds them all."""
    found = [x.dtype for x in tensors if x is not None]
    dtype = found[0]
    for other in found:
        dtype = torch.promote_types(dtype, other)
    return dtype


# ---- As functions with a gradient


class _ByChunks(torch.autograd.Function):
    """`_by_chunks`, some of whose results are kept for the gradient alone."""

    @staticmethod
    def forward(*arguments: Any) -> Any:
        *given, how = arguments
        return _by_chunks(*given, how._replace(plain=False))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[-_FOR_GRADIENTS:])
        ctx.save_for_backward(*inputs[:-1], *output[-_FOR_GRADIENTS:])
        ctx.save_for_forward(*inputs[:-1])
        ctx.how, ctx.shapes = inputs[-1], [x.shape for x in output[:-_FOR_GRADIENTS]]

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        function: Any = _ByChunks
        given = _folded(arguments, in_dims, info.batch_size)
        found = function.apply(*given)
        dims = *[0] * (len(found) - _FOR_GRADIENTS), *[1] * _FOR_GRADIENTS
        pairs = zip(found, dims, strict=True)
        return tuple(x.unflatten(d, (info.batch_size, -1)) for x, d in pairs), dims

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        function: Any = _ByChunksBack
        saved = ctx.saved_tensors
        given = [
            saved[8].new_zeros(shape) if d is None else d
            for d, shape in zip(grads, ctx.shapes, strict=False)
        ]
        with torch.autocast(saved[8].device.type, enabled=False):
            found = function.apply(*saved, *given, ctx.how)
        return *_filled(saved[:10], found), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        *at, starts = ctx.saved_tensors
        run, there = _plain(at, starts, ctx.how)
        moved = _moved(
            there, [t for x, t in zip(at, tangents, strict=False) if x is not None]
        )
        return *torch.func.jvp(run, tuple(there), moved)[1], *[None] * _FOR_GRADIENTS


class _ByChunksBack(torch.autograd.Function):
    """The gradient of `_by_chunks`; its own gradients are found by torch."""

    @staticmethod
    def forward(*arguments: Any) -> Any:
        *d_reads, d_state, how = arguments[11 + _FOR_GRADIENTS :]
        ends = arguments[8 : 11 + _FOR_GRADIENTS]
        return _groups_back(arguments[:8], ends, d_reads, d_state, how)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        kept = [*inputs[:11], *inputs[11 + _FOR_GRADIENTS : -1]]
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)
        ctx.how = inputs[-1]

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        function: Any = _ByChunksBack
        found = function.apply(*_folded(arguments, in_dims, info.batch_size))
        outs = tuple(x.unflatten(0, (info.batch_size, -1)) for x in found)
        return outs, (0,) * len(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        at, starts, given = _parts(ctx.saved_tensors)
        run, there = _gradient(at, starts, ctx.how)
        found = torch.func.vjp(run, *there, *given)[1](grads)
        first = _filled(at, found[: len(there)])
        return *first, None, *[None] * _FOR_GRADIENTS, *found[len(there) :], None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        at, starts, given = _parts(ctx.saved_tensors)
        run, there = _gradient(at, starts, ctx.how)
        moved = [t for x, t in zip(at, tangents, strict=False) if x is not None]
        both = (*there, *given)
        moved = _moved(both, [*moved, *tangents[11 + _FOR_GRADIENTS : -1]])
        return torch.func.jvp(run, both, moved)[1]


def _parts(saved: Sequence[Any]) -> tuple[Sequence[Any], Any, Sequence[Any]]:
    """What is differentiated, where segments start, and gradients given."""
    return saved[:10], saved[10], saved[11:]


def _filled(at: Sequence[Any], there: Sequence[Tensor]) -> list[Any]:
    """`there` in the places of `at` that are not None."""
    given = iter(there)
    return [None if x is None else next(given) for x in at]


def _moved(at: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Tensor, ...]:
    """Tangents of all, where None is 0."""
    pairs = zip(at, tangents, strict=True)
    return tuple(torch.zeros_like(x) if t is None else t for x, t in pairs)


def _plain(
    at: Sequence[Any], starts: Tensor | None, how: _How
) -> tuple[Callable[..., Any], list[Tensor]]:
    """`_by_chunks` without borders, as a function of those of its tensors that are there."""

    def run(*there: Tensor) -> tuple[Tensor, ...]:
        return _by_chunks(*_filled(at, there), starts, how)[:-_FOR_GRADIENTS]

    return run, [x for x in at if x is not None]


def _gradient(
    at: Sequence[Any], starts: Tensor | None, how: _How
) -> tuple[Callable[..., Any], list[Tensor]]:
    """Its gradient as a function of these, and of the gradients of what it makes."""
    plain, there = _plain(at, starts, how)

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        pull = torch.func.vjp(plain, *given[: len(there)])[1]
        return pull(tuple(given[len(there) :]))

    return run, there


def _folded(
    arguments: Sequence[Any], dims: Sequence[int | None], size: int
) -> list[Any]:
    """A further dimension as part of the batch, which comes first but in what was kept."""
    found: list[Any] = []
    for i, (x, dim) in enumerate(zip(arguments, dims, strict=True)):
        at = 1 if 11 <= i < 11 + _FOR_GRADIENTS and i < len(arguments) - 1 else 0
        if not isinstance(x, Tensor):
            found.append(x)
        elif dim is None:
            shape = (*x.shape[:at], size, *x.shape[at:])
            found.append(x.unsqueeze(at).expand(shape).flatten(at, at + 1))
        else:
            found.append(x.movedim(dim, at).flatten(at, at + 1))
    return found
