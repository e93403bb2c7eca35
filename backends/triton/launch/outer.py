"""Decayed outer products as operators of torch, with their gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.triton.kernels.outer import (
    outer_backward,
    outer_forward,
    outer_segments,
)
from seqdsl.backends.triton.launch.again import (
    outer_in_torch,
    pulled_again,
    wanted_again,
)
from seqdsl.backends.triton.launch.sizes import Sizes, sizes_of
from seqdsl.backends.triton.launch.tiles import (
    NAMESPACE,
    blank,
    blocks,
    fitting,
    precision,
)
from seqdsl.backends.triton.launch.tuning import pinned, settled


def decayed_products(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    initial: Tensor | None = None,
    scale: float = 1.0,
    lag: int = 0,
    keep: bool = True,
) -> tuple[Tensor, Tensor]:
    """`o[t] = scale * q[t] S[t - lag]` where `S[t] = exp(g[t]) S[t-1] + k[t] v[t]`.

    `q` and `k` are [batch, time, heads, K], `v` is [batch, time, heads, V], `g` is
    [batch, time, heads], with or without K, or None; `initial` is [batch, heads, K, V].
    Returns `o` like `v`, and the state after the last step in float32 if `keep`.
    """
    given = [None if x is None else x.contiguous() for x in (q, k, v, g, initial)]
    o, final, _, _ = outer(*given, scale, lag, keep)
    return o, final


_Four = tuple[Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op(f"{NAMESPACE}::outer", mutates_args=())
def outer(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    initial: Tensor | None,
    scale: float,
    lag: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, the last state, and what each segment adds to the state and keeps of it."""
    given = q, k, v, g, initial, scale, lag, keep
    settled(sizes_of("outer", k, v, g).key("forward"), k, lambda: _outer_run(*given))
    return _outer_run(*given)


def _outer_run(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    initial: Tensor | None,
    scale: float,
    lag: int,
    keep: bool,
) -> _Four:
    size = sizes_of("outer", k, v, g)
    tiles = size.tiles("forward")
    o, final, added, wholes = made = _outer_made(q, k, v, g, initial, scale, lag, keep)
    if lag or not size.time:
        shape = size.batch, size.heads, size.K, size.V
        first = torch.zeros(shape, device=k.device) if initial is None else initial
        read = torch.einsum("bthk,bhkv->bthv", q[:, :1].float(), first.float())
        o[:, :1] = scale * read
        if keep:
            final.copy_(first)
    if not size.time:
        return made
    g = k if g is None else g
    if size.segments > 1:
        _segments(size, k, v, g, added, wholes, 1.0, size.time, adjoint=False)
    parts = blocks(size.V, tiles.columns)
    most = 128 if size.kind == "channel" else 256  # keys of a block
    outer_forward[size.states * parts, size.segments](
        q[:, lag:], k, v, g, initial, added, wholes, o[:, lag:], final,
        scale, size.time, size.time - lag, size.length, size.segments,
        **(size.constants(tiles) | {"BK": min(most, fitting(size.K))}),
        INITIAL=initial is not None, FINAL=keep, PRECISION=precision(k),
    )  # fmt: skip
    return made


@outer.register_fake
def _outer_traced(*args: Any) -> _Four:
    size = sizes_of("outer", *args[1:4])
    pinned(size.key("forward"), size.key("backward"))
    return _outer_made(*args)


def _outer_made(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    initial: Tensor | None,
    scale: float,
    lag: int,
    keep: bool,
) -> _Four:
    size = sizes_of("outer", k, v, g)
    rows = size.K if size.kind == "channel" else 1
    state = (size.K, size.V)
    return (
        torch.empty_like(v),
        blank(
            k, size.batch, size.heads, *(state if keep else (0, 0)), dtype=torch.float32
        ),
        blank(k, size.states, size.segments - 1, *state, dtype=torch.float32),
        blank(k, size.states, size.segments - 1, rows, dtype=torch.float32),
    )


def _segments(
    size: Sizes,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    added: Tensor,
    wholes: Tensor,
    scale: float,
    rows: int,
    adjoint: bool,
) -> None:
    """Launches `outer_segments`; `rows` is how many steps `k` and `v` have."""
    tiles = size.tiles("forward")
    parts = blocks(size.K, tiles.rows) * blocks(size.V, tiles.columns)
    outer_segments[size.states * parts, size.segments - 1](
        k, v, g, added, wholes, scale, size.time, rows, size.length, size.segments,
        **size.constants(tiles), ADJOINT=adjoint, PRECISION=precision(k),
    )  # fmt: skip


@torch.library.custom_op(f"{NAMESPACE}::outer_gradients", mutates_args=())
def outer_gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    initial: Tensor | None,
    added: Tensor,
    wholes: Tensor,
    do: Tensor,
    dfinal: Tensor | None,
    scale: float,
    lag: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, g (in parts, for scalar decays) and the initial state."""
    given = q, k, v, g, initial, added, wholes, do, dfinal, scale, lag
    key = sizes_of("outer", k, v, g).key("backward")
    settled(key, k, lambda: _outer_pulled(*given))
    return _outer_pulled(*given)


def _outer_pulled(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    initial: Tensor | None,
    added: Tensor,
    wholes: Tensor,
    do: Tensor,
    dfinal: Tensor | None,
    scale: float,
    lag: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    size = sizes_of("outer", k, v, g)
    tiles = size.tiles("backward")
    made = _outer_gradients_made(
        q, k, v, g, initial, added, wholes, do, dfinal, scale, lag
    )
    dq, dk, dv, dg, dinitial = made
    if not size.time:
        dinitial.copy_(0 if dfinal is None else dfinal)
        return made
    g = k if g is None else g
    adjoint, kept = torch.empty_like(added), torch.empty_like(wholes)
    later = size.time - lag
    if size.segments > 1:
        moved = q[:, lag:], do[:, lag:], g, adjoint, kept
        _segments(size, *moved, scale, later, adjoint=True)
    parts = blocks(size.K, tiles.rows) + blocks(size.V, tiles.columns)
    outer_backward[size.states * parts, size.segments](
        q[:, lag:], k, v, g, do[:, lag:], initial, added, wholes, dfinal, adjoint, kept,
        dq[:, lag:], dk, dv, dg, dinitial, scale, size.time, later, size.length, size.segments,
        **size.constants(tiles), WK=fitting(size.K), WV=fitting(size.V),
        INITIAL=initial is not None, FINAL=dfinal is not None, PRECISION=precision(k),
    )  # fmt: skip
    if lag:
        first = torch.zeros_like(dinitial) if initial is None else initial.float()
        at = do[:, :1].float() * scale
        dq[:, :1] = torch.einsum("bthv,bhkv->bthk", at, first)
        dinitial += torch.einsum("bthk,bthv->bhkv", q[:, :1].float(), at)
    return made


@outer_gradients.register_fake
def _outer_gradients_made(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    initial: Tensor | None,
    added: Tensor,
    wholes: Tensor,
    do: Tensor,
    dfinal: Tensor | None,
    scale: float,
    lag: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    size = sizes_of("outer", k, v, g)
    tiles = size.tiles("backward")
    lead = (size.batch, size.time, size.heads)
    parts = blocks(size.K, tiles.rows)
    shape = (*lead, size.K) if size.kind == "channel" else (parts, *lead)
    dg = blank(k, *shape, dtype=torch.float32 if g is None else g.dtype)
    if size.kind == "scalar":
        dg = blank(k, *shape, dtype=torch.float32)
    like = torch.empty_like
    dinitial = blank(k, size.batch, size.heads, size.K, size.V, dtype=torch.float32)
    return like(q), like(k), like(v), dg, dinitial


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.scale, ctx.lag, ctx.keep = inputs
    ctx.save_for_backward(*tensors, *output[2:])


def _gradients(
    ctx: Any, do: Tensor | None, dfinal: Tensor | None, *_: Any
) -> tuple[Tensor | None, ...]:
    q, k, v, g, initial, added, wholes = ctx.saved_tensors
    if wanted_again():
        found = pulled_again(
            partial(outer_in_torch, scale=ctx.scale, lag=ctx.lag),
            (q, k, v, g, initial),
            (do, dfinal if ctx.keep else None),
        )
        return *found, None, None, None
    do = torch.zeros_like(v) if do is None else do.contiguous()
    dfinal = dfinal.contiguous() if dfinal is not None and ctx.keep else None
    dq, dk, dv, dg, dinitial = outer_gradients(
        q, k, v, g, initial, added, wholes, do, dfinal, ctx.scale, ctx.lag
    )
    if g is not None and g.dim() == 3:
        dg = dg.sum(0).to(g.dtype)
    dfirst = None if initial is None else dinitial.to(initial.dtype)
    return dq, dk, dv, (None if g is None else dg), dfirst, None, None, None


outer.register_autograd(_gradients, setup_context=_remember)
