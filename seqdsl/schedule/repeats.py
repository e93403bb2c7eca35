"""Repeats that a recurrence over time goes through, cut in two.

What of a repeat reads no state of the recurrence is computed under an axis of its own, for
all steps of time at once, and its steps are read as entries of a dim. What remains is
pointwise work and small sums, which a kernel can hold step by step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.sizes import Size
from seqdsl.ir.types import Type
from seqdsl.ir.walk import children, subtree, with_children
from seqdsl.schedule.dependence import names_in
from seqdsl.schedule.plan import Assign, DepthLoop, Step, TimeLoop, defined, walk


def counted(loop: DepthLoop) -> bool:
    """Whether a kernel can hold a repeat: of as many steps as its options say."""
    repeat = loop.repeat
    plain = all(isinstance(s, Assign) for s in loop.body)
    sized = not isinstance(repeat.count, ir.Base) and repeat.condition is None
    return plain and sized and not repeat.scope


def parted(model: ir.Model, steps: Iterable[Step]) -> ir.Model:
    """`model` with the repeats inside of loops along time cut in two."""
    for loop in walk(tuple(steps)):
        if not isinstance(loop, TimeLoop):
            continue
        for step in loop.body:
            if isinstance(step, DepthLoop) and counted(step):
                model = _Parting(model, loop, step).run()
    return model


def of_step(node: ir.Node, axes: Collection[str]) -> bool:
    """Whether `node` is of one step of a repeat along `axes`, in a form that `unrolled` knows.

    That is the number of the step, the step before, an entry as `parted` writes it, or a
    step of a fixed number.
    """
    match node:
        case ir.Position(along=along):
            return along in axes
        case ir.Shift(arg=ir.Ref(), axis=axis, offset=-1):
            return axis in axes
        case ir.At(arg=ir.Ref(), axis=axis, index=None | ir.Const()):
            return axis in axes
        case ir.Gather(
            arg=ir.Ref(),
            index=ir.Map(op="sub", args=(ir.Position(along=along), ir.Const())),
        ):
            return along in axes and along not in node.type.dims
        case _:
            return False


def axes_in(loop: TimeLoop) -> frozenset[str]:
    """Axes of the repeats inside of `loop` that a kernel can hold."""
    inner = (s for s in (*loop.body, *loop.replay) if isinstance(s, DepthLoop))
    return frozenset(s.repeat.axis for s in inner if counted(s))


@dataclass
class _Parting:
    """One repeat of one loop."""

    model: ir.Model
    loop: TimeLoop
    step: DepthLoop
    found: list[ir.Equation] = field(default_factory=list[ir.Equation])
    every: dict[str, ir.Ref] = field(default_factory=dict[str, ir.Ref])
    dims: dict[str, Size] = field(default_factory=dict[str, Size])

    def run(self) -> ir.Model:
        model, repeat = self.model, self.step.repeat
        self.axis, self.taken = repeat.axis, names_of(model)
        self.new = fresh(f"{self.axis}_before", self.taken)
        inner = frozenset(defined(self.step.body))
        self.bound = self._bound()
        self.free = inner - self.bound
        others = [e for e in model.equations if e.name not in inner]
        if any(self.axis in s.scope for s in (*others, *model.calls, *model.instances)):
            return model
        self.untied = frozenset(
            p.name for p in model.params if self.axis in p.type.axes
        )
        equations = tuple(
            self._turned(e)
            if e.name in self.free
            else replace(e, expr=self._read(e.expr, e))
            for e in model.equations
        )
        states = tuple(map(self._state, model.states))
        params = tuple(
            replace(
                p,
                type=self._type(p),
                key=p.key.replace(f"{{{self.axis}}}", f"{{{self.new}}}"),
                init=self._init(p.init),
            )
            for p in model.params
        )
        made = replace(
            model,
            equations=(*self.found, *equations),
            states=states,
            params=params,
            repeats=(*model.repeats, replace(repeat, axis=self.new)),
            dims={**model.dims, **self.dims},
        )
        return made if self.every or self.free else replace(made, repeats=model.repeats)

    def _bound(self) -> frozenset[str]:
        """What of the loop along time reads its states, by way of others or not."""
        model, names = self.model, set(self.loop.carried)
        while True:
            more = {
                name
                for name in defined(self.loop.body)
                if name not in names
                and any(names_in(e) & names for e in self._of(name))
            }
            if not more:
                return frozenset(names & model.equation.keys())
            names |= more

    def _of(self, name: str) -> list[ir.Node]:
        exprs = [self.model.equation[name].expr]
        state = self.model.state.get(name)
        if state is not None and self.axis in state.carried:
            exprs.append(state.initial)
        return exprs

    # ---- What reads no state moves to the new axis

    def _type(self, value: ir.Param | ir.Node | ir.State) -> Type:
        axes = frozenset(self.new if a == self.axis else a for a in value.type.axes)
        return replace(value.type, axes=axes)

    def _init(self, init: ir.Init) -> ir.Init:
        expr = None if init.expr is None else self._moved(init.expr)
        return replace(init, expr=expr)

    def _turned(self, equation: ir.Equation) -> ir.Equation:
        scope = tuple(self.new if a == self.axis else a for a in equation.scope)
        return replace(equation, expr=self._moved(equation.expr), scope=scope)

    def _moved(self, node: ir.Node) -> ir.Node:
        """`node` along the new axis."""
        new = tuple(map(self._moved, children(node)))
        node = with_children(node, new) if new else node
        node = replace(node, type=self._type(node))
        match node:
            case ir.Position(along=along) if along == self.axis:
                return replace(node, along=self.new)
            case ir.Shift(axis=axis) | ir.At(axis=axis) | ir.Stack(axis=axis) if (
                axis == self.axis
            ):
                return replace(node, axis=self.new)
            case _:
                return node

    def _state(self, state: ir.State) -> ir.State:
        """States of the repeat: moved, or starting from what has a name."""
        if self.axis not in state.carried:
            return state
        if state.name in self.free:
            carried = frozenset(
                self.new if a == self.axis else a for a in state.carried
            )
            return replace(state, type=self._type(state), carried=carried)
        if isinstance(state.initial, ir.Const):
            return state
        name = fresh(f"{state.name}_first", self.taken)
        expr = state.initial
        self.found.append(ir.Equation(name=name, expr=expr, written=False))
        return replace(state, initial=build.ref(name, expr.type))

    # ---- What remains reads it

    def _read(self, node: ir.Node, equation: ir.Equation) -> ir.Node:
        """`node`, of an equation that stays, with entries for what has moved."""
        inside = self.axis in equation.scope
        match node:
            case ir.Ref(name=name) if name in self.free or name in self.untied:
                return self._entry(node) if inside else node
            case ir.At(arg=ir.Ref(name=name)) | ir.Stack(arg=ir.Ref(name=name)) if (
                name in self.free and node.axis == self.axis
            ):
                return self._moved(node)
            case ir.Shift(arg=ir.Ref(name=name), axis=axis) if (
                name in self.free and axis == self.axis
            ):
                return self._entry(node)
            case _ if inside and self._costs(node):
                return self._named(node, equation)
            case _:
                old = children(node)
                new = tuple(self._read(c, equation) for c in old)
                same = all(a is b for a, b in zip(old, new, strict=True))
                return node if same else with_children(node, new)

    def _costs(self, node: ir.Node) -> bool:
        """Whether `node` reads no state and is more than pointwise work."""
        if names_in(node) & self.bound:
            return False
        return any(
            isinstance(n, ir.Contract | ir.Reduce | ir.Along | ir.Conv | ir.Gather)
            for n in subtree(node)
        )

    def _named(self, node: ir.Node, equation: ir.Equation) -> ir.Node:
        if self.axis in node.type.axes:
            return self._entry(node, equation.name)
        name = fresh(f"{equation.name}_before", self.taken)
        made = ir.Equation(name=name, expr=node, written=False, span=node.span)
        self.found.append(made)
        return build.ref(name, node.type, node.span)

    def _entry(self, node: ir.Node, base: str = "") -> ir.Node:
        """`node` at the current step of the repeat, from all its steps."""
        key = repr(node)
        if key not in self.every:
            moved = self._moved(node)
            if not isinstance(moved, ir.Ref) or moved.name in self.untied:
                name = moved.name if isinstance(moved, ir.Ref) else base or "before"
                name = fresh(f"{name}_here", self.taken)
                made = ir.Equation(
                    name=name, expr=moved, scope=(self.new,), written=False
                )
                self.found.append(made)
                moved = build.ref(name, moved.type)
            dim = self._dim()
            whole = build.stack(moved, self.new, dim)
            name = fresh(f"{moved.name}_all", self.taken)
            self.found.append(ir.Equation(name=name, expr=whole, written=False))
            self.every[key] = build.ref(name, whole.type)
        here = build.position(self.axis, axis=True)
        index = build.map_("sub", here, build.const(1))
        return build.gather(self.every[key], self._dim(), index, node.span)

    def _dim(self) -> str:
        if not self.dims:
            count = self.step.repeat.count
            assert not isinstance(count, ir.Base)
            self.dims[fresh(f"{self.axis}_steps", self.taken)] = count
        return next(iter(self.dims))
