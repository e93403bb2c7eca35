"""States from chunk to chunk as an operator of torch, whose gradient is itself."""

# pyright: reportUntypedFunctionDecorator=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.triton.kernels.passes import chunk_passes
from seqdsl.backends.triton.launch.dispatch import EVERYWHERE
from seqdsl.backends.triton.launch.tiles import (
    NAMESPACE,
    blank,
    blocks,
    fitting,
    precision,
)


def passes_fit(state: Tensor) -> bool:
    """Whether states `[many, rows, columns]` go by a kernel."""
    return (EVERYWHERE or state.is_cuda) and state.dtype == torch.float32


@torch.library.custom_op(f"{NAMESPACE}::pass_chunks", mutates_args=())
def pass_chunks(
    first: Tensor,
    total: Tensor | None,
    added: Tensor | None,
    known: Tensor | None,
    pulled: Tensor | None,
    into: Tensor | None,
    states: int,
    count: int,
    adjoint: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The states before each of `count` chunks, what erases write, the states at the end.

    `first` is [many, rows, columns], `rows` those of all `states`. Of chunks, which come
    before all else in the first dimension: `total` [rows or 1] or, for several states,
    [states, states, rows of one or 1], `added` like the states, `known` [erases, columns],
    `pulled` [erases, rows] and `into` [rows, erases]. For `adjoint` the last chunk is the
    first and `total` is turned.
    """
    made = _passes_made(first, total, added, known, pulled, into, states, count)
    before, written, last = made
    if not first.numel():
        return made
    if not count:
        last.copy_(first)
        return made
    total, added, known = (
        None if x is None else x.contiguous() for x in (total, added, known)
    )
    (many, rows, V), E = first.shape, written.shape[1]
    K, columns = rows // states, 16
    left, right = (first if x is None else x for x in (pulled, into))
    chunk_passes[many * blocks(V, columns),](
        first.contiguous(), total, added, known, left, right, before, written, last, count,
        *left.stride(), *right.stride(),
        N=states, K=K, W=0 if total is None else total.shape[-1], E=E, V=V,
        BK=min(32, fitting(K)), BE=16, BV=columns,
        ADDED=added is not None, KNOWN=known is not None, ADJOINT=adjoint,
        PRECISION=precision(first), num_warps=4, num_stages=1,
    )  # fmt: skip
    return made


@pass_chunks.register_fake
def _passes_made(
    first: Tensor,
    total: Tensor | None,
    added: Tensor | None,
    known: Tensor | None,
    pulled: Tensor | None,
    into: Tensor | None,
    states: int,
    count: int,
    adjoint: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    many, rows, columns = first.shape
    erases = 0 if pulled is None else pulled.shape[1]
    return (
        blank(first, count * many, rows, columns),
        blank(first, count * many, erases, columns),
        blank(first, many, rows, columns),
    )


def _passes_remember(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]
) -> None:
    _, total, ctx.added, ctx.known, pulled, into, *ctx.how = inputs
    ctx.added, ctx.known = ctx.added is not None, ctx.known is not None
    ctx.save_for_backward(total, pulled, into, *output[:2])


def _passes_pulled(
    ctx: Any, d_before: Tensor, d_written: Tensor, d_last: Tensor
) -> tuple[Tensor | None, ...]:
    total, pulled, into, before, written = ctx.saved_tensors
    states, count, adjoint = ctx.how
    erasing = pulled is not None
    after, wrote, d_first = pass_chunks(
        d_last, total, d_before, d_written if erasing else None,
        into.mT if erasing else None, pulled.mT if erasing else None,
        states, count, not adjoint,
    )  # fmt: skip
    sides = (before, after) if adjoint else (after, before)
    return (
        d_first,
        None if total is None else _by_total(*sides, total, states),
        after if ctx.added else None,
        wrote if ctx.known else None,
        wrote @ before.mT if erasing else None,
        after @ written.mT if erasing else None,
        None, None, None,
    )  # fmt: skip


def _by_total(after: Tensor, before: Tensor, total: Tensor, states: int) -> Tensor:
    """The gradient of what is left of the states `before`, from that of those `after`."""
    if states > 1:
        count, rows, columns = before.shape
        after, before = (
            x.reshape(count, states, rows // states, columns) for x in (after, before)
        )
        found = torch.einsum("cikv,cjkv->cijk", after, before)
    else:
        found = (after * before).sum(-1)
    return found if total.shape[-1] > 1 else found.sum(-1, keepdim=True)


pass_chunks.register_autograd(_passes_pulled, setup_context=_passes_remember)


def chunks_passed(
    state: Tensor,
    total: Tensor | None,
    added: Tensor | None,
    known: Tensor | None,
    pulled: Tensor | None,
    into: Tensor | None,
    begun: Tensor | None,
    states: int,
    count: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The states before every chunk and at the end, and what erases write.

    `begun` is what comes of segments that begin in a chunk.
    """
    if begun is not None:
        added = begun if added is None else added + begun
    before, written, last = pass_chunks(
        state, total, added, known, pulled, into, states, count, False
    )
    before = before.view(count, *state.shape)
    return before, last, known if pulled is None else written


def chunks_pulled(
    d_state: Tensor,
    total: Tensor | None,
    before: Tensor,
    wrote: Tensor | None,
    pulled: Tensor | None,
    writers: Tensor | None,
    states: int,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Gradients of the states after each chunk, of what erases write, of the first states.

    `before` are those of the states before each chunk, and `wrote` those of what erases
    write, as they come from reads.
    """
    count = len(before) // max(1, len(d_state))
    into = None if pulled is None else pulled.mT
    after, found, first = pass_chunks(
        d_state, total, before, wrote, writers, into, states, count, True
    )
    return after, None if wrote is None else found, first
