"""What a copy of the time axis can see: `softmax[s <= t and t - s < W](…)`.

A read of `k[s]` counts only where the sums over `s` give it weight. From the predicates
there, this module proves bounds on `t - s`; a layer streams when `t - s >= 0` is proved,
and forgets its past when `t - s < W` is. Where a step is seen later only if a condition on
`s` alone holds, as in `s == t or s < t and ends[s]`, a stream keeps these steps and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size, apply
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import roots, subtree
from seqdsl.source import Span


@dataclass(frozen=True)
class Reach:
    """Bounds on `t - s`: at least `least`, and below `window` (None: no bound).

    Steps after `s` see it only where `later`, a condition on `s` alone, holds.
    """

    least: int
    window: Size | None = None
    later: ir.Node | None = None


KEEPS_ZERO = frozenset([
    "neg", "square", "abs", "sqrt", "sin", "tan", "tanh", "relu", "silu", "gelu", "sign",
    "real", "imag", "conj", "float", "stopgrad", "expm1", "log1p", "erf", "sinh", "atan",
    "floor", "ceil", "round", "int",
])  # fmt: skip
"""Operators whose value at 0 is 0."""


@dataclass(frozen=True)
class _Bounds:
    """What is known about `t - s` wherever something holds (or is not 0)."""

    least: int | None = None
    window: Size | None = None
    later: ir.Node | None = None

    @property
    def reach(self) -> Reach | None:
        """The same where it never looks ahead."""
        if self.least is None or self.least < 0:
            return None
        return Reach(self.least, self.window, self.later)

    @property
    def never_later(self) -> bool:
        """Whether no step but `s` itself is left."""
        return self.window in (Lit(0), Lit(1))

    def both(self, other: _Bounds) -> _Bounds:
        """Where this holds and the other does."""
        known = [b for b in (self.least, other.least) if b is not None]
        window = self.window if other.window is None else other.window
        if isinstance(self.window, Lit) and isinstance(other.window, Lit):
            window = apply("min", self.window, other.window)
        later = self.later if other.later is None else other.later
        if self.later is not None and other.later not in (None, self.later):
            later = build.map_("and", self.later, later or self.later)
        return _Bounds(max(known, default=None), window, later)

    def either(self, other: _Bounds) -> _Bounds:
        """Where at least one of the two holds."""
        known = [b for b in (self.least, other.least) if b is not None]
        least = min(known) if len(known) == 2 else None
        window = self.window if self.window == other.window else None
        if isinstance(self.window, Lit) and isinstance(other.window, Lit):
            window = apply("max", self.window, other.window)
        return _Bounds(least, window, self._either_later(other))

    def _either_later(self, other: _Bounds) -> ir.Node | None:
        if self.never_later or other.never_later or self.later == other.later:
            return other.later if self.never_later else self.later
        if self.later is None or other.later is None:
            return None
        return build.map_("or", self.later, other.later)


def reach_of_copies(model: ir.Model) -> Mapping[str, Reach]:
    """Copies of time that only look at the current and earlier steps, and how far."""
    result: dict[str, Reach] = {}
    for copy in model.copies:
        reach = reach_in(model, roots(model), copy)
        if reach is not None:
            result[copy] = reach
    return result


def looks_ahead(model: ir.Model, copy: str) -> Span | None:
    """Where `copy` is not known to stay at the current and earlier steps."""
    for span, bounds in _sums(model, roots(model), copy):
        if bounds.reach is None:
            return span
    return None


def reach_in(model: ir.Model, exprs: Iterable[ir.Node], copy: str) -> Reach | None:
    """How far `copy` is seen by all sums over it in `exprs`; None where it may look ahead."""
    found = [bounds for _, bounds in _sums(model, exprs, copy)] or [_Bounds()]
    return reduce(_Bounds.either, found).reach


def window_of(reaches: Mapping[str, Reach]) -> Size | None:
    """The largest window of all copies, None where one of them has none."""
    result: Size | None = None
    for window in (r.window for r in reaches.values()):
        if window is None or window == Lit(float("inf")):
            return None
        if result is None or result == window:
            result = window
        else:
            result = apply("max", result, window)
    return result


def reach_within(model: ir.Model, node: ir.Node) -> Mapping[str, Reach | None]:
    """How far what stands in `node` is seen, for each copy that it sums or normalizes."""
    if not isinstance(node, ir.Contract | ir.Reduce | ir.Along):
        return {}
    copies = (c for c in model.copies if c in node.over)
    return {c: _summed(model, node, c).reach for c in copies}


def _sums(
    model: ir.Model, exprs: Iterable[ir.Node], copy: str
) -> Iterator[tuple[Span, _Bounds]]:
    """Bounds of every place in `exprs` where `copy` is summed away or normalized."""
    for node in (n for expr in exprs for n in subtree(expr)):
        if isinstance(node, ir.Contract | ir.Reduce | ir.Along) and copy in node.over:
            yield node.span, _summed(model, node, copy)


def _summed(
    model: ir.Model, node: ir.Contract | ir.Reduce | ir.Along, copy: str
) -> _Bounds:
    """What is known of the entries along `copy` that count in a node over it."""
    match node:
        case ir.Contract(args=args):
            return _product(model, args, copy)
        case ir.Reduce(op=op, arg=arg, where=where):
            bounds = _Bounds() if where is None else holds(model, where, copy)
            return bounds.both(_support(model, arg, copy)) if op == "sum" else bounds
        case ir.Along(op="cumsum", arg=arg):
            return _support(model, arg, copy)
        case ir.Along(op="top", arg=arg):
            # zeros of later steps change nothing where nothing is below them
            known = _not_negative(model, arg)
            return _support(model, arg, copy) if known else _Bounds()
        case ir.Along(where=where):
            return _Bounds() if where is None else holds(model, where, copy)


def _product(model: ir.Model, args: tuple[ir.Node, ...], copy: str) -> _Bounds:
    supports = (_support(model, arg, copy) for arg in args)
    return reduce(_Bounds.both, supports, _Bounds())


def _support(model: ir.Model, node: ir.Node, copy: str) -> _Bounds:
    """What is known wherever `node` is not 0."""
    if node.type.dtype == "bool":
        return holds(model, node, copy)
    match node:
        case ir.Ref(name=name) if name in model.equation and name not in model.state:
            return _support(model, model.equation[name].expr, copy)
        case ir.Along(op="softmax", over=over, where=where) if copy in over:
            return _Bounds() if where is None else holds(model, where, copy)
        case ir.Map(op="mul", args=args) | ir.Contract(args=args):
            return _product(model, args, copy)
        case ir.Map(op="div", args=args):
            return _support(model, args[0], copy)
        case ir.Map(op="where", args=(condition, value, ir.Const(value=Lit(0 | 0.0)))):
            bounds = holds(model, condition, copy)
            return bounds.both(_support(model, value, copy))
        case ir.Map(op="add" | "sub" | "min" | "max", args=args) | ir.Concat(args=args):
            return _any(model, args, copy)
        case ir.Map(op="where", args=(_, *values)):
            return _any(model, values, copy)
        case ir.Map(op=op, args=args) if op in KEEPS_ZERO:
            return _support(model, args[0], copy)
        case ir.Along(op="top", arg=arg) | ir.Rename(arg=arg) | ir.Split(arg=arg):
            return _support(model, arg, copy)
        case ir.Merge(arg=arg) | ir.SliceDim(arg=arg) | ir.Gather(arg=arg):
            return _support(model, arg, copy)
        case ir.Reduce(op="sum" | "mean", arg=arg, over=over) if copy not in over:
            return _support(model, arg, copy)
        case _:
            return _Bounds()


def _any(model: ir.Model, args: Sequence[ir.Node], copy: str) -> _Bounds:
    """Where at least one of `args` is not 0."""
    return reduce(_Bounds.either, (_support(model, arg, copy) for arg in args))


def _not_negative(model: ir.Model, node: ir.Node) -> bool:
    match node:
        case ir.Ref(name=name) if name in model.equation and name not in model.state:
            return _not_negative(model, model.equation[name].expr)
        case ir.Along(op="softmax"):
            return True
        case ir.Map(op=op):
            return op in ("exp", "sigmoid", "softplus", "relu", "square", "abs")
        case _:
            return False


def holds(model: ir.Model, node: ir.Node, copy: str) -> _Bounds:
    """What is known about `t - copy` wherever the condition `node` is true."""
    found = _holds(model, node, copy)
    return replace(found, later=node) if _of_step(model, node, copy) else found


def _of_step(model: ir.Model, node: ir.Node, copy: str) -> bool:
    """Whether `node` is told by step `copy` alone, and by values that streams know of it."""
    if copy not in node.type.axes or not node.type.axes <= {BATCH, copy}:
        return False
    match node:
        case ir.Copy(arg=ir.Ref(name=name)):
            return name not in model.equation or not model.equation[name].scope
        case ir.Copy(arg=ir.Result(call=call)):
            return not model.call[call].scope
        case ir.Position():
            return True
        case ir.Map(args=args):
            parts = [a for a in args if not isinstance(a, ir.Const)]
            return all(_of_step(model, a, copy) for a in parts)
        case _:
            return False


def _holds(model: ir.Model, node: ir.Node, copy: str) -> _Bounds:
    match node:
        case ir.Ref(name=name) if name in model.equation and name not in model.state:
            return holds(model, model.equation[name].expr, copy)
        case ir.Map(op="gt", args=(a, ir.Const(value=Lit(0 | 0.0)))) if (
            a.type.dtype == "float"
        ):
            return _support(model, a, copy)
        case ir.Map(op="and", args=(a, b)):
            return holds(model, a, copy).both(holds(model, b, copy))
        case ir.Map(op="or", args=(a, b)):
            return holds(model, a, copy).either(holds(model, b, copy))
        case ir.Map(op="gt" | "ge" as op, args=(a, b)):
            return _less(model, b, a, copy, strict=op == "gt")
        case ir.Map(op="lt" | "le" as op, args=(a, b)):
            return _less(model, a, b, copy, strict=op == "lt")
        case ir.Map(op="eq", args=(a, b)):
            below = _less(model, a, b, copy, strict=False)
            return below.both(_less(model, b, a, copy, strict=False))
        case _:
            return _Bounds()


def _less(model: ir.Model, a: ir.Node, b: ir.Node, copy: str, strict: bool) -> _Bounds:
    """Bounds from `a < b` (or `a <= b`) where both are affine in `t` and `copy`."""
    left, right = _affine(model, a, copy), _affine(model, b, copy)
    if left is None or right is None:
        return _Bounds()
    t, s = right[0] - left[0], right[1] - left[1]
    rest = apply("-", right[2], left[2])
    if (t, s) == (1, -1) and isinstance(rest, Lit) and isinstance(rest.value, int):
        return _Bounds(least=int(strict) - rest.value)
    if (t, s) == (-1, 1):
        return _Bounds(window=rest if strict else apply("+", rest, Lit(1)))
    return _Bounds()


def _affine(model: ir.Model, node: ir.Node, copy: str) -> tuple[int, int, Size] | None:
    """`node` as a · t + b · copy + c, where it is that."""
    match node:
        case ir.Const(value=value):
            return 0, 0, value
        case ir.Position(along=along) if along in (TIME, copy):
            return int(along == TIME), int(along == copy), Lit(0)
        case ir.Ref(name=name) if name in model.equation and name not in model.state:
            return _affine(model, model.equation[name].expr, copy)
        case ir.Map(op="neg", args=(a,)):
            one = _affine(model, a, copy)
            return None if one is None else (-one[0], -one[1], apply("neg", one[2]))
        case ir.Map(op="add" | "sub" as op, args=(a, b)):
            one, two = _affine(model, a, copy), _affine(model, b, copy)
            if one is None or two is None:
                return None
            sign = 1 if op == "add" else -1
            rest = apply("+" if op == "add" else "-", one[2], two[2])
            return one[0] + sign * two[0], one[1] + sign * two[1], rest
        case _:
            return None
