"""Normal forms through pointwise operators.

Identities used, all exact over the real numbers wherever both sides exist: a maximum is
half of sum plus distance; odd functions let a sign out and sigmoid(-x) is
1 - sigmoid(x), so that what differs by a sign is recognized; exp of a sum is a product,
and log undoes exp; the log of a sum of exponentials is the first exponent plus a
softplus. What would only hold for some values (exp(log(x)), sqrt(x * x),
x / x) is not an identity here.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from seqdsl.analysis.applied import applied, arguments, flipped
from seqdsl.analysis.choices import extremum_of
from seqdsl.analysis.graph import behind
from seqdsl.analysis.logarithms import log_of_sum, logarithm, softplus
from seqdsl.analysis.rebuild import poly_node
from seqdsl.analysis.terms import (
    Factor,
    Poly,
    Term,
    TooLong,
    add,
    collect,
    constant,
    is_bad,
    is_free,
    multiply,
    same,
    scale,
)
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import Type

if TYPE_CHECKING:
    from seqdsl.analysis.normal import Normal

_ODD = ("tanh", "sin", "tan", "atan", "sinh", "erf", "atanh", "sign")
_EVEN = ("cos", "cosh")
HALF = Fraction(1, 2)
ONE = constant(Fraction(1))
MANY = 24
"""Products of nonlinear sums with more terms than this are not multiplied out."""


def map_poly(normal: Normal, node: ir.Map) -> Poly:
    """The normal form of a pointwise operator that depends on the state."""
    match node.op, node.args:
        case "add", (a, b):
            return add(normal.poly(a), normal.poly(b))
        case "sub", (a, b):
            return add(normal.poly(a), scale(normal.poly(b), Fraction(-1)))
        case "neg", (a,):
            return scale(normal.poly(a), Fraction(-1))
        case "mul", (a, b):
            return product(normal, normal.poly(a), normal.poly(b))
        case "square", (a,):
            return product(normal, normal.poly(a), normal.poly(a))
        case "div", (a, b):
            return product(normal, normal.poly(a), _reciprocal(normal, node, b))
        case _, args if all(is_free(normal.poly(a)) for a in args):
            return normal.settled(node)
        case "pow", (a, ir.Const(value=Lit(int(n)))) if 0 <= n <= 8:
            return _power(normal, a, n)
        case "where", (c, a, b):
            return _where(normal, node, c, a, b)
        case "conj", (a,) if _behind(normal, a, "conj") is not None:
            return normal.poly(_behind(normal, a, "conj") or a)
        case "complex", (a, b) if _behind(normal, a, "real") is not None and (
            _behind(normal, a, "real") == _behind(normal, b, "imag")
        ):
            return normal.poly(_behind(normal, a, "real") or a)
        case "float" | "int", (ir.Map(type=Type(dtype="bool")) as a,):
            return normal.poly(a)  # nothing linear, but the comparison is to blame
        case "float" | "real" | "conj", (a,) if a.type.dtype in ("int", "float"):
            return normal.poly(a)
        case _:
            return _function(normal, node)


def _behind(normal: Normal, node: ir.Node, op: str) -> ir.Node | None:
    """What `op` is applied to, where `node` is that; else None."""
    node = behind(normal.model, node)
    return node.args[0] if isinstance(node, ir.Map) and node.op == op else None


def product(normal: Normal, a: Poly, b: Poly) -> Poly:
    """The product of two sums, with exponentials in a product made one."""
    active = not is_free(a) and not is_free(b)
    if len(a) * len(b) > MANY and active and (_nonlinear(a) or _nonlinear(b)):
        raise TooLong  # of so many products of functions none is expected to cancel
    result = multiply(a, b, normal.interner)
    if any(sum(f.op == "exp" for f in t.factors) > 1 for t in result):
        parts = [_one_exponential(normal, t) for t in result]
        return collect(t for p in parts for t in p)
    return result


def _nonlinear(poly: Poly) -> bool:
    return any(f.kind == "nonlinear" for t in poly for f in t.factors)


def _one_exponential(normal: Normal, term: Term) -> Poly:
    exps = [f for f in term.factors if f.op == "exp"]
    if len(exps) < 2:
        return (term,)
    rest = tuple(f for f in term.factors if f.op != "exp")
    argument = add(*(arguments(f)[0] for f in exps))
    widest = max(exps, key=lambda f: len(f.names))
    inner = _exponential(normal, widest.node, argument)
    if any(t.bound & term.bound for t in inner):
        return (term,)
    return collect(
        Term(term.scale * t.scale, (*rest, *t.factors), term.bound | t.bound)
        for t in inner
    )


def _exponential(normal: Normal, node: ir.Node, argument: Poly) -> Poly:
    if not argument:
        return ONE
    if is_free(argument):
        value = poly_node(argument, normal.dims)
        assert value is not None
        return normal.free(build.map_("exp", value))
    return applied(normal, "exp", node, argument)


def _reciprocal(normal: Normal, node: ir.Map, b: ir.Node) -> Poly:
    if not normal.active(b):
        return normal.inverse(b)
    poly = normal.poly(b)
    if is_free(poly):
        value = poly_node(poly, normal.dims)
        return normal.inverse(value if value is not None else build.const(0.0))
    match poly:
        case (Term(scale=one, factors=(Factor(op="exp") as factor,)),) if one == 1:
            minus = scale(arguments(factor)[0], Fraction(-1))
            return _exponential(normal, factor.node, minus)
        case _:
            return applied(normal, "reciprocal", node, poly)


def _power(normal: Normal, a: ir.Node, n: int) -> Poly:
    result, factor = ONE, normal.poly(a)
    for _ in range(n):
        result = product(normal, result, factor)
    return result


def _where(normal: Normal, node: ir.Map, c: ir.Node, a: ir.Node, b: ir.Node) -> Poly:
    if node.type.dtype == "bool":
        return normal.opaque(node)
    then, otherwise = normal.poly(a), normal.poly(b)
    if same(then, otherwise):
        return then
    if normal.active(c):
        op = extremum_of(normal, node)
        if op is not None:
            return _extremum(normal, node, op, (then, otherwise))
        return _decided(normal, node, c, then, otherwise)
    common = tuple(t for t in then if t in otherwise)
    minus = scale(common, Fraction(-1))
    first = add(then, minus)
    second = add(otherwise, minus)
    unless = build.map_("not", c)
    return add(
        common,
        multiply(normal.mask(c), first, normal.interner),
        multiply(normal.mask(unless), second, normal.interner),
    )


def _decided(
    normal: Normal, node: ir.Map, c: ir.Node, then: Poly, otherwise: Poly
) -> Poly:
    """A choice that depends on the state, as 0 or 1 times a difference of linear values.

    What is chosen in one place and left out in another, by the same condition, cancels.
    """
    if any(map(is_bad, (*then, *otherwise))):
        return normal.opaque(node)
    difference = add(then, scale(otherwise, Fraction(-1)))
    try:
        chosen = product(normal, _truth(normal, c), difference)
    except TooLong:
        return normal.opaque(node)
    return add(otherwise, chosen)


def _truth(normal: Normal, c: ir.Node) -> Poly:
    """A condition as 0 or 1."""
    if not normal.active(c):
        return normal.mask(c)
    match c:
        case ir.Ref(name=name) if name in normal.model.equation:
            return _truth(normal, normal.model.equation[name].expr)
        case ir.Map(op="not", args=(a,)):
            return add(ONE, scale(_truth(normal, a), Fraction(-1)))
        case ir.Map(op="and", args=(a, b)):
            return product(normal, _truth(normal, a), _truth(normal, b))
        case ir.Map(op="or", args=(a, b)):
            one, other = _truth(normal, a), _truth(normal, b)
            both = product(normal, one, other)
            return add(one, other, scale(both, Fraction(-1)))
        case ir.Map(op="gt" | "le" as op, args=(a, b)):
            return _positive(normal, c, a, b, op == "le")
        case ir.Map(op="lt" | "ge" as op, args=(a, b)):
            return _positive(normal, c, b, a, op == "ge")
        case _:
            return normal.opaque(c)


def _positive(normal: Normal, c: ir.Map, a: ir.Node, b: ir.Node, negated: bool) -> Poly:
    """1 where `a > b`, else 0; the other way round if `negated`."""
    gap = add(normal.poly(a), scale(normal.poly(b), Fraction(-1)))
    if is_free(gap):
        return normal.opaque(c)
    found = applied(normal, "positive", c, gap)
    return add(ONE, scale(found, Fraction(-1))) if negated else found


def _function(normal: Normal, node: ir.Map) -> Poly:
    """Operators that are nonlinear, unless their arguments make them simpler."""
    match node.op, tuple(map(normal.poly, node.args)):
        case "max" | "min" | "relu" | "abs" as op, polys:
            return _extremum(normal, node, op, polys)
        case "exp", (p,):
            return _exponential(normal, node, p)
        case "log", (p,):
            return logarithm(normal, node, p)
        case "log1p", (p,):
            return logarithm(normal, node, add(ONE, p))
        case "logaddexp", (p, q):
            return log_of_sum(normal, node, [p, q])
        case "logsigmoid", (p,):
            return scale(softplus(normal, node, scale(p, Fraction(-1))), Fraction(-1))
        case "softplus", (p,):
            return softplus(normal, node, p)
        case "silu", (p,):
            return product(normal, p, _sigmoid(normal, node, p))
        case "sigmoid", (p,):
            return _sigmoid(normal, node, p)
        case op, (p,) if op in _ODD or op in _EVEN:
            return _symmetric(normal, node, op, p)
        case _:
            return normal.opaque(node)


def _symmetric(normal: Normal, node: ir.Map, op: str, p: Poly) -> Poly:
    if op in ("sign",) or not p:
        return normal.opaque(node)
    if not flipped(p):
        return applied(normal, op, node, p)
    result = applied(normal, op, node, scale(p, Fraction(-1)))
    return scale(result, Fraction(-1)) if op in _ODD else result


def _sigmoid(normal: Normal, node: ir.Map, p: Poly) -> Poly:
    if not p:
        return constant(HALF)
    if not flipped(p):
        return applied(normal, "sigmoid", node, p)
    mirrored = applied(normal, "sigmoid", node, scale(p, Fraction(-1)))
    return add(ONE, scale(mirrored, Fraction(-1)))


def _extremum(normal: Normal, node: ir.Map, op: str, polys: tuple[Poly, ...]) -> Poly:
    if node.type.dtype == "complex" or node.args[0].type.dtype == "complex":
        return normal.opaque(node)
    if op == "abs":
        return _distance(normal, node, polys[0])
    a, b = polys if len(polys) == 2 else (polys[0], ())
    gap = _distance(normal, node, add(a, scale(b, Fraction(-1))))
    sign = -HALF if op == "min" else HALF
    return add(scale(a, HALF), scale(b, HALF), scale(gap, sign))


def _distance(normal: Normal, node: ir.Map, p: Poly) -> Poly:
    if not p:
        return ()
    positive = scale(p, Fraction(-1)) if flipped(p) else p
    return applied(normal, "abs", node, positive)
