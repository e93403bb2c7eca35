"""Recurrences in which some states change at borders alone, from border to border."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["_in_pieces"]

_OfStates = Callable[[Sequence[Tensor], slice], list[Tensor]]


def _in_pieces(
    step: _OfStates,
    piece: _OfStates,
    first: Sequence[Tensor],
    starts: Tensor | None,
    initial: Sequence[Tensor],
    border: Tensor,
    kept: Sequence[bool],
    time: int,
) -> tuple[list[Tensor], list[Tensor]]:
    """All states at all steps, and after the last.

    `step(before, at)` takes one step, `piece(before, at)` the steps up to the next at which
    `border: [batch or 1, time]` holds or a segment starts in some row. There states begin
    as `initial: [batch, time or 1, …]`. Of states that are not `kept` only the last steps
    are returned. While torch compiles, all steps are taken one by one.
    """
    before = list(first)
    if time == 0:
        return [x[:, None][:, :0] for x in before], before
    parts: list[list[Tensor]] = [[] for _ in before]
    edges = _piece_edges(border, starts, time)
    for i, end in zip(edges, [*edges[1:], time], strict=True):
        if starts is not None:
            before = [
                torch.where(
                    _by_row(starts[:, i], x), begun[:, min(i, begun.shape[1] - 1)], x
                )
                for x, begun in zip(before, initial, strict=True)
            ]
        made = [step(before, slice(i, i + 1))]
        if end > i + 1:
            rest = piece([x[:, -1] for x in made[0]], slice(i + 1, end))
            made.append([x.expand(len(x), end - i - 1, *x.shape[2:]) for x in rest])
        for states in made:
            for part, x, all_ in zip(parts, states, kept, strict=True):
                if not all_:
                    part.clear()
                part.append(x)
        before = [part[-1][:, -1] for part in parts]
    return [torch.cat(part, 1) for part in parts], before


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
