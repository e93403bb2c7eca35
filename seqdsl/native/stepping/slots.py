"""Where the values of a step lie: memory that is there, and memory that each call brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Literal

import torch
from torch import Tensor

from seqdsl.backends.mlir.run import dtype_of
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir.types import DType

Path = tuple[str | int, ...]
"""Keys and positions that lead to a tensor in a nested state, or to a module."""

Kind = Literal["input", "state", "param", "output", "after"]


@dataclass(frozen=True)
class Base:
    """A tensor that is known when a step is called.

    `path` says which: the number of an input or output, keys of a state, the modules
    that lead to a parameter. Kernels have all real parts of a complex one in front of all
    imaginary parts.
    """

    kind: Kind
    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Slot:
    """A value of a step in memory: in a tensor, or in the base of that number.

    It begins at entry `offset`; from one sequence to the next are `stride` entries, 0
    where all have the same. Imaginary parts lie `half` entries behind real ones, where
    there are any.
    """

    at: Tensor | int
    offset: int
    stride: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    half: int = 0

    def parts(self) -> tuple[Slot, ...]:
        """What kernels read or write: of complex values the real and the imaginary part."""
        if not self.half:
            return (self,)
        real = replace(self, half=0)
        return real, replace(real, offset=self.offset + self.half)


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
            wide = self._complex() if dtype == "complex" else None
            own = wide or dtype_of(dtype, self.floats)
            self.known[kind, path] = len(self.bases)
            self.bases.append(Base(kind, path, tuple(shape), own))
        return self.known[kind, path]

    def _complex(self) -> torch.dtype:
        """Raises `UnsupportedError` for floats whose complex numbers torch does not have."""
        if self.floats not in (torch.float32, torch.float64):
            raise UnsupportedError(f"no kernel has complex numbers of {self.floats}")
        return self.floats.to_complex()

    def _slot(
        self, number: int, offset: int, stride: int, shape: Sequence[int], dtype: DType
    ) -> Slot:
        own = dtype_of(dtype, self.floats)
        half = prod(self.bases[number].shape) if dtype == "complex" else 0
        return Slot(number, offset, stride, tuple(shape), own, half)

    def given(
        self, kind: Kind, path: Path, shape: Sequence[int], dtype: DType, batched: bool
    ) -> Slot:
        """A slot that is a whole base, with a row for each sequence where `batched`."""
        lead = (self.batch,) if batched else ()
        number = self.base(kind, path, (*lead, *shape), dtype)
        stride = prod(shape) if batched else 0
        return self._slot(number, 0, stride, shape, dtype)

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
        return self._slot(number, place * size, rows * size, shape, dtype)

    def fixed(self, shape: Sequence[int], dtype: DType) -> Slot:
        """Memory that all calls use."""
        kind, size = dtype_of(dtype, self.floats), prod(shape)
        half = self.batch * size if dtype == "complex" else 0
        tensor = torch.empty(half + self.batch * size, dtype=kind)
        return Slot(tensor, 0, size, tuple(shape), kind, half)

    def number(self, value: int) -> Slot:
        """A number that is the same for all sequences."""
        return Slot(torch.tensor(value), 0, 0, (), torch.int64)
