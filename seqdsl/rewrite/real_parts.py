"""Complex values as pairs of real ones, for targets that have no complex numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children, with_children

Pair = tuple[ir.Node, ir.Node]
"""The real and the imaginary part of a value."""

Known = Callable[[ir.Ref], Pair]
"""What stands for a complex value that is read by name."""

ZERO = build.const(0.0)

COMPLEX = frozenset(
    ["add", "sub", "mul", "div", "neg", "exp", "square", "complex", "conj", "where"]
)
"""Operators with a complex result that have a form in real numbers here."""

OF_COMPLEX = frozenset(["real", "imag", "abs"])
"""Operators with a real result for complex arguments that have one."""


def parted(node: ir.Node) -> bool:
    """Whether `node`, its operands aside, has a form in real numbers."""
    wide = any(c.type.dtype == "complex" for c in children(node))
    match node:
        case ir.Map(op=op):
            return op in (COMPLEX if node.type.dtype == "complex" else OF_COMPLEX)
        case ir.Reduce(op=op, where=where):
            return op in ("sum", "mean") and where is None
        case ir.Contract() | ir.Rename() | ir.Split() | ir.Shift():
            return True
        case ir.Ref() | ir.Const():
            return True
        case _:
            return not wide and node.type.dtype != "complex"


def apart(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """Both parts of a complex value in terms of parts of what it is made of.

    None where that is the value itself: a name, or what has no form in real numbers.
    """
    leaves: dict[str, ir.Node] = {}

    def marked(inner: ir.Node) -> ir.Node:
        if inner.type.dtype != "complex" or (
            parted(inner) and isinstance(inner, ir.Map | ir.Contract | ir.Rename)
        ):
            old = children(inner)
            new = tuple(map(marked, old))
            return inner if new == old else with_children(inner, new)
        name = f" {len(leaves)}"
        leaves[name] = inner
        return build.ref(name, inner.type)

    tree = marked(node)
    if isinstance(tree, ir.Ref):
        return None

    def known(read: ir.Ref) -> Pair:
        leaf = leaves[read.name]
        return build.map_("real", leaf), build.map_("imag", leaf)

    return pair(tree, known)


def real(node: ir.Node, known: Known) -> ir.Node:
    """A real value, in terms of real values alone."""
    assert node.type.dtype != "complex"
    old = children(node)
    if any(c.type.dtype == "complex" for c in old):
        assert isinstance(node, ir.Map)
        re, im = pair(old[0], known)
        match node.op:
            case "real":
                return full(re, node.type.dims)
            case "imag":
                return full(im, node.type.dims)
            case _:
                return _length(re, im)
    new = tuple(real(c, known) for c in old)
    same = all(a is b for a, b in zip(old, new, strict=True))
    return node if same else with_children(node, new)


def pair(node: ir.Node, known: Known) -> Pair:
    """Both parts of a value, each in terms of real values alone."""
    if node.type.dtype != "complex":
        return real(node, known), ZERO
    match node:
        case ir.Ref():
            return known(node)
        case ir.Shift(arg=ir.Ref() as arg):
            re, im = known(arg)
            return _like(node, re), _like(node, im)
        case ir.Map(op="complex", args=(a, b)):
            return real(a, known), real(b, known)
        case ir.Map(op="where", args=(when, a, b)):
            when, a_, b_ = real(when, known), pair(a, known), pair(b, known)
            re, im = (
                build.map_("where", when, x, y) for x, y in zip(a_, b_, strict=True)
            )
            return re, im
        case ir.Map(op=op, args=args):
            return _applied(op, [pair(a, known) for a in args])
        case ir.Contract(args=args, over=over):
            return _contracted([_spread(pair(a, known), a) for a in args], over)
        case _:
            (arg,) = children(node)
            re, im = _spread(pair(arg, known), arg)
            return (
                ZERO if re is ZERO else _like(node, re),
                ZERO if im is ZERO else _like(node, im),
            )


def _spread(parts: Pair, node: ir.Node) -> Pair:
    """The parts of `node` with all its dims, as what sums over these or renames them
    expects."""
    re, im = (p if p is ZERO else full(p, node.type.dims) for p in parts)
    return re, im


def _like(node: ir.Node, part: ir.Node) -> ir.Node:
    """`node` over a part of its operand, as a real value."""
    return replace(with_children(node, (part,)), type=replace(node.type, dtype="float"))


def full(part: ir.Node, dims: tuple[str, ...]) -> ir.Node:
    """A part that is 0 everywhere may lack dims that others expect of it."""
    if set(part.type.dims) == set(dims):
        return part
    zeros: ir.Node = ZERO
    for dim in dims:
        place = build.map_("mul", ZERO, build.position(dim, axis=False))
        zeros = build.map_("mul", build.map_("add", place, build.const(1.0)), zeros)
    return build.map_("add", part, zeros)


def _applied(op: str, args: list[Pair]) -> Pair:
    match op, args:
        case (("add" | "sub"), [(a, b), (c, d)]):
            return _sum(op, a, c), _sum(op, b, d)
        case "neg", [(a, b)]:
            return build.map_("neg", a), b if b is ZERO else build.map_("neg", b)
        case "conj", [(a, b)]:
            return a, b if b is ZERO else build.map_("neg", b)
        case "mul", [x, y]:
            return _product(x, y)
        case "square", [x]:
            return _product(x, x)
        case "div", [(a, b), (c, d)] if d is ZERO:
            return build.map_("div", a, c), b if b is ZERO else build.map_("div", b, c)
        case "div", [x, (c, d)]:
            size = _sum("add", build.map_("mul", c, c), build.map_("mul", d, d))
            re, im = _product(x, (c, build.map_("neg", d)))
            return build.map_("div", re, size), build.map_("div", im, size)
        case _, [(a, b)]:  # exp
            size = build.map_("exp", a)
            turned = build.map_("cos", b), build.map_("sin", b)
            return build.map_("mul", size, turned[0]), build.map_(
                "mul", size, turned[1]
            )
        case _:
            raise AssertionError(op)


def _sum(op: str, a: ir.Node, b: ir.Node) -> ir.Node:
    if b is ZERO:
        return a
    if a is ZERO:
        return b if op == "add" else build.map_("neg", b)
    return build.map_(op, a, b)


def _times(a: ir.Node, b: ir.Node) -> ir.Node:
    return ZERO if a is ZERO or b is ZERO else build.map_("mul", a, b)


def _product(x: Pair, y: Pair) -> Pair:
    (a, b), (c, d) = x, y
    return (
        _sum("sub", _times(a, c), _times(b, d)),
        _sum("add", _times(a, d), _times(b, c)),
    )


def _contracted(args: list[Pair], over: tuple[str, ...]) -> Pair:
    """Sums over products: one for each choice of parts with a real or imaginary sign."""
    totals: list[ir.Node] = [ZERO, ZERO]
    for number in range(1 << len(args)):
        turns = [number >> i & 1 for i in range(len(args))]
        chosen = [p[t] for p, t in zip(args, turns, strict=True)]
        if any(c is ZERO for c in chosen):
            continue
        count = sum(turns)  # i to that power
        op = "add" if count % 4 < 2 else "sub"
        made = build.contract(chosen, over)
        totals[count % 2] = _sum(op, totals[count % 2], made)
    return totals[0], totals[1]


def _length(re: ir.Node, im: ir.Node) -> ir.Node:
    """The absolute value, whose slope at 0 is 0 as torch has it."""
    size = _sum("add", _times(re, re), _times(im, im))
    none = build.map_("eq", size, ZERO)
    safe = build.map_("where", none, build.const(1.0), size)
    return build.map_("where", none, ZERO, build.map_("sqrt", safe))
