"""Delta rules as operators of torch, with their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.triton.kernels.delta import (
    delta_adjoints,
    delta_forward,
    delta_inverse,
    delta_segments,
    delta_states,
)
from seqdsl.backends.triton.kernels.delta_backward import delta_keys, delta_values
from seqdsl.backends.triton.launch.sizes import Sizes, sizes_of
from seqdsl.backends.triton.launch.tiles import (
    NAMESPACE,
    Tiles,
    blank,
    blocks,
    fitting,
    precision,
    smaller,
    solving,
)

DELTA: Mapping[tuple[str, str], Tiles] = {
    ("none", "forward"): Tiles(chunk=32, rows=64, columns=32, warps=4, stages=1),
    ("none", "backward"): Tiles(chunk=32, rows=32, columns=32, warps=4, stages=1),
    ("scalar", "forward"): Tiles(chunk=32, rows=64, columns=32, warps=4, stages=1),
    ("scalar", "backward"): Tiles(chunk=32, rows=32, columns=32, warps=4, stages=1),
    ("channel", "forward"): Tiles(chunk=16, rows=64, columns=32, warps=4, stages=1),
    ("channel", "backward"): Tiles(chunk=16, rows=32, columns=32, warps=4, stages=1),
}


def delta_products(
    q: Tensor,
    l: Tensor,
    r: Tensor,
    y: Tensor,
    g: Tensor | None = None,
    ls: Tensor | None = None,
    rs: Tensor | None = None,
    initial: Tensor | None = None,
    scale: float = 1.0,
    keep: bool = True,
) -> tuple[Tensor, Tensor]:
    """`o[t] = scale * q[t] S[t]`, `S[t] = exp(g[t]) S[t-1] + ls[t] l[t] x[t]`.

    Here `x[t] = y[t] + rs[t] r[t] S[t-1]`. `q`, `l` and `r` are [batch, time, heads, K],
    `y` is [batch, time, heads, V]; `ls` and `rs` are [batch, time, heads], or both None;
    `g` is like these, or has K as well, or is None; `initial` is [batch, heads, K, V].
    Returns `o` like `y`, and the state after the last step in float32 if `keep`.
    """
    tensors = (q, l, r, y, g, ls, rs, initial)
    given = [None if x is None else x.contiguous() for x in tensors]
    o, final, *_ = delta(*given, scale, keep)
    return o, final


_Optional = Tensor | None
_Made = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op(f"{NAMESPACE}::delta", mutates_args=())
def delta(
    q: Tensor,
    l: Tensor,
    r: Tensor,
    y: Tensor,
    g: Tensor | None,
    ls: Tensor | None,
    rs: Tensor | None,
    initial: Tensor | None,
    scale: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Outputs, the last state; inverses by chunk, matrices and first states by segment."""
    size = delta_sizes(l, y, g)
    made = _delta_made(q, l, r, y, g, ls, rs, initial, scale, keep)
    o, final, inverse, moved, states = made
    if not size.time:
        if keep:
            final.copy_(torch.zeros_like(final) if initial is None else initial)
        return made
    tiles = smaller(DELTA[size.kind, "forward"], size.K, size.V)
    sides = l, r, *_scales(l, ls, rs)
    decay = l if g is None else g
    constants = _constants(size, tiles, ls is not None) | {"PRECISION": precision(l)}
    delta_inverse[size.states, blocks(size.time, tiles.chunk)](
        *sides, decay, inverse, size.time, SOLVE=solving(l),
        **{n: x for n, x in constants.items() if n not in ("V", "BV")},
    )  # fmt: skip
    parts = blocks(size.V, tiles.columns)
    cut = size.time, size.length, size.segments
    if size.segments > 1:
        more = blocks(size.K, tiles.columns)
        added = torch.empty(states.shape, dtype=torch.float32, device=l.device)
        delta_segments[size.states * (parts + more), size.segments](
            *sides, y, decay, inverse, added, moved, *cut, **constants
        )
        _states(size, tiles, initial, added, moved, states, adjoint=False)
    delta_forward[size.states * parts, size.segments](
        q, *sides, y, decay, inverse, _known(size, initial, states), o, final, scale, *cut,
        ENTER=size.segments > 1 or initial is not None, FINAL=keep, **constants,
    )  # fmt: skip
    return made


@delta.register_fake
def _delta_made(
    q: Tensor,
    l: Tensor,
    r: Tensor,
    y: Tensor,
    g: Tensor | None,
    ls: Tensor | None,
    rs: Tensor | None,
    initial: Tensor | None,
    scale: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    size = delta_sizes(l, y, g)
    cut = size.segments if size.segments > 1 else 0
    chunk = DELTA[size.kind, "forward"].chunk
    last = (size.K, size.V) if keep else (0, 0)
    return (
        torch.empty_like(y),
        blank(l, size.batch, size.heads, *last, dtype=torch.float32),
        blank(l, size.batch, size.time, size.heads, chunk),
        blank(l, size.states, cut, size.K, size.K, dtype=torch.float32),
        blank(l, size.states, cut, size.K, size.V, dtype=torch.float32),
    )


def delta_sizes(l: Tensor, y: Tensor, g: Tensor | None) -> Sizes:
    """The sizes of a call."""
    return sizes_of(l, y, g, DELTA)


def _scales(l: Tensor, ls: _Optional, rs: _Optional) -> tuple[Tensor, Tensor]:
    """Something to point to where there are none."""
    return (l if ls is None else ls), (l if rs is None else rs)


def _known(size: Sizes, whole: _Optional, states: Tensor) -> _Optional:
    """States by segment; those of a sequence that is one segment."""
    return states if size.segments > 1 else whole


def _constants(size: Sizes, tiles: Tiles, scaled: bool) -> dict[str, Any]:
    whole = {"BK": fitting(size.K), "SCALED": scaled}
    return size.constants(tiles) | whole


def _states(
    size: Sizes,
    tiles: Tiles,
    initial: _Optional,
    added: Tensor,
    moved: Tensor,
    states: Tensor,
    adjoint: bool,
) -> None:
    """Launches `delta_states`."""
    parts = blocks(size.V, tiles.columns)
    delta_states[size.states * parts,](
        initial, added, moved, states, size.segments,
        K=size.K, V=size.V, BK=fitting(size.K), BR=min(32, fitting(size.K)), BV=tiles.columns,
        ADJOINT=adjoint, INITIAL=initial is not None, SOLVE=solving(added),
        num_warps=4, num_stages=1,
    )  # fmt: skip


@torch.library.custom_op(f"{NAMESPACE}::delta_gradients", mutates_args=())
def delta_gradients(
    q: Tensor,
    l: Tensor,
    r: Tensor,
    y: Tensor,
    g: Tensor | None,
    ls: Tensor | None,
    rs: Tensor | None,
    initial: Tensor | None,
    inverse: Tensor,
    moved: Tensor,
    states: Tensor,
    do: Tensor,
    dfinal: Tensor | None,
    scale: float,
) -> list[Tensor]:
    """Gradients of q, l, r, y, g, ls, rs (the last three in parts) and initial."""
    made = _delta_gradients_made(
        q, l, r, y, g, ls, rs, initial, inverse, moved, states, do, dfinal, scale
    )
    dq, dl, dr, dy, dg, dls, drs, dinitial = made
    size = delta_sizes(l, y, g)
    if not size.time:
        dinitial.copy_(torch.zeros_like(dinitial) if dfinal is None else dfinal)
        return made
    tiles = smaller(DELTA[size.kind, "backward"], size.K, size.V)
    decay = l if g is None else g
    sides = l, r, *_scales(l, ls, rs)
    constants = _constants(size, tiles, ls is not None) | {"PRECISION": precision(l)}
    parts = blocks(size.V, tiles.columns)
    cut = size.time, size.length, size.segments
    adjoints, x = torch.empty_like(states), torch.empty_like(y)
    if size.segments > 1:
        added = torch.empty_like(states)
        delta_adjoints[size.states * parts, size.segments](
            q, *sides, do, decay, inverse, added, scale, *cut, **constants
        )
        _states(size, tiles, dfinal, added, moved, adjoints, adjoint=True)
    flags = {
        "ENTER": size.segments > 1 or initial is not None,
        "LEAVE": size.segments > 1 or dfinal is not None,
    }
    ends = _known(size, initial, states), _known(size, dfinal, adjoints)
    delta_values[size.states * parts, size.segments](
        q, *sides, y, do, decay, inverse, *ends, x, dy, dinitial, scale, *cut,
        **flags, **constants,
    )  # fmt: skip
    rows = constants | {"BK": tiles.rows, "WV": fitting(size.V)}
    del rows["BV"]
    delta_keys[size.states * blocks(size.K, tiles.rows), size.segments](
        q, *sides, do, decay, *ends, x, dy, dq, dl, dr, dls, drs, dg, scale, *cut,
        **flags, **rows,
    )  # fmt: skip
    return made


@delta_gradients.register_fake
def _delta_gradients_made(
    q: Tensor,
    l: Tensor,
    r: Tensor,
    y: Tensor,
    g: Tensor | None,
    ls: Tensor | None,
    rs: Tensor | None,
    initial: Tensor | None,
    inverse: Tensor,
    moved: Tensor,
    states: Tensor,
    do: Tensor,
    dfinal: Tensor | None,
    scale: float,
) -> list[Tensor]:
    size = delta_sizes(l, y, g)
    tiles = smaller(DELTA[size.kind, "backward"], size.K, size.V)
    lead = (size.batch, size.time, size.heads)
    pieces = (blocks(size.K, tiles.rows), *lead)
    if size.kind == "channel" and g is not None:
        dg = torch.empty_like(g)
    else:
        dg = blank(l, *pieces, dtype=torch.float32)
    scales = [blank(l, *pieces, dtype=torch.float32) for _ in range(2)]
    whole = blank(l, size.batch, size.heads, size.K, size.V, dtype=torch.float32)
    return [*(torch.empty_like(x) for x in (q, l, r, y)), dg, *scales, whole]


def _delta_remember(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]
) -> None:
    *tensors, ctx.scale, ctx.keep = inputs
    ctx.save_for_backward(*tensors, *output[2:])


def _delta_pulled(
    ctx: Any, do: Tensor | None, dfinal: Tensor | None, *_: Any
) -> tuple[Tensor | None, ...]:
    *given, inverse, moved, states = ctx.saved_tensors
    g, ls, rs, initial = given[4:]
    do = torch.zeros_like(given[3]) if do is None else do.contiguous()
    dfinal = dfinal.contiguous() if dfinal is not None and ctx.keep else None
    dq, dl, dr, dy, *rest, dinitial = delta_gradients(
        *given, inverse, moved, states, do, dfinal, ctx.scale
    )
    scalars = [
        None if x is None else dx if x.dim() == 4 else dx.sum(0).to(x.dtype)
        for x, dx in zip((g, ls, rs), rest, strict=True)
    ]
    first = None if initial is None else dinitial.to(initial.dtype)
    return dq, dl, dr, dy, *scalars, first, None, None


delta.register_autograd(_delta_pulled, setup_context=_delta_remember)
