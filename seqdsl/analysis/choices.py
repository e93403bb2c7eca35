"""A choice by comparison that is a maximum or a minimum.

`where(a > b, u, v)` with `u - v = c * (a - b)` takes the larger of `u` and `v` for a
number c > 0, the smaller for c < 0; where `a = b` both are the same. Running maxima and
the like are often written that way.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from seqdsl.analysis.expand import expanded
from seqdsl.analysis.graph import behind
from seqdsl.analysis.terms import Poly, add, scale
from seqdsl.ir import nodes as ir

if TYPE_CHECKING:
    from seqdsl.analysis.normal import Normal

_SIGNS = {"gt": 1, "ge": 1, "lt": -1, "le": -1}


def extremum_of(normal: Normal, node: ir.Map) -> str | None:
    """`max` or `min` where a `where` is that of its branches; None where it is not."""
    condition, then, otherwise = node.args
    condition = behind(normal.model, condition)
    while isinstance(condition, ir.Map) and condition.op == "not":
        condition = behind(normal.model, condition.args[0])
        then, otherwise = otherwise, then
    if not isinstance(condition, ir.Map) or condition.op not in _SIGNS:
        return None
    dtypes = {a.type.dtype for a in (then, otherwise, *condition.args)}
    if not dtypes <= {"int", "float"}:
        return None
    by = _ratio(
        _difference(normal, then, otherwise), _difference(normal, *condition.args)
    )
    if by is None:
        return None
    return "max" if by * _SIGNS[condition.op] > 0 else "min"


def _difference(normal: Normal, a: ir.Node, b: ir.Node) -> Poly:
    return expanded(normal, add(normal.poly(a), scale(normal.poly(b), Fraction(-1))))


def _ratio(a: Poly, b: Poly) -> Fraction | None:
    """The number by which `b` has to be multiplied to become `a`, if there is one."""
    scales = {(t.factors, t.bound): t.scale for t in b}
    if len(scales) != len(a) or not a:
        return None
    found = {
        t.scale / scales[key] if (key := (t.factors, t.bound)) in scales else None
        for t in a
    }
    return found.pop() if len(found) == 1 else None
