"""Cases: everything that varies between examples, as a few small numbers.

Tensors follow from the numbers, so a case prints as one line and can be run again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, repeat
from typing import Literal

import torch
from hypothesis import strategies as st
from torch import Tensor

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.testing.subject import Subject, Tensors

Values = Literal["plain", "steps", "large"]
"""Float inputs: normal; multiples of 1/2 with many ties; up to a thousand in size."""
VALUES: tuple[Values, ...] = ("plain", "steps", "large")


@dataclass(frozen=True)
class Case:
    """One example for a subject.

    `cuts` are the lengths of the pieces of a sequence and sum to `time`; `runs` are the
    lengths of the segments of each row, ids `0, 1, 0, 2, …` along them.
    """

    seed: int = 0
    batch: int = 1
    time: int = 1
    cuts: tuple[int, ...] = ()
    runs: tuple[tuple[int, ...], ...] = ()
    values: Values = "plain"

    def __str__(self) -> str:
        parts = [f"seed={self.seed} batch={self.batch} time={self.time}"]
        if self.cuts:
            parts.append(f"cuts={_join(self.cuts)}")
        if self.runs:
            parts.append(f"runs={'/'.join(map(_join, self.runs))}")
        if self.values != "plain":
            parts.append(f"values={self.values}")
        return " ".join(parts)

    @property
    def size(self) -> tuple[int, int]:
        """Batch and time."""
        return self.batch, self.time

    @property
    def pieces(self) -> tuple[tuple[int, int], ...]:
        """Where each piece starts and ends."""
        ends = list(accumulate(self.cuts))
        return tuple(zip([0, *ends], ends, strict=False))

    def segments(self) -> Tensor:
        """`[batch, time]` ids; neighbors differ, and ids come back after a while."""
        rows = [
            list(chain.from_iterable(repeat(_id(i), n) for i, n in enumerate(row)))
            for row in self.runs
        ]
        return torch.tensor(rows, dtype=torch.int64).reshape(self.batch, self.time)

    def whole(self, packed: bool = True) -> Case:
        """The same sequences uncut, and if not `packed` without segments."""
        return replace(self, cuts=(), runs=self.runs if packed else ())

    def generator(self, stream: int = 0) -> torch.Generator:
        """Random numbers that belong to this case."""
        return torch.Generator().manual_seed(self.seed * 17 + stream)


def _id(number: int) -> int:
    """0, 1, 0, 2, 0, 3, …"""
    return (number + 1) // 2 if number % 2 else 0


def _join(numbers: Sequence[int]) -> str:
    return "+".join(map(str, numbers))


def parse_case(text: str) -> Case:
    """The case that prints as `text`; raises `ValueError` for other text."""
    found = dict(re.findall(r"(\w+)=(\S+)", text))
    unknown = set(found) - {"seed", "batch", "time", "cuts", "runs", "values"}
    kinds: dict[str, Values] = {v: v for v in VALUES}
    values = kinds.get(found.get("values", "plain"))
    if unknown or values is None:
        raise ValueError(f"not a case: {text}")
    runs = (
        tuple(_split(row) for row in found["runs"].split("/"))
        if "runs" in found
        else ()
    )
    return Case(
        seed=int(found.get("seed", 0)),
        batch=int(found.get("batch", 1)),
        time=int(found.get("time", 1)),
        cuts=_split(found["cuts"]) if "cuts" in found else (),
        runs=runs,
        values=values,
    )


def _split(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+") if part)


# ---- Strategies


@st.composite
def splits(draw: st.DrawFn, time: int) -> tuple[int, ...]:
    """Lengths of pieces that sum to `time`, some of them 0 or 1."""
    points = draw(st.lists(st.integers(0, time), min_size=1, max_size=3).map(sorted))
    ends = [*points, time]
    return tuple(b - a for a, b in zip([0, *points], ends, strict=True))


@st.composite
def runs(draw: st.DrawFn, time: int) -> tuple[int, ...]:
    """Lengths of segments, each 1 or more, that sum to `time`."""
    points = draw(st.sets(st.integers(1, max(time - 1, 1)), max_size=3).map(sorted))
    inside = [p for p in points if p < time]
    return tuple(b - a for a, b in zip([0, *inside], [*inside, time], strict=True))


@st.composite
def cases(
    draw: st.DrawFn,
    least: int = 1,
    most: int = 6,
    pieces: bool = False,
    segments: bool = False,
    values: Sequence[Values] = ("plain",),
    rows: int = 3,
) -> Case:
    """Cases of `least` to `most` steps, with pieces and segments where asked for."""
    time, batch = draw(st.integers(least, most)), draw(st.integers(1, rows))
    return Case(
        seed=draw(st.integers(0, 255)),
        batch=batch,
        time=time,
        cuts=draw(splits(time)) if pieces else (),
        runs=tuple(draw(runs(time)) for _ in range(batch)) if segments else (),
        values=draw(st.sampled_from(values)),
    )


@dataclass(frozen=True)
class Sizes:
    """The cases that a property is tried in.

    `segments` None: some packed, some not.
    """

    least: int = 1
    most: int = 6
    pieces: bool = False
    segments: bool | None = False
    values: tuple[Values, ...] = ("plain",)
    rows: int = 3

    def drawn(self) -> st.SearchStrategy[Case]:
        """Random cases of these sizes."""
        kinds = (False, True) if self.segments is None else (self.segments,)
        return st.one_of(
            *(
                cases(
                    self.least, self.most, self.pieces, packed, self.values, self.rows
                )
                for packed in kinds
            )
        )

    def fit(self, case: Case) -> Case:
        """`case`, which is cut and packed, brought to these sizes."""
        time = min(max(case.time, self.least), self.most)
        batch = min(case.batch, self.rows)
        packed = case.seed % 2 == 1 if self.segments is None else self.segments
        runs = tuple(
            tuple(n for n in _of_length(row, time) if n) for row in case.runs[:batch]
        )
        return Case(
            seed=case.seed,
            batch=batch,
            time=time,
            cuts=_of_length(case.cuts, time) if self.pieces else (),
            runs=runs if packed else (),
            values=case.values if case.values in self.values else "plain",
        )


def _of_length(lengths: Sequence[int], total: int) -> tuple[int, ...]:
    """The first of `lengths` that make up `total`, the last of them made to fit."""
    ends = [min(end, total) for end in accumulate(lengths)]
    ends = [*ends[:-1], total]
    return tuple(b - a for a, b in zip([0, *ends], ends, strict=False))


# ---- Inputs


def inputs_for(subject: Subject, case: Case) -> Tensors:
    """A tensor for every input, in double precision."""
    result: Tensors = {}
    for number, declared in enumerate(subject.model.inputs):
        lead = [
            n
            for axis, n in ((BATCH, case.batch), (TIME, case.time))
            if axis in declared.type.axes
        ]
        shape = [*lead, *(subject.bound.dims[d] for d in declared.type.dims)]
        generator = case.generator(number + 1)
        result[declared.name] = _value(subject, declared, shape, case, generator)
    return result


def _value(
    subject: Subject,
    declared: ir.Input,
    shape: list[int],
    case: Case,
    generator: torch.Generator,
) -> Tensor:
    match declared.type.dtype:
        case "int":
            low, high = subject.range_of(declared.name)
            return torch.randint(low, high, shape, generator=generator)
        case "bool":
            return torch.rand(shape, generator=generator) < 0.6
        case "complex":
            parts = (_floats(shape, case.values, generator) for _ in range(2))
            return torch.complex(*parts)
        case "float":
            return _floats(shape, case.values, generator)


def _floats(shape: list[int], values: Values, generator: torch.Generator) -> Tensor:
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    match values:
        case "plain":
            return normal
        case "steps":
            return (normal * 2).round() / 2
        case "large":
            size = torch.rand(shape, generator=generator, dtype=torch.float64)
            return normal.sign() * 10 ** (6 * size - 3)
