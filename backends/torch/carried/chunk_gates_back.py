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
)

__all__ = ["_MetBack", "_met_back", "_summed"]


class _MetBack(NamedTuple):
    """Gradients of what a `_Seen` has."""

    kernels: list[list[Tensor]]
    readers: list[Tensor]
    writers: list[Tensor]
    total: Tensor


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
    half = level.readers[0].shape[1]
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


def _evenly_back(met: _Met, back: _MetBack) -> _Level:
    """Gradients where all rows decay alike."""
    at, gates, pairs = met.at, met.gates, met.pairs
    assert gates is not None and pairs is not None
    readers, writers = at.readers(), at.writers()
    steps, found = gates.kernel.shape[2], _gates_like(gates)
    d_readers, d_writers = (
        [_apart(d, 1, steps, d.shape[1] // steps) for d in ds]
        for ds in (back.readers, back.writers)
    )
    if found is not None:
        reach, by_reach = gates.reach(), found.reach()
        assert reach is not None and by_reach is not None
        for k, y in enumerate(writers):
            by_reach += (d_writers[k] * y).sum((2, 3)).unsqueeze(2)
            d_writers[k] = d_writers[k] * reach.unsqueeze(2)
        assert found.sight is not None
        found.sight[:, -1] += back.total
    for i, x in enumerate(readers):
        gate, sight = gates.of(x is at.new)
        if found is not None and sight is not None:
            by_gate, by_sight = found.of(x is at.new)
            assert by_sight is not None
            by_sight += (d_readers[i] * x).sum((2, 3)).unsqueeze(2)
            d_readers[i] = d_readers[i] * sight.unsqueeze(2)
            for d, pair in zip(back.kernels[i], pairs[i], strict=True):
                _gate_back(by_gate, d, pair)
        for j, y in enumerate(writers):
            block = _gated(back.kernels[i][j], gate)
            d_readers[i].flatten(1, 2).baddbmm_(block, y.flatten(1, 2))
            d_writers[j].flatten(1, 2).baddbmm_(block.mT, x.flatten(1, 2))
    decay = gates.kernel
    if found is not None:
        decay = _decay_of(gates, found)
    if found is not None and gates.decay is not None and at.start is not None:
        decay = decay.masked_fill(at.start.unsqueeze(2), 0)
    return _Level(d_readers, d_writers, decay)


def _gates_like(gates: _Gates) -> _Gates | None:
    """Gradients of gates that are there, still 0."""
    if gates.sight is None:
        return None
    kernel, sight = torch.zeros_like(gates.kernel), torch.zeros_like(gates.sight)
    return _Gates(kernel, sight, gates.decay)


def _gate_back(grad: Tensor, kernel: Tensor, pairs: Tensor) -> None:
    """Add what comes from `pairs` times a gate."""
    if kernel.shape == grad.shape:
        grad.addcmul_(kernel, pairs)
    else:
        grad.add_(_by_steps(kernel * pairs, grad.shape[2]))


def _decay_of(gates: _Gates, grad: _Gates) -> Tensor:
    """Gradient of the decays, given that of the gates."""
    decay = gates.decay
    assert gates.sight is not None and grad.sight is not None
    if decay is None:
        return gates.sight
    if gates.tree is not None:
        (kernel, sight), reach = grad.of(False), grad.reach()
        assert sight is not None and reach is not None
        inner = _MetBack([[kernel]], [sight], [reach], grad.sight[:, -1])
        found = _tree_back(gates.tree, inner, decay.shape[1], 1)
        return _apart(found.total, 0, *decay.shape[:2])
    pairs = grad.kernel * gates.kernel
    by_log = pairs.sum(2, keepdim=True).addcmul_(grad.sight, gates.sight)[:, 1:]
    return _since_back(by_log - pairs.sum(1).unsqueeze(2), decay)


def _since_back(by_log: Tensor, decay: Tensor) -> Tensor:
    """Of decays, given the gradients of the logarithms of their products up to each step."""
    steps = decay.shape[1]
    later = by_log.new_ones(steps, steps).triu()
    return (later @ by_log).div_(decay)


def _by_steps(x: Tensor, steps: int) -> Tensor:
    """Summed over the readers and writers of each pair of steps."""
    many, high, wide = x.shape
    if high == steps and wide == steps:
        return x
    apart = x.reshape(many, steps, high // steps, steps, wide // steps)
    return apart.sum((2, 4))


def _unevenly_back(met: _Met, back: _MetBack, states: int) -> _Level:
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
    return _Level(readers, writers, d_decay)


def _divided_back(met: _Met, back: _MetBack) -> _Level:
    """Gradients where readers were multiplied by products of decays, and writers divided."""
    inner, since, at = met.divided, met.since, met.at
    assert inner is not None and since is not None and at.decay is not None
    by_log, end = torch.zeros_like(since), since[:, -1:]
    for d, x in zip(back.writers, met.seen.writers, strict=True):
        by_log[:, -1] += (d * x).sum(1)
    by_log[:, -1] += back.total * met.seen.total
    writers = [d.mul_(end) for d in back.writers]
    total = (back.total * end.squeeze(1)).sum(1, keepdim=True)
    found = _evenly_back(inner, back._replace(writers=writers, total=total))
    after = since.unsqueeze(2)
    for d, x in zip(found.writers, inner.at.writers(), strict=True):
        _log_back(by_log, d, x, -1)
        d.div_(after)
    for d, x in zip(found.readers, inner.at.readers(), strict=True):
        if x is inner.at.new:
            _log_back(by_log, d, x, 1)
            d.mul_(after)
        else:
            _log_back(by_log[:, :-1], d[:, 1:], x[:, 1:], 1)
            d[:, 1:].mul_(after[:, :-1])
    return _Level(found.readers, found.writers, _since_back(by_log, at.decay))


def _log_back(by_log: Tensor, grad: Tensor, x: Tensor, sign: int) -> None:
    """Add what comes from `x: [chunks, steps, count, rows]`, already multiplied."""
    for i in range(x.shape[2]):
        by_log.addcmul_(grad[:, :, i], x[:, :, i], value=sign)


def _met_back(met: _Met, back: _MetBack, states: int) -> _Level:
    """Gradients of readers, writers and decays of all steps."""
    if met.divided is not None:
        return _divided_back(met, back)
    if met.gates is not None:
        return _evenly_back(met, back)
    return _unevenly_back(met, back, states)
