"""What a random spec has declared so far: names, dims, and the dice."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import strategies as st

from seqdsl.ir.types import DType

_T = TypeVar("_T")
Draw = Callable[[st.SearchStrategy[_T]], _T]
Dims = tuple[str, ...]

SHAPES: tuple[Dims, ...] = (
    (),
    ("D",),
    ("H",),
    ("K",),
    ("M",),
    ("H", "K"),
    ("K", "D"),
)
"""Shapes of values; `M` is `H * K`, `J` is `D` under a second name."""


@dataclass(frozen=True)
class Named:
    """A value that expressions may read by `text`.

    `varies`: along time, so that it may be shifted; `sign`: only to earlier (`-`) or
    later (`+`) steps, as a state whose recurrence runs one way; empty for others.
    """

    text: str
    dims: Dims = ()
    dtype: DType = "float"
    varies: bool = True
    sign: str = ""


@dataclass
class Writer:
    """A layer on its way: statements written, names to read, what is allowed.

    `causal`: nothing reads what comes later. `random`: dropout and sampling may occur.
    `axis`: the `repeat` that statements now go into.
    """

    draw: Callable[[st.SearchStrategy[object]], object]
    causal: bool = True
    random: bool = False
    names: list[Named] = field(default_factory=list[Named])
    lines: list[str] = field(default_factory=list[str])
    layers: list[str] = field(default_factory=list[str])
    axis: str | None = None
    indent: str = ""
    counter: list[int] = field(default_factory=lambda: [0])

    def pick(self, choices: Sequence[_T]) -> _T:
        """One of `choices`; earlier ones are simpler."""
        index = self.draw(st.integers(0, len(choices) - 1))
        assert isinstance(index, int)
        return choices[index]

    def chance(self, percent: int) -> bool:
        """True that often; shrinks to False."""
        number = self.draw(st.integers(0, 99))
        assert isinstance(number, int)
        return number >= 100 - percent

    def fresh(self, stem: str) -> str:
        """A name not used before in this layer."""
        self.counter[0] += 1
        return f"{stem}{self.counter[0]}"

    def declare(self, line: str) -> None:
        """A statement of the whole layer, whatever is being written now."""
        self.lines.insert(0, line)

    def add(self, name: str, dims: Dims, *lines: str) -> None:
        """A float value defined by `lines`, which may be read from now on."""
        self.lines += [f"{self.indent}{line}" for line in lines]
        self.names.append(Named(name, dims, varies=self.varies(*lines)))

    def varies(self, *lines: str) -> bool:
        """Whether what `lines` define surely changes along time."""
        words = set(re.findall(r"\w+", " ".join(lines)))
        statistics = any(re.search(r"mean\(|\[t\]|last", line) for line in lines)
        moving = {v.text for v in self.names if v.varies}
        return bool(words & moving) and not statistics

    def readable(
        self,
        dims: Dims | None = None,
        dtype: DType = "float",
        varies: bool = False,
    ) -> list[Named]:
        """Names of that dtype (and those dims), in declared order."""
        return [
            v
            for v in self.names
            if v.dtype == dtype
            and (dims is None or set(v.dims) == set(dims))
            and (v.varies or not varies)
        ]

    def any_float(self, varies: bool = False) -> Named:
        """Some float value; the first input is always one."""
        return self.pick(self.readable(varies=varies))


def shape(dims: Dims) -> str:
    """`[H, K]`."""
    return f"[{', '.join(dims)}]"


def target(dims: Dims) -> str:
    """Output dims of `linear`: `H`, or a list."""
    return dims[0] if len(dims) == 1 else shape(dims)
