"""Tensors of the generated code and how named axes become positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seqdsl.backends.torch.python import Attribute, Expr, Item, method
from seqdsl.ir.types import BATCH, TIME, DType


@dataclass(frozen=True, slots=True)
class Value:
    """An expression of the generated code.

    `layout` names its dimensions in order: batch, time, copies of time, dims. With
    batch or time in the layout the extent may be 1, which broadcasts. A `scalar` is a
    Python number. `even` says that the time dimension is 1 unless there are segments.
    """

    code: Expr
    layout: tuple[str, ...]
    dtype: DType
    scalar: bool = False
    even: bool = False

    def at(self, code: Expr, layout: Sequence[str] | None = None) -> Value:
        """Another expression with the same dtype."""
        new = self.layout if layout is None else tuple(layout)
        return replace(self, code=code, layout=new)


def align(value: Value, target: Sequence[str]) -> Expr:
    """`value` ready to broadcast against a tensor laid out as `target`."""
    value = permute(value, [n for n in target if n in value.layout])
    present = list(value.layout)
    if not present or value.scalar:
        return value.code
    wanted = list(target)[list(target).index(present[0]) :]
    if wanted == present:
        return value.code
    marks = [":" if n in present else "None" for n in wanted]
    return Item(value.code, _shortest(marks))


def _shortest(marks: list[str]) -> str:
    """The index `[:, None]` or `[..., None, :]`, whichever is shorter."""
    last = max(i for i, m in enumerate(marks) if m == "None")
    first = marks.index("None")
    front = marks[: last + 1]
    back = ["...", *marks[first:]]
    chosen = front if len(front) <= len(back) else back
    return ", ".join(chosen)


def permute(value: Value, order: Sequence[str]) -> Value:
    """`value` with its dimensions in `order`, a permutation of its layout."""
    if tuple(order) == value.layout or value.scalar:
        return value
    places = [value.layout.index(n) for n in order]
    moved = [i for i, p in enumerate(places) if i != p]
    if len(moved) == 2:
        n = len(places)
        if moved == [n - 2, n - 1]:
            return value.at(Attribute(value.code, "mT"), order)
        pair = [i if i < 2 else i - n for i in moved]
        return value.at(method(value.code, "transpose", *pair), order)
    return value.at(method(value.code, "permute", *places), order)


def from_end(layout: Sequence[str], name: str) -> int:
    """The dimension of `name`, counted from the end."""
    return list(layout).index(name) - len(layout)


def ordered(
    axes: frozenset[str] | set[str], dims: Sequence[str], copies: Sequence[str]
) -> tuple[str, ...]:
    """The canonical layout: batch, time, copies of time, dims."""
    lead = [a for a in (BATCH, TIME) if a in axes]
    return (*lead, *(c for c in copies if c in axes), *dims)
