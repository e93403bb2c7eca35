"""A region whose sizes are known: numbers for its dims, its repeats written out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Scalar, Size, evaluate, options_of
from seqdsl.ir.types import DType
from seqdsl.ir.walk import children, subtree, transform, with_children
from seqdsl.rewrite.real_parts import full
from seqdsl.schedule.region import Region, Turns


def bound(region: Region, sizes: Mapping[str, Scalar]) -> Region:
    """The region for known extents and options, which it then no longer has."""
    for turns in region.turns:
        region = _Unroller(region, turns, sizes).run()
    model = region.model
    dims = {d: Lit(sizes[d]) for d in model.dims if d in sizes}

    def known(node: ir.Node) -> ir.Node:
        match node:
            case ir.Const(value=value):
                return replace(node, value=Lit(evaluate(value, sizes)))
            case ir.SliceDim(start=start, step=step):
                first, every = evaluate(start, sizes), evaluate(step, sizes)
                return replace(node, start=Lit(first), step=Lit(every))
            case _:
                return node

    equations = tuple(
        replace(e, expr=transform(e.expr, known)) for e in model.equations
    )
    return replace(
        region,
        model=replace(model, options=(), dims=dims, equations=equations),
        turns=(),
    )


def _number(size: Size, sizes: Mapping[str, Scalar]) -> int:
    value = evaluate(size, sizes)
    assert not isinstance(value, str)
    return int(value)


def entry(name: str, step: int) -> str:
    """What an input of a repeat, or one of its values, is called at a step."""
    return f"{name}.{step}"


@dataclass(frozen=True)
class _Unroller:
    """One repeat of a region as equations for each of its steps."""

    region: Region
    turns: Turns
    sizes: Mapping[str, Scalar]

    @cached_property
    def count(self) -> int:
        return _number(self.turns.count, self.sizes)

    def run(self) -> Region:
        region, model = self.region, self.region.model
        equations = {e.name: e for e in model.equations}
        new: dict[str, ir.Equation] = {}
        orders: list[tuple[str, ...]] = []
        for names in (region.steps, region.replay):
            order = [*self._ordered([equations[n] for n in names])]
            new |= {e.name: e for e in order}
            orders.append(tuple(e.name for e in order))
        inputs = tuple(i for old in model.inputs for i in self._input(old))
        return replace(
            region,
            model=replace(model, inputs=inputs, equations=tuple(new.values())),
            steps=orders[0],
            replay=orders[1],
        )

    def _input(self, old: ir.Input) -> Iterator[ir.Input]:
        if old.name not in self.turns.stacked:
            yield old
            return
        type_ = replace(old.type, dims=old.type.dims[1:])
        for step in range(1, self.count + 1):
            yield replace(old, name=entry(old.name, step), type=type_)

    def _ordered(self, old: Sequence[ir.Equation]) -> Iterator[ir.Equation]:
        """Equations outside of the repeat, and in its place those of all steps."""
        inside = [e for e in old if self.turns.axis in e.scope]
        for equation in old:
            if equation not in inside:
                yield replace(equation, expr=self._at(equation.expr, 0))
            elif equation is inside[0]:
                for step in range(1, self.count + 1):
                    yield from (self._turn(e, step) for e in inside)

    def _turn(self, equation: ir.Equation, step: int) -> ir.Equation:
        expr = self._at(equation.expr, step)
        state = self._state.get(equation.name)
        if state is not None:
            expr = full(cast(expr, state.type.dtype), state.type.dims)
        return ir.Equation(name=entry(equation.name, step), expr=expr)

    @cached_property
    def _state(self) -> Mapping[str, ir.State]:
        return {s.name: s for s in self.turns.states}

    def _at(self, node: ir.Node, step: int) -> ir.Node:
        """`node` at one step of the repeat; 0 is outside of it."""
        axis = self.turns.axis
        match node:
            case ir.Ref(name=name) if self._inside(name):
                return build.ref(entry(name, step), node.type)
            case ir.Shift(arg=ir.Ref(name=name), axis=own) if own == axis:
                return self._value(name, step - 1, node)
            case ir.At(arg=ir.Ref(name=name), axis=own, index=index) if own == axis:
                place = self.count
                if isinstance(index, ir.Const):
                    place = _number(index.value, self.sizes)
                return self._value(name, place, node)
            case ir.Position(along=along) if along == axis:
                return build.const(step)
            case ir.Gather(arg=ir.Ref(name=name)) if name in self.turns.stacked:
                type_ = replace(node.type, axes=node.arg.type.axes)
                return build.ref(entry(name, step), type_)
            case _:
                old = children(node)
                new = tuple(self._at(c, step) for c in old)
                return node if new == old else with_children(node, new)

    def _value(self, name: str, step: int, like: ir.Node) -> ir.Node:
        if step > 0:
            return build.ref(entry(name, step), like.type)
        first = self._state[name].initial
        return full(cast(first, like.type.dtype), like.type.dims)

    def _inside(self, name: str) -> bool:
        equation = self.region.model.equation.get(name)
        return equation is not None and self.turns.axis in equation.scope


def cast(expr: ir.Node, dtype: DType) -> ir.Node:
    """`expr` as a value of that dtype."""
    if expr.type.dtype == dtype:
        return expr
    if dtype == "complex":
        return build.map_("complex", build.map_("float", expr), build.const(0.0))
    return build.map_(dtype, expr)


def named(region: Region) -> Iterator[str]:
    """Dims and options that a kernel of `region` must know, some more than once."""
    model = region.model
    for value in (*model.inputs, *model.states):
        yield from value.type.dims
    for equation in model.equations:
        for node in subtree(equation.expr):
            yield from node.type.dims
            if isinstance(node, ir.Const):
                yield from options_of(node.value)
            if isinstance(node, ir.Contract | ir.Reduce | ir.Along):
                yield from (d for d in node.over)
    for turns in region.turns:
        yield from options_of(turns.count)
        for state in turns.states:
            yield from state.type.dims
            consts = (n for n in subtree(state.initial) if isinstance(n, ir.Const))
            yield from (o for c in consts for o in options_of(c.value))
