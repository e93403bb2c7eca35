"""Between which numbers the values of a model lie, from the way they are made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import reduce

from seqdsl.analysis.interval_rows import ROWS
from seqdsl.analysis.intervals import (
    INF,
    POSITIVE,
    REAL,
    UNIT,
    Interval,
    add,
    divide,
    multiply,
    point,
    square,
)
from seqdsl.analysis.lengths import normed, same
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Apply, Lit, Opt, Scalar, Size

_INFIX = {"+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow", "neg": "neg"}
_SIZE_OPS = _INFIX | {
    n: n for n in ("min", "max", "abs", "sqrt", "exp", "log", "floor", "ceil")
}
_COUNT = Interval(1.0, INF)
_AT_MOST_UNIT = Interval(-1.0, 1.0)


class Bounds:
    """Intervals of the values of one model; inputs and parameters may be anything.

    `known` are the values of options and the extents of dims that are given.
    """

    def __init__(
        self, model: ir.Model, known: Mapping[str, Scalar] | None = None
    ) -> None:
        self.model = model
        self.known = known or {}
        self._found: dict[int, tuple[ir.Node, Interval]] = {}
        self._names: dict[str, Interval] = {}

    def of(self, node: ir.Node) -> Interval:
        """Where the entries of `node` lie; of complex ones nothing is known."""
        if id(node) not in self._found:
            complex_ = node.type.dtype == "complex"
            found = REAL if complex_ else self._of(node)
            self._found[id(node)] = (node, found)
        return self._found[id(node)][1]

    def modulus(self, node: ir.Node) -> Interval:
        """Where absolute values lie, of complex numbers too."""
        match node:
            case _ if node.type.dtype != "complex":
                return ROWS["abs"](self.of(node))
            case ir.Ref(name=name) if name in self.model.equation:
                return self.modulus(self.model.equation[name].expr)
            case ir.Map(op="exp", args=(arg,)):
                return ROWS["exp"](self._real_part(arg))
            case ir.Map(op="mul" | "div" as op, args=(a, b)):
                return ROWS[op](self.modulus(a), self.modulus(b))
            case ir.Map(op="neg" | "conj", args=(a,)) | ir.Rename(arg=a):
                return self.modulus(a)
            case _:
                return POSITIVE

    def _real_part(self, node: ir.Node) -> Interval:
        match node:
            case _ if node.type.dtype != "complex":
                return self.of(node)
            case ir.Ref(name=name) if name in self.model.equation:
                return self._real_part(self.model.equation[name].expr)
            case ir.Map(op="complex", args=(a, _)):
                return self.of(a)
            case ir.Map(op="add" | "sub" | "neg" as op, args=args):
                return ROWS[op](*map(self._real_part, args))
            case ir.Map(op="mul", args=(a, b)):
                if "complex" in (a.type.dtype, b.type.dtype) and (
                    a.type.dtype != b.type.dtype
                ):
                    return multiply(self._real_part(a), self._real_part(b))
                return REAL
            case _:
                return REAL

    def _of(self, node: ir.Node) -> Interval:
        match node:
            case ir.Const(value=value):
                return self.size(value)
            case ir.Ref(name=name):
                return self._named(name)
            case ir.Position(along=along):
                top = self._extent((along,)).high - 1
                return Interval(0.0, top) if along in self.model.dims else POSITIVE
            case ir.Sample(kind="uniform"):
                return Interval(0.0, 1.0, False, True)
            case ir.Training() | ir.OneHot():
                return UNIT
            case ir.Map():
                return self._map(node)
            case ir.Contract(args=args, over=over):
                return self._contract(args, over)
            case ir.Reduce():
                return self._reduce(node)
            case ir.Along():
                return self._along(node)
            case _:
                return self._moved(node)

    def _named(self, name: str) -> Interval:
        """A definition; one that depends on itself could be anything."""
        if name in self._names:
            return self._names[name]
        self._names[name] = REAL
        if name in self.model.input:
            boolean = self.model.input[name].type.dtype == "bool"
            self._names[name] = UNIT if boolean else REAL
        elif name in self.model.equation and not self._may_stop(name):
            self._names[name] = self.of(self.model.equation[name].expr)
        return self._names[name]

    def _may_stop(self, name: str) -> bool:
        """Whether a value may stay what it was at an earlier step, or the initial one."""
        scope = self.model.equation[name].scope
        repeats = (self.model.repeat[a] for a in scope if a in self.model.repeat)
        return any(r.condition is not None for r in repeats)

    # ---- Sizes

    def size(self, size: Size) -> Interval:
        """Arithmetic over options."""
        value = self._known(size)
        if isinstance(value, int | float):
            return point(float(value))
        match size:
            case Opt(name) if name in self.model.dims:
                return _COUNT
            case Opt(name):
                return _COUNT if self._integral(name) else REAL
            case Apply(op, args) if op in _SIZE_OPS:
                return ROWS[_SIZE_OPS[op]](*map(self.size, args))
            case _:
                return REAL

    def _known(self, size: Size) -> Scalar | None:
        match size:
            case Lit(value):
                return value
            case Opt(name):
                return self.known.get(name)
            case _:
                return None

    def _integral(self, name: str) -> bool:
        options = [o for o in self.model.options if o.name == name]
        return any(o.integral and o.least >= 1 for o in options)

    def _extent(self, names: Iterable[str]) -> Interval:
        """How many entries there are over dims, axes and copies of time."""
        result = point(1.0)
        for name in names:
            value = self.known.get(name)
            size = self.model.dims.get(name)
            if isinstance(value, int) and name in self.model.dims:
                found = point(float(value))
            elif size is None:
                found = point(float(name)) if name.isdecimal() else _COUNT
            else:
                found = self.size(size)
                found = Interval(max(1.0, found.low), max(1.0, found.high))
            result = multiply(result, found)
        return result

    # ---- Operators

    def _map(self, node: ir.Map) -> Interval:
        match node.op, node.args:
            case "mul", (a, b) if a == b:
                return square(self.of(a))
            case "mul", (a, b) if normed(self, a, b) or normed(self, b, a):
                return _AT_MOST_UNIT
            case "sub", (a, b) if self._bounded_by(a, b):
                return Interval(-INF, 0.0)
            case "div", (a, ir.Map(op="add", args=(b, c))) if a in (b, c):
                other = c if a == b else b
                both = self.of(a), self.of(other)
                if all(i.low >= 0 for i in both):
                    return UNIT
                return divide(both[0], add(*both))
            case op, args:
                return ROWS[op](*map(self.of, args))

    def _bounded_by(self, low: ir.Node, high: ir.Node) -> bool:
        """Whether `high` is the maximum (or log-sum-exp) of `low` and something."""
        if isinstance(high, ir.Ref) and high.name in self.model.equation:
            high = self.model.equation[high.name].expr
        match high:
            case ir.Map(op="max" | "logaddexp", args=args):
                return any(
                    same(self.model, low, a) or self._bounded_by(low, a) for a in args
                )
            case _:
                return False

    def _contract(self, args: tuple[ir.Node, ...], over: tuple[str, ...]) -> Interval:
        if len(args) == 2 and args[0] == args[1]:
            product = square(self.of(args[0]))
        else:
            product = reduce(multiply, map(self.of, args))
        return multiply(product, self._extent(over)) if over else product

    def _reduce(self, node: ir.Reduce) -> Interval:
        arg = self.of(node.arg)
        if node.where is not None:
            return self._masked(node, arg)
        match node.op:
            case "sum":
                return multiply(arg, self._extent(node.over))
            case "mean" | "max" | "min":
                return arg
            case "prod":
                unit = arg.inside(0, 1)
                return UNIT if unit else POSITIVE if arg.low >= 0 else REAL
            case "logsumexp":
                more = self._extent(node.over).high
                return Interval(arg.low, arg.high + math.log(more))
            case "any" | "all":
                return UNIT
            case _:
                return POSITIVE

    def _masked(self, node: ir.Reduce, arg: Interval) -> Interval:
        match node.op:
            case "sum":
                return multiply(arg, self._extent(node.over)).union(point(0.0))
            case "any" | "all":
                return UNIT
            case _:
                return REAL

    def _along(self, node: ir.Along) -> Interval:
        arg = self.of(node.arg)
        match node.op:
            case "softmax":
                return UNIT
            case "log_softmax":
                return Interval(-INF, 0.0)
            case "cumsum":
                return multiply(arg, Interval(1.0, self._extent(node.over).high))
            case "cummax" | "cummin":
                return arg
            case "cumprod" if arg.inside(0, 1):
                return UNIT
            case "top":
                return arg.union(point(0.0))
            case _:
                return REAL

    def _moved(self, node: ir.Node) -> Interval:
        match node:
            case ir.Rename(arg=arg) | ir.Split(arg=arg) | ir.Merge(arg=arg):
                return self.of(arg)
            case ir.SliceDim(arg=arg) | ir.Gather(arg=arg):
                return self.of(arg)
            case ir.Roll(arg=arg):
                return self.of(arg).union(point(0.0))
            case ir.Concat(args=args):
                return reduce(Interval.union, map(self.of, args))
            case ir.Shift(arg=arg) if not self._is_state(arg):
                return self.of(arg).union(point(0.0))
            case ir.Copy(arg=arg) | ir.Stack(arg=arg) if not self._is_state(arg):
                return self.of(arg)
            case _:
                return REAL

    def _is_state(self, node: ir.Node) -> bool:
        return isinstance(node, ir.Ref) and node.name in self.model.state
