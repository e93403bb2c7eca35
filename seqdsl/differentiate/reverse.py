"""Reverse accumulation over a whole layer: an equation for the gradient of every value.

What an equation reads at `[t-1]` hands its gradient to a step earlier. That gradient,
`d_h_prev` for `h[t-1]`, is a state which the gradient of `h` reads at `[t+1]`: outside
the sequence it is the gradient of the final state, and its value at the first step is
the gradient of the initial state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from seqdsl.diagnostics import UnsupportedError
from seqdsl.differentiate.broadcast import Dims, add, fit, placed, typed
from seqdsl.differentiate.contractions import contracted
from seqdsl.differentiate.normal import costly
from seqdsl.differentiate.readings import Leaf, Reading, gathered, readings
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.values import type_of
from seqdsl.ir.walk import references, transform
from seqdsl.source import Span


@dataclass(frozen=True)
class Gradients:
    """Equations and states of the gradients, and what they mean.

    `upstream` are the inputs that give the gradients of outputs, by output; `gradient`
    is the value that holds the gradient of an input or parameter, by its name.
    """

    upstream: Mapping[str, ir.Input]
    equations: tuple[ir.Equation, ...]
    states: tuple[ir.State, ...]
    gradient: Mapping[str, ir.Ref]
    dims: Dims


def smooth(type_: Type) -> bool:
    """Whether values of a type have gradients."""
    return type_.dtype in ("float", "complex")


def reverse(model: ir.Model, wanted: Collection[str]) -> Gradients:
    """Gradients of the inputs and parameters `wanted` of a model in normal form."""
    return _Reverse(model, wanted).run()


@dataclass
class _Reverse:
    model: ir.Model
    wanted: Collection[str]
    found: dict[str, list[Reading]] = field(default_factory=dict[str, list[Reading]])
    todo: list[str] = field(default_factory=list[str])
    carries: dict[tuple[str, str, int], str] = field(
        default_factory=dict[tuple[str, str, int], str]
    )
    added: list[ir.Equation] = field(default_factory=list[ir.Equation])
    states: list[ir.State] = field(default_factory=list[ir.State])

    def __post_init__(self) -> None:
        model = self.model
        self.dims = Dims(model.dims, frozenset(model.copies))
        self.taken = names_of(model) | {o.name for o in model.outputs}
        self.active = influenced(model, self.wanted)
        named = (*model.input, *model.param, *model.equation)
        self.names = {n: self._name(f"d_{n}") for n in named if n in self.active}
        self.known = _known(model)
        self.upstream = {
            o.name: self._given(o) for o in model.outputs if self._hands(o)
        }

    def _name(self, wanted: str) -> str:
        return fresh(wanted.replace(".", "_"), self.taken)

    def _hands(self, output: ir.Output) -> bool:
        return smooth(output.expr.type) and self.reads(output.expr)

    def _given(self, output: ir.Output) -> ir.Input:
        type_ = _per_sequence(output.expr.type)
        return ir.Input(
            name=self._name(f"g_{output.name}"), type=type_, span=output.span
        )

    def reads(self, node: ir.Node) -> bool:
        """Whether something wanted influences `node`."""
        return any(
            isinstance(r, ir.Ref) and r.name in self.active for r in references(node)
        )

    def type(self, name: str) -> Type:
        """The type of the gradient of `name`."""
        return _per_sequence(type_of(self.model, name))

    def gradient(self, name: str) -> ir.Ref:
        """The gradient of `name`, by reference."""
        return build.ref(self.names[name], self.type(name))

    # ---- From what is read to its readers' gradients

    def run(self) -> Gradients:
        """All gradients that some output hands down."""
        model = self.model
        for output in model.outputs:
            if output.name in self.upstream:
                given = self.upstream[output.name]
                ct = build.ref(given.name, given.type, output.span)
                self._read(output.expr, ct, given.type.axes)
        while self.todo:
            name = self.todo.pop(0)
            if name in model.equation:
                self._read(
                    model.equation[name].expr, self.gradient(name), self.type(name).axes
                )
        order = [*model.equations[::-1], *model.params, *model.inputs]
        for name in [o.name for o in order]:
            if name in self.found:
                self._define(name)
        gradient = {n: self.gradient(n) for n in self.wanted if n in self.found}
        return Gradients(
            self.upstream, tuple(self.added), tuple(self.states), gradient, self.dims
        )

    def _read(self, expr: ir.Node, ct: ir.Node, around: frozenset[str]) -> None:
        """Hand the gradient `ct` to everything that `expr` reads."""
        ct = fit(ct, expr, self.dims)
        try:
            found = list(readings(expr, ct, around, self.dims, self.reads))
        except build.Issue as issue:
            raise UnsupportedError(f"no adjoint: {issue.message}") from None
        for reading in found:
            name = _source(reading.leaf)
            if name not in self.found:
                self.found[name] = []
                self.todo.append(name)
            self.found[name].append(reading)
            if isinstance(reading.leaf, ir.Shift):
                self._carry(reading.leaf)

    def _carry(self, leaf: ir.Shift) -> None:
        """A name for what `leaf` hands to another step; the first steps hand it on."""
        name, axis, offset = _source(leaf), leaf.axis, leaf.offset
        if (name, axis, offset) in self.carries:
            return
        if axis != TIME:
            raise UnsupportedError(
                f"the adjoint of a repeat along `{axis}` is not made yet"
            )
        far = "" if abs(offset) == 1 else str(abs(offset))
        wanted = f"{self.names[name]}_{'prev' if offset < 0 else 'next'}{far}"
        self.carries[name, axis, offset] = self._name(wanted)
        if name in self.model.state:
            initial = self.model.state[name].initial
            if self.reads(initial):
                self._read(
                    initial, self._outside(name, offset), self.type(name).axes - {TIME}
                )

    def _outside(self, name: str, offset: int) -> ir.Node:
        """The gradient of what a shifted state reads outside the sequence."""
        carry = build.ref(self.carries[name, TIME, offset], self.type(name))
        if offset == -1:
            return build.at(carry, TIME, build.const(0))
        here = build.position(TIME, axis=True)
        if offset < 0:
            early = build.map_("lt", here, build.const(-offset))
            return build.reduce("sum", carry, (TIME,), early)
        return build.reduce(
            "sum", carry, (TIME,), build.map_("not", self._inside(offset))
        )

    def _inside(self, offset: int) -> ir.Node:
        """Whether the sequence has a step `offset` later."""
        if not any(e.name == "inside" for e in self.added):
            pass
        raise UnsupportedError("not yet")

    # ---- Equations

    def _define(self, name: str) -> None:
        """The equation of the gradient of `name`, and of what it gets from other steps."""
        total: ir.Node | None = None
        shifted: dict[tuple[str, int], list[Reading]] = {}
        ends: list[Reading] = []
        for reading in self.found[name]:
            match reading.leaf:
                case ir.Ref():
                    total = add(total, gathered(reading, self.type(name)))
                case ir.Shift(axis=axis, offset=offset):
                    shifted.setdefault((axis, offset), []).append(reading)
                case ir.At(axis=axis, index=None) if axis == TIME:
                    ends.append(reading)
                case _:
                    raise UnsupportedError("the adjoint of this read is not made yet")
        carried = (TIME, -1) in shifted
        if ends and not carried:
            raise UnsupportedError("not yet")
        for (axis, offset), reads in shifted.items():
            carry = self._carried(
                name, axis, offset, reads, ends if offset == -1 else []
            )
            total = add(total, build.shift(carry, axis, -offset))
        assert total is not None
        place = len(self.added) - len(shifted)
        self._add(self.names[name], total, self.type(name), name)
        self.added.insert(place, self.added.pop())

    def _carried(
        self,
        name: str,
        axis: str,
        offset: int,
        reads: list[Reading],
        ends: list[Reading],
    ) -> ir.Ref:
        """What the reads of `name` at one other step hand to it."""
        type_ = self.type(name)
        carry = self.carries[name, axis, offset]
        here = self._sum(reads, type_)
        self._add(carry, here, type_, name)
        last = Type(type_.dtype, type_.dims, type_.axes - {axis})
        initial = typed(self._sum(ends, last), last) if ends else _zero(type_)
        self.states.append(
            ir.State(
                name=carry,
                type=type_,
                initial=initial,
                carried=frozenset({axis}),
                span=self._span(name),
            )
        )
        return build.ref(carry, type_)

    def _sum(self, reads: list[Reading], type_: Type) -> ir.Node:
        total: ir.Node | None = None
        for reading in reads:
            total = add(total, gathered(reading, type_))
        assert total is not None
        return total

    def _span(self, name: str) -> Span:
        model = self.model
        named = model.equation.get(name) or model.input.get(name) or model.param[name]
        return named.span

    def _add(self, name: str, expr: ir.Node, type_: Type, of: str) -> None:
        span = self._span(of)
        expr = transform(expr, lambda node: self.known.get(node, node))
        expr = placed(typed(contracted(expr), type_), span)
        self.added.append(ir.Equation(name=name, expr=expr, written=False, span=span))


def _known(model: ir.Model) -> dict[ir.Node, ir.Node]:
    """Names of the results that derivatives mention as they were computed."""
    known: dict[ir.Node, ir.Node] = {}
    for equation in model.equations:
        type_ = type_of(model, equation.name)
        halts = any(model.repeat[a].condition for a in equation.scope)
        own = equation.expr.type
        if costly(equation.expr) and not halts and own.dims == type_.dims:
            known[equation.expr] = build.ref(equation.name, type_)
    return known


def _zero(type_: Type) -> ir.Node:
    return build.const(0.0)


def _per_sequence(type_: Type) -> Type:
    """The type of the gradient of a value of `type_`.

    What is the same for all sequences but changes along time gets a share from each
    sequence, as sequences are not equally long.
    """
    extra = {BATCH} if TIME in type_.axes else set[str]()
    return replace(type_, axes=type_.axes | extra)


def _source(leaf: Leaf) -> str:
    ref = leaf if isinstance(leaf, ir.Ref) else leaf.arg
    assert isinstance(ref, ir.Ref)
    return ref.name


def influenced(model: ir.Model, wanted: Collection[str]) -> frozenset[str]:
    """Float and complex values that depend on something `wanted`, along any axis."""
    readers: dict[str, list[str]] = {}
    for equation in model.equations:
        exprs = [equation.expr]
        if equation.name in model.state:
            exprs.append(model.state[equation.name].initial)
        for expr in exprs:
            for read in references(expr):
                if isinstance(read, ir.Ref):
                    readers.setdefault(read.name, []).append(equation.name)
    active: set[str] = set()
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name not in active and smooth(type_of(model, name)):
            active.add(name)
            todo.extend(readers.get(name, ()))
    return frozenset(active)
