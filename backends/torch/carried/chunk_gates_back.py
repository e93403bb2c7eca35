"""Gradients of what steps of a chunk do to each other, in place where that saves memory."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunk_gates import (
    _gated,
    _Gates,
    _Met,
)
from seqdsl.backends.torch.carried.chunks import (
    _apart,
    _carried,
    _Level,
    _odd_even,
    _Seen,
    _spots,
    _Steps,
)

__all__ = ["_MetBack", "_Sides", "_met_back", "_summed"]


class _MetBack(NamedTuple):
    """Gradients of what a `_Seen` has, in place of which others may be put."""

    kernels: list[list[Tensor]]
    readers: list[Tensor]
    writers: list[Tensor]
    total: Tensor | None  # of all that is left; None where that is all


_Sides = tuple[list[Tensor], list[Tensor], Tensor | None]


def _summed(x: Tensor, like: Tensor) -> Tensor:
    """`x` with its last dimension summed where `like` has only one entry there."""
    return x if x.shape[-1] == like.shape[-1] else x.sum(-1, keepdim=True)


def _decay_back(
    reader: Tensor, grad: Tensor, decay: Tensor, states: int, dims: tuple[int, ...]
) -> Tensor:
    """Of a decay over which `reader: […, rows]` was carried back; `dims` are summed."""
    if states == 1:
        return _summed((reader * grad).sum(dims), decay)
    size = reader.shape[-1] // states
    reader, grad = _apart(reader, -1, states, size), _apart(grad, -1, states, size)
    return _summed((reader.unsqueeze(-2) * grad.unsqueeze(-3)).sum(dims), decay)


def _plus(x: Tensor, kernel: Tensor, y: Tensor) -> None:
    """Add `kernel @ y` to `x: [many, steps, count, rows]`, for `y` alike."""
    many, steps, count, rows = x.shape
    y = y.flatten(1, 2)
    if rows == 1 or steps * count * y.shape[1] <= 2:
        more = (kernel.unsqueeze(-1) * y.unsqueeze(1)).sum(2)
    else:
        more = kernel @ y
    x.add_(more.view(many, steps, count, rows))


def _tree_back(seen: _Seen, back: _MetBack, steps: int, states: int) -> _Level:
    """Gradients of the readers, writers and decays of single steps."""
    readers, writers = (
        [_apart(x, 1, steps, x.shape[1] // steps) for x in xs]
        for xs in (back.readers, back.writers)
    )
    assert back.total is not None
    found = _Level(readers, writers, back.total)
    for i in reversed(range(len(seen.levels))):
        across = [[_spots(x, steps, 2 << i) for x in line] for line in back.kernels]
        blocks = [[x.flatten(0, 1) for x in line] for line in across]
        found = _halves_back(seen.levels[i], found, blocks, states)
    return found


def _halves_back(
    level: _Level, grad: _Level, across: Sequence[Sequence[Tensor]], states: int
) -> _Level:
    """Gradients of stretches, given those of stretches twice as long."""
    first, second = _odd_even(level.total)
    by_first, by_second = _twice_back(first, second, grad.total, states)
    half = level.writers[0].shape[1]
    late = [_odd_even(x)[1] for x in level.readers]
    early = [_odd_even(x)[0] for x in level.writers]
    for i, (x, d) in enumerate(zip(late, grad.readers, strict=True)):
        far = d[:, half:]
        by_first += _decay_back(x, far, first, states, (1, 2))
        _carry(far, first, states, on=True)
        for j, y in enumerate(early):
            _plus(far, across[i][j], y)
    for j, (y, d) in enumerate(zip(early, grad.writers, strict=True)):
        far = d[:, :half]
        by_second += _decay_back(far, y, second, states, (1, 2))
        _carry(far, second, states, on=False)
        for i, x in enumerate(late):
            _plus(far, across[i][j].mT, x)
    readers, writers = (
        [_apart(d.flatten(0, 1), 0, 2 * len(first), half) for d in ds]
        for ds in (grad.readers, grad.writers)
    )
    total = torch.stack([by_first, by_second], 1).flatten(0, 1)
    return _Level(readers, writers, total)


def _carry(grad: Tensor, decay: Tensor, states: int, on: bool) -> None:
    """Gradients before a decay, in the place of those after it."""
    if states == 1:
        grad.mul_(decay[:, None, None])
    else:
        grad.copy_(_carried(grad, decay.unsqueeze(1), states, on))


def _twice_back(
    before: Tensor, after: Tensor, grad: Tensor, states: int
) -> tuple[Tensor, Tensor]:
    """Of one decay and of the next, given that of both."""
    if states == 1:
        return grad * after, grad * before
    first = (after.unsqueeze(-2) * grad.unsqueeze(-3)).sum(-4)
    return first, (grad.unsqueeze(-3) * before.unsqueeze(-4)).sum(-2)


def _evenly_back(met: _Met, back: _MetBack) -> _Sides:
    """Gradients of readers, writers and decays where all rows decay alike."""
    at, gates, pairs = met.at, met.gates, met.pairs
    assert gates is not None and pairs is not None
    readers, writers = at.readers(), at.writers()
    steps, found = gates.kernel.shape[2], _gates_like(gates)
    d_readers, d_writers = (
        [_apart(d, 1, steps, d.shape[1] // steps) for d in ds]
        for ds in (back.readers, back.writers)
    )
    reach = gates.reach()
    by_reach = None if found is None else found.reach()
    if found is not None and found.sight is not None and back.total is not None:
        found.sight[:, -1] += back.total
    for d, y in zip(d_writers, writers, strict=True):
        if by_reach is not None:
            by_reach += (d * y).sum((2, 3)).unsqueeze(2)
        if reach is not None:
            d.mul_(reach.unsqueeze(2))
    for i, x in enumerate(readers):
        gate, sight = gates.of(x is at.new)
        if found is not None:
            _sight_back(found.of(x is at.new), d_readers[i], x)
            for d, pair in zip(back.kernels[i], pairs[i], strict=True):
                _gate_back(found.of(x is at.new)[0], d, pair)
        if sight is not None:
            d_readers[i].mul_(sight.unsqueeze(2))
        for j, y in enumerate(writers):
            block = _gated(back.kernels[i][j], gate, True)
            d_readers[i].flatten(1, 2).baddbmm_(block, y.flatten(1, 2))
            d_writers[j].flatten(1, 2).baddbmm_(block.mT, x.flatten(1, 2))
    return d_readers, d_writers, None if found is None else _decay_of(gates, found, at)


def _sight_back(
    grad: tuple[Tensor, Tensor | None], d_reader: Tensor, x: Tensor
) -> None:
    """Add to the gradient of sight what comes from readers."""
    sight = grad[1]
    assert sight is not None
    sight += (d_reader * x).sum((2, 3)).unsqueeze(2)


def _gates_like(gates: _Gates) -> _Gates | None:
    """Gradients of gates, still 0, where they were made of decays."""
    if gates.decay is None or gates.sight is None:
        return None
    return _Gates(torch.zeros_like(gates.kernel), torch.zeros_like(gates.sight))


def _gate_back(grad: Tensor, kernel: Tensor, pairs: Tensor) -> None:
    """Add what comes from `pairs` times a gate."""
    if kernel.shape == grad.shape:
        grad.addcmul_(kernel, pairs)
    else:
        grad.add_(_by_steps(kernel * pairs, grad.shape[2]))


def _decay_of(gates: _Gates, grad: _Gates, at: _Steps) -> Tensor:
    """Gradient of the decays, given that of the gates."""
    decay, tree = gates.decay, gates.tree
    (kernel, sight), reach = grad.of(False), grad.reach()
    assert decay is not None and tree is not None
    assert grad.sight is not None and sight is not None and reach is not None
    inner = _MetBack([[kernel]], [sight], [reach], grad.sight[:, -1])
    found = _tree_back(tree, inner, decay.shape[1], 1)
    total = _apart(found.total, 0, *decay.shape[:2])
    return total if at.start is None else total.masked_fill(at.start.unsqueeze(2), 0)


def _by_steps(x: Tensor, steps: int) -> Tensor:
    """Summed over the readers and writers of each pair of steps."""
    many, high, wide = x.shape
    if high == steps and wide == steps:
        return x
    apart = x.reshape(many, steps, high // steps, steps, wide // steps)
    return apart.sum((2, 4))


def _unevenly_back(met: _Met, back: _MetBack, states: int) -> _Sides:
    """Gradients with a decay for each row."""
    at, decay = met.at, met.at.decay
    assert decay is not None
    many, steps = decay.shape[:2]
    found = _tree_back(met.seen, back, steps, states)
    readers, writers = (
        [_apart(d.flatten(1, 2), 0, many, steps) for d in ds]
        for ds in (found.readers, found.writers)
    )
    d_decay = _apart(found.total, 0, many, steps)
    if at.new is not None:
        d_decay += _decay_back(at.new, readers[-1], decay, states, (2,))
        readers[-1] = _carried(readers[-1], decay, states, on=True)
        for d, y, kernel in zip(writers, at.writers(), back.kernels[-1], strict=True):
            own = _spots(kernel, steps, 1)
            readers[-1] += (own.unsqueeze(-1) * y.unsqueeze(2)).sum(3)
            d += (own.unsqueeze(-1) * at.new.unsqueeze(3)).sum(2)
    if at.start is not None:
        here = at.start.reshape(*at.start.shape, *[1] * (decay.dim() - 2))
        d_decay.masked_fill_(here, 0)
    return readers, writers, d_decay


def _met_back(met: _Met, back: _MetBack, states: int) -> _Sides:
    """Gradients of readers, writers and decays of all steps."""
    if met.gates is not None:
        return _evenly_back(met, back)
    return _unevenly_back(met, back, states)
