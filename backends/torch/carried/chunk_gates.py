"""What readers see of writers, the shortest way that the decays allow."""

from typing import NamedTuple

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunks import (
    _carried,
    _pairs,
    _Seen,
    _Steps,
    _tree,
)

__all__ = ["_Gates", "_Met", "_cut", "_gated", "_met"]


class _Gates(NamedTuple):
    """What is left of steps and of the states before a chunk, as one number for all rows.

    Line `i` is what is there after `i` steps, so `old` readers of a step look at its own
    line and `new` ones at the next.
    """

    kernel: Tensor  # of steps, [chunks or 1, steps + 1, steps]
    sight: Tensor | None = (
        None  # of the states before, [chunks, steps + 1, 1]; None is 1
    )
    decay: Tensor | None = None  # of which both were made, by a tree
    tree: _Seen | None = None

    def of(self, new: bool) -> tuple[Tensor, Tensor | None]:
        """What readers see of steps and of the states before the chunk."""
        at = slice(1, None) if new else slice(0, -1)
        sight = None if self.sight is None else self.sight[:, at]
        return self.kernel[:, at], sight

    def reach(self) -> Tensor | None:
        """What is left of steps at the end, `[chunks, steps, 1]`."""
        return None if self.sight is None else self.kernel[:, -1:].mT


class _Met(NamedTuple):
    """What readers see, and how that was found."""

    seen: _Seen
    at: _Steps  # of which it was made
    gates: _Gates | None = None  # where all rows decay alike
    pairs: list[list[Tensor]] | None = None  # readers with writers before these


def _gates(at: _Steps) -> _Gates:
    """Where nothing decays: all that is before, in the same segment."""
    some = at.writers()[0]
    seen = some.new_ones(1, some.shape[1] + 1, some.shape[1]).tril(-1)
    if at.start is None:
        return _Gates(seen)
    place = at.start.cumsum(1).unsqueeze(2)
    after = torch.nn.functional.pad(place, (0, 0, 1, 0))
    return _Gates(seen * (after == place.mT), (after == 0).to(seen.dtype))


def _gates_by_tree(decay: Tensor, start: Tensor | None) -> _Gates:
    """Of one decay for all rows, without a division."""
    if start is not None:
        decay = decay.where(~start.unsqueeze(2), 0)
    one = torch.ones_like(decay.unsqueeze(-1))
    tree = _tree([one], [one], [[one - one]], decay, 1)
    assert tree.total is not None
    kernel = torch.cat([tree.kernels[0][0], tree.writers[0].mT], 1)
    sight = torch.cat([tree.readers[0], tree.total.unsqueeze(1)], 1)
    return _Gates(kernel, sight, decay, tree)


def _gated(x: Tensor, gate: Tensor, own: bool) -> Tensor:
    """A kernel times one number for every pair of steps, in place where it is our `own`."""
    many, high, wide = x.shape
    steps = gate.shape[1]
    apart = x.reshape(many, steps, high // steps, steps, wide // steps)
    gate = gate[:, :, None, :, None]
    return (apart.mul_(gate) if own else apart * gate).reshape(x.shape)


def _evenly(at: _Steps, gates: _Gates) -> _Met:
    """What they see where all rows decay alike."""
    writers, readers = at.writers(), at.readers()
    pairs = [[_pairs(x, y) for y in writers] for x in readers]
    each = [gates.of(x is at.new) for x in readers]
    kernels = [
        [_gated(x, gate, False) for x in line]
        for line, (gate, _) in zip(pairs, each, strict=True)
    ]
    reach = gates.reach()
    early = [_lessened(x, sight) for x, (_, sight) in zip(readers, each, strict=True)]
    late = [_lessened(x, reach) for x in writers]
    total = None if gates.sight is None else gates.sight[:, -1]
    return _Met(_Seen(kernels, early, late, total, []), at, gates, pairs)


def _lessened(x: Tensor, left: Tensor | None) -> Tensor:
    """`[chunks, steps * count, rows]` times what is left of each step; None is all."""
    return (x if left is None else x * left.unsqueeze(2)).flatten(1, 2)


def _unevenly(at: _Steps, decay: Tensor, states: int) -> _Met:
    """The same with a decay for each row; of new states a reader also sees its own step."""
    writers, readers = at.writers(), at.readers()
    own = [[x.new_zeros(*x.shape[:3], y.shape[2]) for y in writers] for x in readers]
    if at.new is not None:
        own[-1] = [(at.new.unsqueeze(3) * y.unsqueeze(2)).sum(-1) for y in writers]
        readers[-1] = _carried(at.new, decay, states)
    return _Met(_tree(readers, writers, own, decay, states), at)


def _cut(at: _Steps) -> _Steps:
    """Nothing is seen across the beginning of a segment, and so for gradients."""
    start = at.start
    if start is None:
        return at
    here = start[:, :, None, None]
    right = None if at.right is None else at.right.where(~here, 0)
    old = None if at.old is None else at.old.where(~here, 0)
    return at._replace(right=right, old=old)


def _met(at: _Steps, states: int) -> _Met:
    """What all readers see."""
    at = _cut(at)
    decay = at.decay
    if decay is None:
        return _evenly(at, _gates(at))
    if states == 1 and decay.shape[-1] == 1:
        return _evenly(at, _gates_by_tree(decay, at.start))
    if at.start is not None:
        here = at.start.reshape(*at.start.shape, *[1] * (decay.dim() - 2))
        decay = decay.where(~here, 0)
    return _unevenly(at._replace(decay=decay), decay, states)
