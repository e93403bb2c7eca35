"""Identity matrices: values that are 1 where two indices are equal, else 0.

A sum over one of their indices puts the other in its place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from seqdsl.analysis.terms import Factor, Term
from seqdsl.ir import build
from seqdsl.ir import nodes as ir

if TYPE_CHECKING:
    from seqdsl.analysis.normal import Normal

_ONE = (build.const(1), build.const(1.0))
_ZERO = (build.const(0), build.const(0.0))


def equality_of(model: ir.Model, node: ir.Node) -> ir.Node | None:
    """The comparison of two dims' indices that `node` is, as bool or as 0 and 1."""
    match node:
        case ir.Map(
            op="eq",
            args=(ir.Position(along=a, type=left), ir.Position(along=b, type=right)),
        ) if a != b and not (left.axes or right.axes):
            first, second = sorted((a, b))
            here, there = build.position(first, False), build.position(second, False)
            return build.map_("eq", here, there)
        case ir.Map(op="float" | "int", args=(arg,)):
            return equality_of(model, arg)
        case ir.Map(op="where", args=(c, a, b)) if a in _ONE and b in _ZERO:
            return equality_of(model, c)
        case ir.OneHot(index=ir.Position(along=a, type=type_) as index, dim=dim):
            if type_.axes or a == dim:
                return None
            other = build.position(dim, False)
            return equality_of(model, build.map_("eq", index, other))
        case ir.Ref(name=name) if name in model.equation:
            expr = model.equation[name].expr
            plain = isinstance(expr, ir.Map | ir.OneHot)
            return equality_of(model, expr) if plain else None
        case _:
            return None


def without_identity(normal: Normal, term: Term) -> Term:
    """`term` with the summed index of an identity matrix replaced by the other one."""
    for factor in term.factors:
        if factor.kind != "mask" or equality_of(normal.model, factor.node) is None:
            continue
        a, b = factor.node.type.dims
        if len(set(factor.names)) < 2 or normal.dims.extent(a) != normal.dims.extent(b):
            continue
        for kept, gone in (factor.names, factor.names[::-1]):
            found = _replaced(term, factor, gone, kept) if gone in term.bound else None
            if found is not None:
                return without_identity(normal, found)
    return term


def _replaced(term: Term, eye: Factor, gone: str, kept: str) -> Term | None:
    """`term` without `gone`; only outside of the state if that is all that can be."""
    others = [f for f in term.factors if f is not eye]
    new = [f.renamed({gone: kept}) for f in others]
    twice = {id(o) for o, n in zip(others, new, strict=True) if _twice(n)}
    if any(o.active and id(o) in twice for o in others):
        return None
    if not twice:
        return replace(term, factors=tuple(new), bound=term.bound - {gone})
    if not any(o.active and gone in o.names for o in others):
        return None
    pairs = zip(others, new, strict=True)
    return replace(term, factors=(eye, *(n if o.active else o for o, n in pairs)))


def _twice(factor: Factor) -> bool:
    return len(set(factor.names)) < len(factor.names)
