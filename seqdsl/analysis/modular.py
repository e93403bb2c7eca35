"""Updates that count in a circle: `state = (a * state + b) % m` with one m for all steps.

Remainders may be taken early: `(a * (s % m) + b) % m` is `(a * s + b) % m` where `a` is whole.
So two steps make one, with its factor and shift again taken modulo m. A step may also keep
the state or set it to another value, both without a remainder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from seqdsl.analysis.normal import Normal
from seqdsl.analysis.rebuild import poly_node
from seqdsl.analysis.terms import Poly, Term, TooLong, is_bad
from seqdsl.analysis.tropical import NoForm
from seqdsl.analysis.verdict import Recurrence, Verdict
from seqdsl.differentiate.broadcast import pointwise
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import TIME, Type
from seqdsl.ir.walk import subtree

NAME = "of remainders"
"""The monoid's name, which no declared one can have."""

_NOUGHT, _ONE = build.const(0), build.const(1)
_YES, _NO = build.const(True), build.const(False)


@dataclass(frozen=True)
class Turn:
    """`(times * read + shift) % modulus`; without the remainder where `plain` holds.

    `times` is then 1 and `shift` 0, or `times` is 0. `moduli` are all that were met.
    """

    times: ir.Node
    shift: ir.Node
    plain: ir.Node
    moduli: frozenset[ir.Node]


def modular_verdict(
    normal: Normal, recurrence: Recurrence, exprs: Mapping[str, ir.Node]
) -> Verdict | None:
    """The verdict if a step counts modulo one number; else None."""
    if len(exprs) != 1 or recurrence.axis != TIME:
        return None
    (expr,) = exprs.values()
    try:
        turn = _turn(normal, expr)
    except (NoForm, TooLong, build.Issue):
        return None
    if len(turn.moduli) != 1:
        return None
    (modulus,) = turn.moduli
    monoid = _monoid(recurrence, expr.type, turn, modulus)
    return Verdict(
        recurrence,
        "scannable",
        structure="monoid",
        monoid=monoid,
        invariant=not any(TIME in n.type.axes for n in monoid.leaf),
        strategies=("loop", "scan"),
        leaf=monoid.leaf,
    )


# ---- The form of a step


def _turn(normal: Normal, node: ir.Node) -> Turn:
    if not normal.active(node):
        return Turn(_NOUGHT, node, _YES, frozenset())
    match node:
        case ir.Ref(name=name) if name in normal.model.equation:
            return _turn(normal, normal.model.equation[name].expr)
        case ir.Shift(offset=1 | -1) if normal.is_read(node):
            return Turn(_ONE, _NOUGHT, _YES, frozenset())
        case ir.Map(op="where", args=(condition, a, b)):
            return _chosen(normal, condition, _turn(normal, a), _turn(normal, b))
        case ir.Map(op="mod", args=(a, modulus)) if _is_fixed(modulus):
            times, shift = _affine(normal, a, node.type)
            return Turn(times, shift, _NO, frozenset((modulus,)))
        case _:
            raise NoForm


def _chosen(normal: Normal, condition: ir.Node, a: Turn, b: Turn) -> Turn:
    if normal.active(condition):
        raise NoForm
    times, shift, plain = (
        x if x == y else build.map_("where", condition, x, y)
        for x, y in ((a.times, b.times), (a.shift, b.shift), (a.plain, b.plain))
    )
    return Turn(times, shift, plain, a.moduli | b.moduli)


def _is_fixed(node: ir.Node) -> bool:
    """Whether it is made of numbers and options only, and surely no literal 0."""
    parts = list(subtree(node))
    if not all(isinstance(n, ir.Const | ir.Map) for n in parts):
        return False
    return not (isinstance(node, ir.Const) and node.value in (Lit(0), Lit(0.0)))


def _affine(normal: Normal, node: ir.Node, type_: Type) -> tuple[ir.Node, ir.Node]:
    """`times` and `shift` of a sum in which the state stands once; raises `NoForm`."""
    poly = normal.poly(node)
    reads = [t for t in poly if t.active]
    if any(map(is_bad, poly)) or not reads:
        raise NoForm
    factors = {t.active for t in reads}
    ((read, *others),) = factors if len(factors) == 1 else ((None, None),)
    if read is None or others or any(t.bound for t in reads):
        raise NoForm
    node = read.node
    if not isinstance(node, ir.Shift) or abs(node.offset) != 1:
        raise NoForm
    if set(read.names) != set(type_.dims):
        raise NoForm
    times: Poly = tuple(Term(t.scale, t.passive) for t in reads)
    if type_.dtype != "int" and not _is_unit(times):
        raise NoForm  # remainders of real numbers may not be taken before a multiple
    rest = tuple(t for t in poly if not t.active)
    first, second = (_value(p, type_, normal) for p in (times, rest))
    return first, second


def _value(poly: Poly, type_: Type, normal: Normal) -> ir.Node:
    """A sum as a value of the state's dtype."""
    node = poly_node(poly, normal.dims) or _NOUGHT
    if type_.dtype != "int" or node.type.dtype != "float":
        return node
    match node:
        case ir.Const(value=Lit(value)):
            return build.const(int(value))
        case _:
            return build.map_("int", node)


def _is_unit(times: Poly) -> bool:
    return len(times) == 1 and not times[0].factors and abs(times[0].scale) == 1


# ---- The monoid


def _monoid(
    recurrence: Recurrence, type_: Type, turn: Turn, modulus: ir.Node
) -> ir.Monoid:
    """The monoid whose elements are such steps, as if a writer had declared it."""
    value = Type(type_.dtype, type_.dims, frozenset())
    flag = Type("bool", type_.dims, frozenset())
    (state,) = recurrence.states
    first, second = ([*_parts(name, value, flag)] for name in ("first", "second"))
    # what sets the state forgets the remainders before it
    kept = pointwise("or", first[2], pointwise("eq", second[0], _NOUGHT))
    plain = pointwise("and", second[2], kept)
    times = pointwise("mul", second[0], first[0])
    shift = pointwise("add", pointwise("mul", second[0], first[1]), second[1])
    element = [*_parts("element", value, flag)]
    before = build.ref("before.0", value)
    after = pointwise("add", pointwise("mul", element[0], before), element[1])
    leaf = (turn.times, turn.shift, turn.plain)
    whole = type_.dtype == "int"
    return ir.Monoid(
        name=NAME,
        states=(state,),
        axis=recurrence.axis,
        offset=1 if recurrence.direction == "backward" else -1,
        fields=(("times", value), ("shift", value), ("plain", flag)),
        leaf=leaf,
        identity=(_ONE, _NOUGHT, _YES),
        combine=(
            _reduced(plain, times, modulus) if whole else times,
            _reduced(plain, shift, modulus),
            plain,
        ),
        read=(_reduced(element[2], after, modulus),),
        free=False,
        commutes=turn.times == _ONE and turn.plain == _NO,
    )


def _parts(name: str, value: Type, flag: Type) -> Iterator[ir.Node]:
    for i, type_ in enumerate((value, value, flag)):
        yield build.ref(f"{name}.{i}", type_)


def _reduced(plain: ir.Node, value: ir.Node, modulus: ir.Node) -> ir.Node:
    return pointwise("where", plain, value, pointwise("mod", value, modulus))
