"""Random steps of matrix states, and the plain loop that says what they do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from seqdsl.backends.torch.carried import chunkwise

NAMES = ("decay", "right", "left", "value", "query", "first", "initial")
DECAYS = (0.0, 1e-30, 0.5, 0.99, 1.0, 1.3, -0.7)


@dataclass(frozen=True, kw_only=True)
class Case:
    """How many of everything; `kept` says of what shape decays are, or that none is small.

    Where they are `silent` erases write nothing of their own; where `minus` they are given
    by the negative of what they read.
    `grouped` has two chunks in a group, so that small cases have several groups.
    """

    seed: int = 0
    batch: int = 2
    time: int = 11
    copies: int = 2
    rows: int = 3
    columns: int = 2
    erases: int = 1
    writes: int = 2
    queries: int = 2
    now: int = 1
    states: int = 1
    kept: str = "rows"
    segments: bool = True
    zero: bool = False
    silent: bool = False
    reverse: bool = False
    minus: bool = False
    size: int = 4
    grouped: bool = True

    def tensors(self, dtype: torch.dtype = torch.float64) -> dict[str, Tensor | None]:
        """Random arguments; erases and decays of several states keep values small."""
        make = torch.Generator().manual_seed(self.seed)
        lead = (self.batch, self.time, self.copies)

        def noise(*shape: int) -> Tensor:
            return torch.randn(shape, generator=make, dtype=torch.float64).to(dtype)

        width = self.states * self.rows
        matrix = (self.batch, self.copies, width, self.columns)
        right = noise(*lead, self.erases, width) * 0.4 if self.erases else None
        return {
            "decay": self._decay(make, dtype),
            "right": right,
            "left": noise(*lead, self.writes, width) * 0.4,
            "value": noise(*lead, self.writes, self.columns),
            "query": noise(*lead, self.queries, width),
            "first": noise(*matrix),
            "initial": None if self.zero else noise(*matrix),
        }

    def _decay(self, make: torch.Generator, dtype: torch.dtype) -> Tensor | None:
        if self.kept == "all" and self.states == 1:
            return None
        count = 1 if self.kept.endswith("one") else self.rows
        shape = (self.batch, self.time, self.copies, count)
        if self.states > 1:
            shape = (*shape[:3], self.states, self.states, count)
            found = torch.rand(shape, generator=make, dtype=torch.float64)
            return ((found * 1.5 - 0.5) / self.states).to(dtype)
        if self.kept.startswith("near"):
            found = torch.rand(shape, generator=make, dtype=torch.float64)
            return (0.6 + 0.7 * found).to(dtype)
        places = torch.randint(0, len(DECAYS), shape, generator=make)
        return torch.tensor(DECAYS, dtype=torch.float64)[places].to(dtype)

    def starts(self) -> Tensor | None:
        """Where segments begin."""
        make = torch.Generator().manual_seed(self.seed + 1)
        found = torch.rand((self.batch, self.time), generator=make) < 0.3
        return found if self.segments else None


def by_chunks(
    case: Case, tensors: dict[str, Tensor | None], starts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What generated modules call."""
    grouped = _two if case.grouped else chunkwise._group_size
    with patch.object(chunkwise, "_group_size", grouped):
        return chunkwise._chunkwise(*arguments(case, tensors, starts))


def arguments(
    case: Case, t: dict[str, Tensor | None], starts: Tensor | None
) -> tuple[Any, ...]:
    """Those of `_chunkwise`: erases apart from writes, old queries from new ones."""
    left, value, query = t["left"], t["value"], t["query"]
    assert left is not None and value is not None and query is not None
    n, old = case.erases, case.queries - case.now
    into, known = (left[..., :n, :], value[..., :n, :]) if n else (None, None)
    known = None if case.silent else known
    plain = (left[..., n:, :], value[..., n:, :])
    if case.writes == n:
        plain = (None, None)
    queries = (
        query[..., :old, :] if old else None,
        query[..., old:, :] if case.now else None,
    )
    right = t["right"]
    right = -right if case.minus and right is not None else right
    return (
        t["decay"], right, into, known, *plain, *queries, t["first"], t["initial"],
        starts, case.time, case.size, case.states, case.reverse, case.minus,
    )  # fmt: skip


def _two(size: int, width: int) -> int:
    """Two chunks in a group."""
    return 2 * size


def by_steps(
    case: Case, tensors: dict[str, Tensor | None], starts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One step after another, as the docstring of `_chunkwise` says."""
    order = range(case.time)
    state = tensors["first"]
    assert state is not None
    fresh = tensors["initial"]
    fresh = torch.zeros_like(state) if fresh is None else fresh
    outs: list[Tensor] = []
    for t in reversed(order) if case.reverse else order:
        along = {n: tensors[n] for n in NAMES[:5]}
        at = {n: None if x is None else x[:, t] for n, x in along.items()}
        if starts is not None:
            state = torch.where(starts[:, t, None, None, None], fresh, state)
        value, left, query = at["value"], at["left"], at["query"]
        assert value is not None and left is not None and query is not None
        if at["right"] is not None:
            erased = at["right"] @ state
            n, own = case.erases, 0 if case.silent else 1
            value = torch.cat([own * value[:, :, :n] + erased, value[:, :, n:]], 2)
        before, state = state, _kept(case, at["decay"], state) + left.mT @ value
        old = case.queries - case.now
        outs.append(
            torch.cat([query[:, :, :old] @ before, query[:, :, old:] @ state], 2)
        )
    outs = outs[::-1] if case.reverse else outs
    shape = (case.batch, 0, case.copies, case.queries, case.columns)
    return torch.stack(outs, 1) if outs else state.new_zeros(shape), state


def _kept(case: Case, decay: Tensor | None, state: Tensor) -> Tensor:
    if decay is None:
        return state
    if case.states == 1:
        return decay.unsqueeze(-1) * state
    apart = state.reshape(*state.shape[:2], case.states, case.rows, case.columns)
    return torch.einsum(
        "bhack,bhckv->bhakv", decay.expand(*decay.shape[:-1], case.rows), apart
    ).flatten(2, 3)


def leaves(case: Case, dtype: torch.dtype = torch.float64) -> dict[str, Tensor | None]:
    """The arguments with gradients asked for."""
    found = case.tensors(dtype)
    return {n: None if x is None else x.requires_grad_() for n, x in found.items()}


def there(tensors: dict[str, Tensor | None]) -> list[Tensor]:
    """Those that are there."""
    return [x for x in tensors.values() if x is not None]


def close(found: Tensor, wanted: Tensor, most: float) -> None:
    """Differences of at most `most` of the largest number."""
    scale = 1 + (wanted.abs().max() if wanted.numel() else 0)
    assert found.shape == wanted.shape
    assert bool(((found - wanted).abs() <= most * scale).all())


def changed(case: Case, **more: object) -> Case:
    """`case` with other numbers."""
    return replace(case, **more)  # pyright: ignore[reportArgumentType]
