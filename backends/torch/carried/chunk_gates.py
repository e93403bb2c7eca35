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

_LEAST = 1 / 16
_BOUNDS = (1e-9, 1e3)
"""A decay, and products of decays, by which numbers may be divided."""


class _Gates(NamedTuple):
    """What is left of steps and of the states before a chunk, as one number for all rows.

    Line `i` is what is there after `i` steps, so `old` readers of a step look at its own
    line and `new` ones at the next.
    """

    kernel: Tensor  # of steps, [chunks or 1, steps + 1, steps]
    sight: Tensor | None  # of the states before, [chunks, steps + 1, 1]; None is 1
    decay: Tensor | None
    tree: _Seen | None = None  # where it was found without a division

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
    since: Tensor | None = None  # decays since the chunk began, of `divided`
    divided: "_Met | None" = None  # where writers were divided by them


def _divided_by(decay: Tensor) -> Tensor | None:
    """Products of decays since the chunk began; None where one may not divide by them."""
    since = decay.cumprod(1)
    low, high = torch.aminmax(since)
    near = low >= _BOUNDS[0] and high <= _BOUNDS[1] and decay.amin() >= _LEAST
    return since if near else None


def _behind(since: Tensor) -> Tensor:
    """The products before each step, and after the last."""
    return torch.cat([torch.ones_like(since[:, :1]), since], 1)


def _gates(at: _Steps, plain: bool) -> _Gates:
    """Where all rows decay alike."""
    some, decay = at.writers()[0], at.decay
    many, steps = some.shape[:2]
    if decay is None and at.start is None:
        return _Gates(some.new_ones(1, steps + 1, steps).tril(-1), None, None)
    since = None
    if decay is None:
        since = some.new_ones(many, steps, 1)
    elif not plain:
        since = _divided_by(decay)
    if plain or since is None:
        return _gates_by_tree(
            some.new_ones(many, steps, 1) if decay is None else decay, at.start
        )
    sight = _behind(since)
    kernel = (sight * since.reciprocal().mT).tril(-1)
    if at.start is not None:
        place = at.start.cumsum(1).unsqueeze(2)
        after = torch.nn.functional.pad(place, (0, 0, 1, 0))
        kernel, sight = kernel * (after == place.mT), sight * (after == 0)
    return _Gates(kernel, sight, decay)


def _gates_by_tree(decay: Tensor, start: Tensor | None) -> _Gates:
    """The same without a division."""
    if start is not None:
        decay = decay.where(~start.unsqueeze(2), 0)
    one = torch.ones_like(decay.unsqueeze(-1))
    tree = _tree([one], [one], [[one - one]], decay, 1)
    kernel = torch.cat([tree.kernels[0][0], tree.writers[0].mT], 1)
    sight = torch.cat([tree.readers[0], tree.total.unsqueeze(1)], 1)
    return _Gates(kernel, sight, decay, tree)


def _gated(x: Tensor, gate: Tensor) -> Tensor:
    """A kernel times one number for every pair of steps."""
    many, high, wide = x.shape
    steps = gate.shape[1]
    if steps == high and steps == wide:
        return x * gate
    apart = x.reshape(many, steps, high // steps, steps, wide // steps)
    return (apart * gate[:, :, None, :, None]).reshape(x.shape)


def _evenly(at: _Steps, plain: bool) -> _Met:
    """What they see where all rows decay alike."""
    writers, readers = at.writers(), at.readers()
    gates = _gates(at, plain)
    pairs = [[_pairs(x, y) for y in writers] for x in readers]
    each = [gates.of(x is at.new) for x in readers]
    kernels = [
        [_gated(x, gate) for x in line]
        for line, (gate, _) in zip(pairs, each, strict=True)
    ]
    reach = gates.reach()
    early = [_lessened(x, sight) for x, (_, sight) in zip(readers, each, strict=True)]
    late = [_lessened(x, reach) for x in writers]
    total = gates.kernel[:, -1, :1] if gates.sight is None else gates.sight[:, -1]
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


def _divided(at: _Steps, decay: Tensor) -> _Met | None:
    """The same where decays are so near 1 that what is behind may be divided by them.

    Then writers are divided and readers multiplied by the decays since the chunk began.
    No entry that counts is larger for it. None where decays are not so near.
    """
    since = _divided_by(decay)
    if since is None:
        return None
    after, back = since.unsqueeze(2), since.reciprocal().unsqueeze(2)
    before = after
    if at.right is not None or at.old is not None:
        before = _behind(since)[:, :-1].unsqueeze(2)
    scaled = at._replace(
        decay=None,
        right=None if at.right is None else at.right * before,
        into=None if at.into is None else at.into * back,
        left=None if at.left is None else at.left * back,
        old=None if at.old is None else at.old * before,
        new=None if at.new is None else at.new * after,
    )
    met = _evenly(scaled, False)
    end = since[:, -1:]
    writers = [x * end for x in met.seen.writers]
    seen = met.seen._replace(writers=writers, total=met.seen.total * end.squeeze(1))
    return _Met(seen, at, since=since, divided=met)


def _cut(at: _Steps) -> _Steps:
    """Nothing is seen across the beginning of a segment, and so for gradients."""
    start = at.start
    if start is None:
        return at
    here = start[:, :, None, None]
    right = None if at.right is None else at.right.where(~here, 0)
    old = None if at.old is None else at.old.where(~here, 0)
    return at._replace(right=right, old=old)


def _met(at: _Steps, states: int, plain: bool) -> _Met:
    """What all readers see; not `plain` looks at numbers for a shorter way."""
    at, decay = _cut(at), at.decay
    if decay is None or (states == 1 and decay.shape[-1] == 1):
        return _evenly(at, plain)
    found = None if plain or states > 1 else _divided(at, decay)
    if found is not None:
        return found
    if at.start is not None:
        here = at.start.reshape(*at.start.shape, *[1] * (decay.dim() - 2))
        decay = decay.where(~here, 0)
    return _unevenly(at._replace(decay=decay), decay, states)
