"""A law of a monoid tried on random elements, and the words for where it fails."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from seqdsl.analysis.bounds import Bounds
from seqdsl.analysis.intervals import REAL, Interval
from seqdsl.analysis.numeric import Array, Numeric, small
from seqdsl.diagnostics import Diagnostic, Label
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import Type
from seqdsl.ir.walk import subtree
from seqdsl.source import Span

ROUNDS = 60
"""How many elements a law is tried on."""

Values = tuple[Array, ...]
_NICE = (0.0, 1.0, -1.0, 2.0, 0.5, 3.0, -2.0)
_LARGE = 1e6


@dataclass(frozen=True)
class Law:
    """Two expressions over the elements `over` that must agree, and what it means if not.

    `loop` is the side that a loop takes: where that is no number, nothing is asked.
    """

    code: str
    name: str
    over: tuple[str, ...]
    left: tuple[ir.Node, ...]
    right: tuple[ir.Node, ...]
    message: str
    sides: tuple[str, str]
    loop: int = 1


class Tries:
    """Elements that can occur, and what they combine to."""

    def __init__(self, model: ir.Model, monoid: ir.Monoid) -> None:
        self.model = model
        self.monoid = monoid
        self.random = Random(monoid.name)
        self.extents = small(model.dims, _copies(monoid))
        self.options = {o.name: 2 for o in model.options}
        self.bounds = Bounds(model)
        self.types = [t for _, t in monoid.fields]
        self.states = [model.equation[s].expr.type for s in monoid.states]

    def counterexample(self, law: Law) -> Diagnostic | None:
        """A finding where `law` does not hold for some elements."""
        for number in range(ROUNDS):
            values: dict[str, Array] = {}
            for name in law.over:
                made = self._states(number) if name == "s" else self._element(number)
                values |= {f"{name}.{i}": v for i, v in enumerate(made)}
            types = self.states if "s" in law.over else self.types
            left, right = (self._run(n, types, values) for n in (law.left, law.right))
            for i, (one, other) in enumerate(zip(left, right, strict=True)):
                loop = (one, other)[law.loop]
                if not _agree(one, other, loop):
                    return self._report(law, values, left, right, i)
        return None

    def _run(
        self,
        nodes: Sequence[ir.Node],
        types: Sequence[Type],
        values: Mapping[str, Array],
    ) -> Values:
        numbers = Numeric(self.extents, self.options, values)
        pairs = zip(nodes, types, strict=True)
        return tuple(numbers.spread(n, t.dims) for n, t in pairs)

    def _element(self, number: int) -> Values:
        """A step, two steps in a row, or the identity."""
        kind = self.random.randrange(6)
        if kind == 0:
            return self._run(self.monoid.identity, self.types, {})
        step = self._leaf(number)
        return self._two(step, self._leaf(number)) if kind == 1 else step

    def _two(self, a: Values, b: Values) -> Values:
        values = {f"first.{i}": v for i, v in enumerate(a)}
        values |= {f"second.{i}": v for i, v in enumerate(b)}
        return self._run(self.monoid.combine, self.types, values)

    def _leaf(self, number: int) -> Values:
        """A step as the layer makes it, of inputs and parameters that may be anything."""
        drawn: dict[str, Array] = {}

        def unknown(node: ir.Node) -> Array:
            name = node.name if isinstance(node, ir.Ref) else f"#{id(node)}"
            if name not in drawn:
                drawn[name] = self._drawn(node, numbers, number)
            return drawn[name]

        numbers = Numeric(self.extents, self.options, {}, unknown)
        pairs = zip(self.monoid.leaf, self.types, strict=True)
        return tuple(numbers.spread(n, t.dims) for n, t in pairs)

    def _drawn(self, node: ir.Node, numbers: Numeric, number: int) -> Array:
        if isinstance(node, ir.Ref) and node.name in self.model.equation:
            expr = self.model.equation[node.name].expr
            return numbers.spread(expr, node.type.dims)
        return self._entries(node.type, self.bounds.of(node), number)

    def _states(self, number: int) -> Values:
        """Any states, or such as a step leaves behind."""
        return tuple(self._entries(t, REAL, number) for t in self.states)

    def _entries(self, type_: Type, within: Interval, number: int) -> Array:
        places = Numeric(self.extents, self.options, {}).indices(type_.dims)
        return {i: self._entry(type_, within, number) for i in places}

    def _entry(self, type_: Type, within: Interval, number: int) -> float | int | bool:
        if type_.dtype == "bool":
            return self.random.random() < 0.5
        nice = [x for x in _NICE if x in within]
        if type_.dtype == "int":
            low, high = max(within.low, -4), min(within.high, 4)
            return self.random.randint(
                math.ceil(low), max(math.ceil(low), math.floor(high))
            )
        if number < ROUNDS // 3 and nice:
            return self.random.choice(nice)
        return _inside(within, self.random)

    # ---- What is said

    def _report(
        self,
        law: Law,
        values: Mapping[str, Array],
        left: Values,
        right: Values,
        at: int,
    ) -> Diagnostic:
        monoid = self.monoid
        fields = [n for n, _ in monoid.fields]
        names = list(monoid.states) if "s" in law.over else fields
        shown = [
            f"{name}: {self._shown(name, values, names if name == 's' else fields)}"
            for name in law.over
        ]
        digits = 4 if _text(left[at]) != _text(right[at]) else 12
        one, other = (
            f"{side}: {names[at]} = {_text(found[at], digits)}"
            for side, found in zip(law.sides, (left, right), strict=True)
        )
        node = monoid.read[at] if "s" in law.over else monoid.combine[at]
        call = self.model.equation[monoid.states[0]].span
        return Diagnostic(
            law.code,
            law.message,
            _place(node.span, monoid.span),
            (Label(call, "a step is made here"),),
            (f"for instance with {'; '.join(shown)}", f"{one}; {other}"),
        )

    def _shown(
        self, element: str, values: Mapping[str, Array], names: Sequence[str]
    ) -> str:
        texts = (
            f"{n} = {_text(values[f'{element}.{i}'])}" for i, n in enumerate(names)
        )
        return ", ".join(texts)


def _copies(monoid: ir.Monoid) -> frozenset[str]:
    """Dims along which an element is only several independent ones."""
    shared = [frozenset(t.dims) for _, t in monoid.fields]
    nodes = [n for e in (*monoid.combine, *monoid.read) for n in subtree(e)]
    mixed = {d for n in nodes for d in _mixed(n)}
    common = shared[0]
    for dims in shared[1:]:
        common &= dims
    return common - mixed


def _mixed(node: ir.Node) -> tuple[str, ...]:
    match node:
        case ir.Reduce(over=over) | ir.Contract(over=over):
            return over
        case ir.Gather(dim=dim) | ir.Position(along=dim):
            return (dim,)
        case ir.Rename(pairs=pairs):
            return tuple(d for pair in pairs for d in pair)
        case _:
            return ()


def _place(span: Span, otherwise: Span) -> Span:
    return span if span.source is otherwise.source and span.text else otherwise


def _inside(within: Interval, random: Random) -> float:
    low, high = within.low, within.high
    if math.isfinite(low) and math.isfinite(high):
        return low if low == high else random.uniform(low, high)
    if math.isfinite(low):
        return low + random.expovariate(1.0)
    if math.isfinite(high):
        return high - random.expovariate(1.0)
    return random.gauss(0.0, 2.0)


def _agree(a: Array, b: Array, loop: Array) -> bool:
    return all(math.isnan(loop[i]) or _close(float(a[i]), float(b[i])) for i in a)


def _close(a: float, b: float) -> bool:
    if a == b or max(abs(a), abs(b)) > _LARGE and math.isfinite(a) and math.isfinite(b):
        return True
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-7)


def _text(array: Array, digits: int = 4) -> str:
    entries = [
        f"{v}".lower() if isinstance(v, bool) else f"{v:.{digits}g}"
        for v in array.values()
    ]
    return entries[0] if len(entries) == 1 else f"[{', '.join(entries)}]"
