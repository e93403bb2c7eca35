"""Writes out what does not depend on the state, to see whether terms cancel."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import inf
from typing import TYPE_CHECKING

from seqdsl.analysis.graph import behind
from seqdsl.analysis.reindexing import Reindexer
from seqdsl.analysis.terms import (
    Factor,
    Poly,
    Term,
    TooLong,
    add,
    apart,
    collect,
    constant,
    multiply,
    rename,
    scale,
)
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit

if TYPE_CHECKING:
    from seqdsl.analysis.normal import Normal

_DEPTH = 12


def expanded(normal: Normal, poly: Poly) -> Poly:
    """`poly` with free factors multiplied out; `poly` itself where that is too long."""
    try:
        return collect(t for term in poly for t in _term(normal, term))
    except TooLong:
        return poly


def _term(normal: Normal, term: Term) -> Poly:
    # What is put in has summed indices of its own, named as those of any term.
    term = apart(term, normal.interner)
    result: Poly = (Term(term.scale, term.active),)
    for factor in term.passive:
        result = multiply(result, _factor(normal, factor), normal.interner)
    return tuple(
        _without_inverses(
            normal, Term(t.scale, t.factors, t.bound | (term.bound & t.indices))
        )
        for t in result
    )


def _factor(normal: Normal, factor: Factor) -> Poly:
    known = normal.written.get(id(factor.node))
    if known is None:
        poly = (
            _mask(normal, factor.node)
            if factor.kind == "mask"
            else _node(normal, factor.node, _DEPTH)
        )
        normal.written[id(factor.node)] = (factor.node, poly)
    else:
        poly = known[1]
    if factor.names == factor.node.type.dims:
        return poly
    table = dict(zip(factor.node.type.dims, factor.names, strict=True))
    return collect(t.renamed(table) for t in poly)


def _mask(normal: Normal, condition: ir.Node) -> Poly:
    match condition:
        case ir.Map(op="not", args=(arg,)):
            return add(constant(Fraction(1)), scale(_mask(normal, arg), Fraction(-1)))
        case _:
            return normal.mask(condition)


def _node(normal: Normal, node: ir.Node, depth: int) -> Poly:
    """A free value as a sum of products of values that are neither."""
    if depth == 0:
        return normal.free(node)
    match node:
        case ir.Ref(name=name) if name in normal.model.equation:
            inner = normal.model.equation[name].expr
            written = _node(normal, inner, depth - 1)
            plain = len(written) == 1 and written[0].factors[:1] == (
                normal.factor("free", inner),
            )
            return normal.free(node) if plain else written
        case ir.Map(op="add" | "sub" as op, args=(a, b)):
            sign = Fraction(1 if op == "add" else -1)
            left, right = _node(normal, a, depth - 1), _node(normal, b, depth - 1)
            return add(left, scale(right, sign))
        case ir.Map(op="neg", args=(a,)):
            return scale(_node(normal, a, depth - 1), Fraction(-1))
        case ir.Map(op="mul", args=(a, b)):
            left, right = _node(normal, a, depth - 1), _node(normal, b, depth - 1)
            return multiply(left, right, normal.interner)
        case ir.Map(op="square", args=(a,)):
            inner = _node(normal, a, depth - 1)
            return multiply(inner, inner, normal.interner)
        case ir.Map(op="div", args=(a, b)) if _exponent(normal, b) is not None:
            left, exponent = _node(normal, a, depth - 1), _exponent(normal, b)
            assert exponent is not None
            over = build.map_("exp", build.map_("neg", exponent))
            return multiply(left, normal.free(over), normal.interner)
        case ir.Map(op="div", args=(a, b)) if not _is_one(a):
            left = _node(normal, a, depth - 1)
            return multiply(left, normal.inverse(b), normal.interner)
        case ir.Contract(args=args, over=over) if _are_dims(node, over):
            result = constant(Fraction(1))
            for arg in args:
                inner = _node(normal, arg, depth - 1)
                result = multiply(result, inner, normal.interner)
            return Reindexer(normal).summed(result, over)
        case ir.Rename(arg=arg, pairs=pairs):
            return rename(_node(normal, arg, depth - 1), dict(pairs))
        case _:
            return _other(normal, node, depth)


def _exponent(normal: Normal, node: ir.Node) -> ir.Node | None:
    """What `node` is the exponential of, if it is one."""
    node = behind(normal.model, node)
    if isinstance(node, ir.Map) and node.op == "exp" and not normal.active(node):
        return node.args[0]
    return None


def _without_inverses(normal: Normal, term: Term) -> Term:
    """`term` without pairs of exponentials whose product is 1."""
    factors = term.factors
    known = {
        i: exponent
        for i, f in enumerate(factors)
        if not f.active and f.names == f.node.type.dims
        for exponent in [_exponent(normal, f.node)]
        if exponent is not None
    }
    for (i, a), (j, b) in combinations(known.items(), 2):
        if factors[i].names != factors[j].names:
            continue
        if not add(_node(normal, a, _DEPTH), _node(normal, b, _DEPTH)):
            rest = tuple(f for k, f in enumerate(factors) if k not in (i, j))
            return _without_inverses(normal, Term(term.scale, rest, term.bound))
    return term


def _are_dims(node: ir.Contract, over: tuple[str, ...]) -> bool:
    return all(any(d in a.type.dims for a in node.args) for d in over)


def _other(normal: Normal, node: ir.Node, depth: int) -> Poly:
    match node:
        case ir.Map(op="sigmoid", args=(ir.Map(op="neg", args=(a,)),)):
            # 1 - sigmoid(a), the way a gate and its complement are often written.
            other = normal.free(build.map_("sigmoid", a))
            return add(constant(Fraction(1)), scale(other, Fraction(-1)))
        case ir.Map(op="where", args=(c, a, b)) if node.type.dtype != "bool":
            then, otherwise = _node(normal, a, depth - 1), _node(normal, b, depth - 1)
            if _is_infinite(then) or _is_infinite(otherwise):
                return normal.free(node)  # 0 times infinity is no number
            mask = _mask(normal, c)
            rest = add(constant(Fraction(1)), scale(mask, Fraction(-1)))
            return add(
                multiply(mask, then, normal.interner),
                multiply(rest, otherwise, normal.interner),
            )
        case _:
            return normal.free(node)


def _is_infinite(poly: Poly) -> bool:
    nodes = (f.node for t in poly for f in t.factors)
    values = (n.value for n in nodes if isinstance(n, ir.Const))
    return any(v.value in (inf, -inf) for v in values if isinstance(v, Lit))


def _is_one(node: ir.Node) -> bool:
    return node == build.const(1.0) or node == build.const(1)
