"""Delta rules with their gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.triton.kernels.delta_backward import delta_adjoints, delta_values
from seqdsl.backends.triton.kernels.delta_sides import delta_keys
from seqdsl.backends.triton.launch.again import (
    delta_in_torch,
    pulled_again,
    wanted_again,
)
from seqdsl.backends.triton.launch.delta_forward import (
    Given,
    delta,
    known_states,
    states_between,
)
from seqdsl.backends.triton.launch.tiles import (
    NAMESPACE,
    blank,
    blocks,
    fitting,
)
from seqdsl.backends.triton.launch.tuning import settled


def delta_products(
    q: Tensor,
    l: Tensor,
    r: Tensor,
    y: Tensor | None,
    g: Tensor | None = None,
    ls: Tensor | None = None,
    rs: Tensor | None = None,
    initial: Tensor | None = None,
    k: Tensor | None = None,
    v: Tensor | None = None,
    scale: float = 1.0,
    keep: bool = True,
    group: int = 1,
) -> tuple[Tensor, Tensor]:
    """`o[t] = scale * q[t] S[t]`, `S[t] = exp(g[t]) S[t-1] + ls[t] l[t] x[t] + k[t] v[t]`.

    Here `x[t] = y[t] + rs[t] r[t] S[t-1]`. `q`, `l`, `r` and `k` are [batch, time, heads, K],
    `y` and `v` [batch, time, heads, V]; `y`, or both `k` and `v`, may be None. `ls` and `rs`
    are [batch, time, heads], or both None; `g` is like these, or has K as well, or is None;
    `initial` is [batch, heads, K, V]. A step may be `group` rows along time (1, 2, 4, 8 or
    16): `S[t-1]` is then what stands before its first row, which alone may decay. Returns
    `o` like `y`, and the state after the last step in float32 if `keep`.
    """
    tensors = (q, l, r, y, k, v, g, ls, rs, initial)
    given = [None if x is None else x.contiguous() for x in tensors]
    o, final, *_ = delta(*given, scale, keep, group)
    return o, final


@torch.library.custom_op(f"{NAMESPACE}::delta_gradients", mutates_args=())
def delta_gradients(
    q: Tensor,
    l: Tensor,
    r: Tensor,
    y: Tensor | None,
    k: Tensor | None,
    v: Tensor | None,
    g: Tensor | None,
    ls: Tensor | None,
    rs: Tensor | None,
    initial: Tensor | None,
    inner: Tensor,
    moved: Tensor,
    states: Tensor,
    do: Tensor,
    dfinal: Tensor | None,
    scale: float,
    group: int,
) -> list[Tensor]:
    """Gradients of all that is given; those of g, ls and rs in parts."""
    given = Given(q, l, r, y, k, v, g, ls, rs, initial, group)
    kept = inner, moved, states, do, dfinal, scale
    settled(given.size.key("backward"), l, lambda: _delta_run_back(given, *kept))
    return _delta_run_back(given, *kept)


def _delta_run_back(
    given: Given,
    inner: Tensor,
    moved: Tensor,
    states: Tensor,
    do: Tensor,
    dfinal: Tensor | None,
    scale: float,
) -> list[Tensor]:
    made, size = _delta_gradients_made(*given.tensors), given.size
    initial = given.initial
    if not size.time:
        made[-1].copy_(torch.zeros_like(made[-1]) if dfinal is None else dfinal)
        return made
    adjoints = torch.empty_like(states)
    if size.segments > 1:
        _adjoints(given, inner, moved, do, dfinal, adjoints, scale)
    ends = known_states(size, initial, states), known_states(size, dfinal, adjoints)
    _launched(given, inner, do, ends, made, scale)
    return made


@delta_gradients.register_fake
def _delta_gradients_made(*args: Any) -> list[Tensor]:
    given = Given(*args[:10])
    size, l, g = given.size, given.l, given.g
    lead = (size.batch, size.time, size.heads)
    rows = size.tiles("backward").rows
    pieces = (blocks(size.K, rows), *lead)
    sides = [torch.empty_like(x) for x in (given.q, l, given.r, given.values)]
    plain = [blank(l, 0) if x is None else torch.empty_like(x) for x in given[4:6]]
    if size.kind == "channel" and g is not None:
        dg = torch.empty_like(g)
    else:
        dg = blank(l, *pieces, dtype=torch.float32)
    scales = [blank(l, *pieces, dtype=torch.float32) for _ in range(2)]
    whole = blank(l, size.batch, size.heads, size.K, size.V, dtype=torch.float32)
    return [*sides, *plain, dg, *scales, whole]


def _adjoints(
    given: Given,
    inner: Tensor,
    moved: Tensor,
    do: Tensor,
    dfinal: Tensor | None,
    adjoints: Tensor,
    scale: float,
) -> None:
    """The adjoints of the states after all segments."""
    size = given.size
    tiles = size.tiles("backward")
    constants = given.constants(tiles)
    del constants["OWN"], constants["PLAIN"]
    added = torch.empty_like(adjoints)
    delta_adjoints[size.states * blocks(size.V, tiles.columns), size.segments](
        given.q, *given.sides, do, given.decay, inner, added, scale,
        size.time, size.length, size.segments, **constants,
    )  # fmt: skip
    states_between(size, dfinal, added, moved, adjoints, adjoint=True)


def _launched(
    given: Given,
    inner: Tensor,
    do: Tensor,
    ends: tuple[Tensor | None, Tensor | None],
    made: list[Tensor],
    scale: float,
) -> None:
    """The gradients, from the states and adjoints at the ends of segments."""
    dq, dl, dr, dy, dk, dv, dg, dls, drs, dinitial = made
    size, q = given.size, given.q
    tiles = size.tiles("backward")
    constants = given.constants(tiles) | {
        "ENTER": ends[0] is not None,
        "LEAVE": ends[1] is not None,
    }
    x, cut = torch.empty_like(dy), (size.time, size.length, size.segments)
    delta_values[size.states * blocks(size.V, tiles.columns), size.segments](
        q, *given.sides, *given.written, do, given.decay, inner, *ends,
        x, dy, dv, dinitial, scale, *cut, **constants,
    )  # fmt: skip
    chunk = min(tiles.chunk, 16 if size.V > 64 else tiles.chunk)
    rows = constants | {"BK": tiles.rows, "WV": fitting(size.V), "C": chunk}
    del rows["BV"], rows["OWN"], rows["W"]
    delta_keys[size.states * blocks(size.K, tiles.rows), size.segments](
        q, *given.sides, *given.written[1:], do, given.decay, *ends, x, dy,
        dq, dl, dr, dk, dls, drs, dg, scale, *cut, **rows,
    )  # fmt: skip


def _delta_remember(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]
) -> None:
    *tensors, ctx.scale, ctx.keep, ctx.group = inputs
    ctx.save_for_backward(*tensors, *output[2:])


def _delta_pulled(
    ctx: Any, do: Tensor | None, dfinal: Tensor | None, *_: Any
) -> tuple[Tensor | None, ...]:
    *tensors, inner, moved, states = ctx.saved_tensors
    if wanted_again():
        again = pulled_again(
            partial(delta_in_torch, scale=ctx.scale, group=ctx.group),
            tensors,
            (do, dfinal if ctx.keep else None),
        )
        return *again, None, None, None
    given = Given(*tensors, ctx.group)
    do = torch.zeros_like(given.values) if do is None else do.contiguous()
    dfinal = dfinal.contiguous() if dfinal is not None and ctx.keep else None
    made = delta_gradients(
        *tensors, inner, moved, states, do, dfinal, ctx.scale, ctx.group
    )
    grads = (
        None if x is None else _from_parts(dx, x)
        for x, dx in zip(tensors, made, strict=True)
    )
    return *grads, None, None, None


def _from_parts(dx: Tensor, x: Tensor) -> Tensor:
    """A gradient like `x`, of which `dx` may have the parts."""
    return (dx if dx.shape == x.shape else dx.sum(0)).to(x.dtype)


delta.register_autograd(_delta_pulled, setup_context=_delta_remember)
