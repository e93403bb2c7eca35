"""Steps of matrix states that are several turns, each seeing what those before it did."""

import torch
from torch import Tensor

__all__ = ["_in_turn"]


def _in_turn(
    decay: Tensor | None,
    right: Tensor,
    into: Tensor,
    known: Tensor | None,
    left: Tensor | None,
    value: Tensor | None,
    kept: Tensor | None,
    count: int,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None]:
    """The decay of a whole step, and its erases in terms of the states before it.

    A step decays and then takes `count` turns; each makes `kept * S + into^T (known +
    right S) + left^T value` of the states `S` before the turn. All are as `_chunkwise`
    takes them, the turns of an erase or write one after another. Multiplied out, a turn
    reads the states before the step and, through products of vectors, what earlier turns
    of the step wrote.
    """
    if known is None and value is not None:
        known = value.new_zeros(*right.shape[:-1], value.shape[-1])
    rights: list[Tensor] = []
    intos: list[Tensor] = []
    knowns: list[Tensor] = []
    for turn in range(count):
        reader = _of_turn(right, turn, count)
        seen = reader if decay is None else reader * decay.unsqueeze(-2)
        mine = None if known is None else _of_turn(known, turn, count)
        if intos:
            pairs = reader @ torch.cat(intos, -2).mT
            seen = seen + pairs @ torch.cat(rights, -2)
            mine = None if mine is None else mine + pairs @ torch.cat(knowns, -2)
        if kept is not None:
            now = kept[..., turn, :]
            decay = now if decay is None else decay * now
            intos = [x * now.unsqueeze(-2) for x in intos]
        rights.append(seen)
        intos.append(_of_turn(into, turn, count))
        if mine is not None:
            knowns.append(mine)
        if left is not None and value is not None:
            writer = _of_turn(left, turn, count)
            rights.append(torch.zeros_like(writer))
            intos.append(writer)
            knowns.append(_of_turn(value, turn, count))
    found = torch.cat(knowns, -2) if knowns else None
    return decay, torch.cat(rights, -2), torch.cat(intos, -2), found


def _of_turn(x: Tensor, turn: int, count: int) -> Tensor:
    """`[…, many * count, entries]` at one of `count` turns."""
    return x[..., turn::count, :]
