"""Where the values of a step lie: memory that is there, and memory that each call brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import torch
from torch import Tensor

from seqdsl.backends.mlir.run import dtype_of
from seqdsl.ir.types import DType

Path = tuple[str | int, ...]
"""Keys and positions that lead to a tensor in a nested state, or to a module."""

Kind = Literal["input", "state", "param", "output", "after"]


@dataclass(frozen=True)
class Base:
    """A tensor that is known when a step is called.

    `path` says which: the number of an input or output, keys of a state, the modules
    that lead to a parameter.
    """

    kind: Kind
    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Slot:
    """A value of a step in memory: in a tensor, or in the base of that number.

    It begins at entry `offset`; from one sequence to the next are `stride` entries, 0
    where all have the same.
    """

    at: Tensor | int
    offset: int
    stride: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass
class Store:
    """Makes slots for one batch size and dtype of floats."""

    batch: int
    floats: torch.dtype
    bases: list[Base] = field(default_factory=list[Base])
    known: dict[tuple[Kind, Path], int] = field(
        default_factory=dict[tuple[Kind, Path], int]
    )

    def base(self, kind: Kind, path: Path, shape: Sequence[int], dtype: DType) -> int:
        """The number of a base."""
        if (kind, path) not in self.known:
            made = Base(kind, path, tuple(shape), dtype_of(dtype, self.floats))
            self.known[kind, path] = len(self.bases)
            self.bases.append(made)
        return self.known[kind, path]

    def given(
        self, kind: Kind, path: Path, shape: Sequence[int], dtype: DType, batched: bool
    ) -> Slot:
        """A slot that is a whole base, with a row for each sequence where `batched`."""
        lead = (self.batch,) if batched else ()
        number = self.base(kind, path, (*lead, *shape), dtype)
        stride = prod(shape) if batched else 0
        return Slot(number, 0, stride, tuple(shape), self.bases[number].dtype)

    def row(
        self,
        kind: Kind,
        path: Path,
        rows: int,
        place: int,
        shape: Sequence[int],
        dtype: DType,
    ) -> Slot:
        """The row `place` of a base that holds `rows` earlier values of each sequence."""
        size = prod(shape)
        number = self.base(kind, path, (self.batch, rows, *shape), dtype)
        own = self.bases[number].dtype
        return Slot(number, place * size, rows * size, tuple(shape), own)

    def fixed(self, shape: Sequence[int], dtype: DType) -> Slot:
        """Memory that all calls use."""
        kind = dtype_of(dtype, self.floats)
        tensor = torch.empty((self.batch, *shape), dtype=kind)
        return Slot(tensor, 0, prod(shape), tuple(shape), kind)

    def number(self, value: int) -> Slot:
        """A number that is the same for all sequences."""
        return Slot(torch.tensor(value), 0, 0, (), torch.int64)
