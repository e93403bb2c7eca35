"""Recurrences in which some states change at borders alone, from border to border."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["_in_pieces"]


class _At:
    """Which steps a piece has: `at(x)` are those of `x: [batch, time, …]`.

    All pieces of a sequence are cut at once, so that its gradient is put together once.
    What is computed anew for every call has a `name`.
    """

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.place, self.first = sizes, 0, False
        self.cuts: dict[int | str, tuple[Tensor, Sequence[Tensor]]] = {}

    def __call__(self, x: Tensor, name: str = "") -> Tensor:
        key = name or id(x)
        if key not in self.cuts:
            self.cuts[key] = x, torch.split(x, self.sizes, 1)
        piece = self.cuts[key][1][self.place]
        return piece[:, :1] if self.first else piece

    def time(self) -> int:
        """How many steps these are."""
        return 1 if self.first else self.sizes[self.place]


_Piece = Callable[[Sequence[Tensor], _At], tuple[list[Tensor], list[Tensor]]]


def _in_pieces(
    border_step: _Piece,
    piece: _Piece,
    first: Sequence[Tensor],
    starts: Tensor | None,
    initial: Sequence[Tensor],
    border: Tensor,
    time: int,
    early: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """What is wanted of all steps, and all states after the last.

    A piece goes up to the next step at which `border: [batch or 1, time]` holds or a
    segment starts in some row. There states begin as `initial: [batch, time or 1, …]`.
    `piece(before, at)` makes what is wanted of the steps `at` and the states after them,
    from those `before`; so does `border_step` for the one step at a border. With `early` it
    makes but the states, with what is held as from this border on, and the piece begins
    there. While torch compiles, every step is a piece.
    """
    before = list(first)
    if time == 0:
        return piece(before, _At([0]))[0], before
    parts: list[list[Tensor]] = []
    edges = _piece_edges(border, starts, time)
    ends = [*edges[1:], time]
    at = _At(_piece_sizes(edges, ends, early))
    for i, end in zip(edges, ends, strict=True):
        if starts is not None:
            before = [
                torch.where(
                    _by_row(starts[:, i], x), begun[:, min(i, begun.shape[1] - 1)], x
                )
                for x, begun in zip(before, initial, strict=True)
            ]
        at.first = early
        made, before = border_step(before, at)
        at.first = False
        if not early:
            parts.append(made)
            at.place += 1
        if early or end > i + 1:
            made, before = piece(before, at)
            parts.append(made)
            at.place += 1
    return [torch.cat(part, 1) for part in zip(*parts, strict=True)], before


def _piece_sizes(edges: list[int], ends: list[int], early: bool) -> list[int]:
    """Steps of all pieces, and of the one step at a border where that is one."""
    sizes: list[int] = []
    for i, end in zip(edges, ends, strict=True):
        if early:
            sizes.append(end - i)
        else:
            sizes += [1, end - i - 1] if end > i + 1 else [1]
    return sizes


def _by_row(mask: Tensor, x: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (x.dim() - 1))


def _piece_edges(border: Tensor, starts: Tensor | None, time: int) -> list[int]:
    """The first step, and all others that some row does not take as the one before."""
    if torch.compiler.is_compiling():
        return list(range(time))
    found = border.expand(-1, time).any(0)
    if starts is not None:
        found = found | starts.any(0)
    later = found[1:].nonzero().flatten() + 1
    return [0, *(int(i) for i in later)]
