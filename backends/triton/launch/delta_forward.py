"""Delta rules as an operator of torch; `delta.py` has its gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqdsl.backends.triton.kernels.delta import (
    delta_forward,
    delta_inverse,
    delta_segments,
    delta_states,
)
from seqdsl.backends.triton.launch.sizes import Sizes, sizes_of
from seqdsl.backends.triton.launch.tiles import (
    NAMESPACE,
    Tiles,
    blank,
    blocks,
    fitting,
    precision,
    solving,
)
from seqdsl.backends.triton.launch.tuning import pinned, settled


class Given(NamedTuple):
    """The tensors of a call, and how many rows a step is."""

    q: Tensor
    l: Tensor
    r: Tensor
    y: Tensor | None
    k: Tensor | None
    v: Tensor | None
    g: Tensor | None
    ls: Tensor | None
    rs: Tensor | None
    initial: Tensor | None
    group: int = 1

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All of them, without the number of rows of a step."""
        return self[:10]

    @property
    def values(self) -> Tensor:
        """What is written."""
        found = self.v if self.y is None else self.y
        assert found is not None, "neither `y` nor `v` is given"
        return found

    @property
    def size(self) -> Sizes:
        """Extents, and how sequences are cut."""
        return sizes_of("delta", self.l, self.values, self.g)

    @property
    def sides(self) -> tuple[Tensor, ...]:
        """l, r and their scales; something to point to where there are none."""
        scales = [self.l if x is None else x for x in (self.ls, self.rs)]
        return self.l, self.r, *scales

    @property
    def written(self) -> tuple[Tensor, ...]:
        """y, k, v."""
        tensors = self.y, self.l if self.k is None else self.k, self.v
        return tuple(self.values if x is None else x for x in tensors)

    @property
    def decay(self) -> Tensor:
        """Log decays."""
        return self.l if self.g is None else self.g

    def constants(self, tiles: Tiles) -> dict[str, Any]:
        """What kernels that take whole columns of keys are compiled for."""
        size = self.size
        return size.constants(tiles) | {
            "BK": fitting(size.K),
            "W": tiles.chunk * (2 if self.k is None else 4),
            "SCALED": self.ls is not None,
            "OWN": self.y is not None,
            "PLAIN": self.k is not None,
            "GROUP": self.group,
            "PRECISION": precision(self.l),
        }


_Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op(f"{NAMESPACE}::delta", mutates_args=())
def delta(
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
    scale: float,
    keep: bool,
    group: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Outputs, last state; products within chunks; matrices, first states by segment."""
    given = Given(q, l, r, y, k, v, g, ls, rs, initial, group)
    settled(given.size.key("forward"), l, lambda: _delta_run(given, scale, keep))
    return _delta_run(given, scale, keep)


def _delta_run(given: Given, scale: float, keep: bool) -> _Five:
    q, l, initial = given.q, given.l, given.initial
    made = _delta_made(*given.tensors, scale, keep, given.group)
    o, final, inner, moved, states = made
    size = given.size
    if not size.time:
        if keep:
            final.copy_(torch.zeros_like(final) if initial is None else initial)
        return made
    tiles = size.tiles("forward")
    _inverses(given, tiles, inner)
    cut = size.time, size.length, size.segments
    constants = given.constants(tiles)
    parts = blocks(size.V, tiles.columns)
    if size.segments > 1:
        more = blocks(size.K, tiles.columns)
        added = torch.empty(states.shape, dtype=torch.float32, device=l.device)
        delta_segments[size.states * (parts + more), size.segments](
            *given.sides, *given.written, given.decay, inner, added, moved, *cut,
            **constants,
        )  # fmt: skip
        states_between(size, initial, added, moved, states, adjoint=False)
    delta_forward[size.states * parts, size.segments](
        q, *given.sides, *given.written, given.decay, inner,
        known_states(size, initial, states), o, final, scale, *cut,
        ENTER=size.segments > 1 or initial is not None, FINAL=keep, **constants,
    )  # fmt: skip
    return made


@delta.register_fake
def _delta_traced(*args: Any) -> _Five:
    size = Given(*args[:10]).size
    pinned(size.key("forward"), size.key("backward"))
    return _delta_made(*args)


def _delta_made(*args: Any) -> _Five:
    *tensors, _, keep, group = args
    given = Given(*tensors, group)
    size, l = given.size, given.l
    cut = size.segments if size.segments > 1 else 0
    tiles = size.tiles("forward")
    width = given.constants(tiles)["W"]
    last = (size.K, size.V) if keep else (0, 0)
    return (
        torch.empty_like(given.values),
        blank(l, size.batch, size.heads, *last, dtype=torch.float32),
        blank(l, size.batch, size.time, size.heads, width),
        blank(l, size.states, cut, size.K, size.K, dtype=torch.float32),
        blank(l, size.states, cut, size.K, size.V, dtype=torch.float32),
    )


def _inverses(given: Given, tiles: Tiles, inner: Tensor) -> None:
    """Launches `delta_inverse`."""
    size = given.size
    names = ("H", "K", "C", "W", "SCALED", "PLAIN", "DECAY", "GROUP", "PRECISION")
    constants = given.constants(tiles)
    delta_inverse[size.states, blocks(size.time, tiles.chunk)](
        given.q, *given.sides, given.written[1], given.decay, inner, size.time,
        BK=min(32, fitting(size.K)), SOLVE=solving(given.l),
        **{n: constants[n] for n in names}, num_warps=4, num_stages=1,
    )  # fmt: skip


def known_states(size: Sizes, whole: Tensor | None, states: Tensor) -> Tensor | None:
    """States by segment; those of a sequence that is one segment."""
    return states if size.segments > 1 else whole


def states_between(
    size: Sizes,
    initial: Tensor | None,
    added: Tensor,
    moved: Tensor,
    states: Tensor,
    adjoint: bool,
) -> None:
    """Launches `delta_states`."""
    columns = 16
    delta_states[size.states * blocks(size.V, columns),](
        initial, added, moved, states, size.segments,
        K=size.K, V=size.V, BK=min(64, fitting(size.K)), BV=columns,
        ADJOINT=adjoint, INITIAL=initial is not None, SOLVE=solving(added),
        num_warps=4, num_stages=1,
    )  # fmt: skip
