"""Types of values: dtype, named dims, and the axes along which a value varies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DType = Literal["bool", "int", "float", "complex"]
DTYPES: tuple[DType, ...] = ("bool", "int", "float", "complex")

BATCH = "batch"
"""The implicit axis of independent sequences."""
TIME = "t"
"""The implicit axis of every layer."""


@dataclass(frozen=True, slots=True)
class Type:
    """What a value is: `dims` are stored extents, `axes` what it is a function of.

    `axes` holds `BATCH`, `TIME`, names of `repeat` axes and of copies of the time
    axis. A parameter has no axes (or, untied, its `repeat` axes).
    """

    dtype: DType
    dims: tuple[str, ...] = ()
    axes: frozenset[str] = frozenset()

    @property
    def varies(self) -> bool:
        """Whether the value changes along time."""
        return TIME in self.axes

    def __str__(self) -> str:
        shape = f"[{', '.join(self.dims)}]"
        return shape if self.dtype == "float" else f"{self.dtype} {shape}"


def promote(*dtypes: DType) -> DType:
    """The smallest dtype that holds all of `dtypes`: bool < int < float < complex."""
    return DTYPES[max(map(DTYPES.index, dtypes), default=0)]


def merge_dims(*shapes: tuple[str, ...]) -> tuple[str, ...]:
    """Union of named dims.

    The first shape that contains all the others sets the order; otherwise dims come
    in order of first appearance.
    """
    union = dict.fromkeys(dim for shape in shapes for dim in shape)
    for shape in shapes:
        if len(shape) == len(union):
            return shape
    return tuple(union)
