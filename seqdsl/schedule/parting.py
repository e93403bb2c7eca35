"""One loop along depth as two: `parted(model, axis, part)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.types import Type
from seqdsl.ir.walk import children, with_children

_Leaf = ir.Ref | ir.Shift | ir.At | ir.Stack | ir.Copy


class _Unreadable(Exception):
    """A value cannot be read from the other loop."""


def parted(model: ir.Model, axis: str, part: frozenset[str]) -> ir.Model | None:
    """`model` with the equations `part` of the repeat `axis` in a repeat of their own.

    Either loop reads the values of the other at its own step. None where it cannot: a
    call stands in the loop, its length is told by a condition, or a value is read along a
    copy of time.
    """
    inner = dict.fromkeys(
        a
        for e in model.equations
        if e.name in part
        for a in e.scope[e.scope.index(axis) :]
    )
    halts = any(model.repeat[a].condition is not None for a in inner)
    if halts or any(axis in call.scope for call in model.calls):
        return None
    taken = names_of(model) | {o.name for o in model.outputs}
    moved = {a: fresh(f"{a}_part", taken) for a in inner}
    try:
        return _Parting(model, part, moved, taken).run()
    except _Unreadable:
        return None


@dataclass
class _Parting:
    """`part` moves from the axes that `moved` names to others of the same lengths."""

    model: ir.Model
    part: frozenset[str]
    moved: Mapping[str, str]
    taken: set[str]
    added: dict[ir.Node, ir.Equation] = field(
        default_factory=dict[ir.Node, ir.Equation]
    )

    def __post_init__(self) -> None:
        self.back = {new: old for old, new in self.moved.items()}

    def run(self) -> ir.Model:
        """The model with both loops."""
        model = self.model
        states = tuple(map(self._state, model.states))
        outputs = [replace(o, expr=self._node(o.expr, ())) for o in model.outputs]
        equations = [*map(self._equation, model.equations)]
        repeats = [*model.repeats, *map(self._again, self.moved)]
        return replace(
            model,
            equations=(*equations, *self.added.values()),
            states=states,
            outputs=tuple(outputs),
            repeats=tuple(repeats),
        )

    def _again(self, axis: str) -> ir.Repeat:
        repeat, count = self.model.repeat[axis], self.model.repeat[axis].count
        scope = self._scope(repeat.scope)
        if isinstance(count, ir.Base):
            count = self._node(count, scope)
        return replace(repeat, axis=self.moved[axis], scope=scope, count=count)

    def _equation(self, equation: ir.Equation) -> ir.Equation:
        scope = self._scope_of(equation.name)
        return replace(equation, expr=self._node(equation.expr, scope), scope=scope)

    def _state(self, state: ir.State) -> ir.State:
        scope = self._scope_of(state.name)
        state = replace(state, initial=self._node(state.initial, scope))
        if state.name not in self.part:
            return state
        carried = frozenset(self._scope(tuple(state.carried)))
        return replace(state, carried=carried, type=self._type(state.type))

    # ---- Axes

    def _scope_of(self, name: str) -> tuple[str, ...]:
        scope = self.model.equation[name].scope
        return self._scope(scope) if name in self.part else scope

    def _scope(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.moved.get(a, a) for a in axes)

    def _type(self, type_: Type) -> Type:
        return replace(type_, axes=frozenset(self._scope(tuple(type_.axes))))

    # ---- Expressions

    def _node(self, node: ir.Node, scope: tuple[str, ...]) -> ir.Node:
        """`node` where the loops along `scope` are around it."""
        own = bool(self.back.keys() & set(scope))
        match node:
            case ir.Ref() | ir.Shift() | ir.At() | ir.Stack() | ir.Copy():
                return self._read(node, scope)
            case ir.Position(along=along) if own and along in self.moved:
                return build.position(self.moved[along], axis=True)
            case _:
                old = children(node)
                new = tuple(self._node(child, scope) for child in old)
                if not all(a is b for a, b in zip(old, new, strict=True)):
                    node = with_children(node, new)
                if own and node.type.axes & self.moved.keys():
                    node = replace(node, type=self._type(node.type))
                return node

    def _read(self, node: _Leaf, scope: tuple[str, ...]) -> ir.Node:
        """A value from where it now stands, at the step of the loops around."""
        ref = node if isinstance(node, ir.Ref) else node.arg
        if not isinstance(ref, ir.Ref):
            return node
        read = self._leaf(node, ref, scope)
        while away := self._away(read, scope):
            if isinstance(read, ir.Ref) and self._rereads(read.name):
                return self._read_again(read, scope)
            if not isinstance(read, ir.Ref):
                read = self._named(read, ref.name, scope)
            here = self.back.get(away, self.moved.get(away, away))
            there = build.position(here, axis=True)
            read = build.at(read, away, there, node.span)
        return read

    def _leaf(self, node: _Leaf, ref: ir.Ref, scope: tuple[str, ...]) -> ir.Node:
        """`node` along the axes of the loop in which `ref` stands."""
        moved = ref.name in self.part
        if moved:
            ref = replace(ref, type=self._type(ref.type))
        match node:
            case ir.At(axis=axis, index=index):
                axis = self.moved.get(axis, axis) if moved else axis
                place = None if index is None else self._node(index, scope)
                same = not moved and place is index
                return node if same else build.at(ref, axis, place, node.span)
            case _ if not moved:
                return node
            case ir.Ref():
                return ref
            case ir.Copy(copy=copy):
                return build.copy(ref, copy, node.span)
            case ir.Shift(axis=axis, offset=offset):
                return build.shift(ref, self.moved.get(axis, axis), offset, node.span)
            case ir.Stack(axis=axis, dim=dim):
                return build.stack(ref, self.moved.get(axis, axis), dim, node.span)

    def _away(self, node: ir.Node, scope: tuple[str, ...]) -> str | None:
        """The outermost axis of the other loop along which `node` varies."""
        for axis in scope:
            other = self.back.get(axis, self.moved.get(axis))
            if other is not None and other in node.type.axes:
                return other
        return None

    def _rereads(self, name: str) -> bool:
        """Whether a value is nothing but another from elsewhere, better read there."""
        equation = self.model.equation.get(name)
        if equation is None or name in self.model.state:
            return False
        read = equation.expr
        return (
            isinstance(read, ir.At)
            and isinstance(read.arg, ir.Ref)
            and (not read.arg.type.axes & self.moved.keys())
        )

    def _read_again(self, ref: ir.Ref, scope: tuple[str, ...]) -> ir.Ref:
        """What `ref` reads elsewhere, read in the loops along `scope` too."""
        expr = self._node(self.model.equation[ref.name].expr, scope)
        return self._named(expr, ref.name, scope)

    def _named(self, read: ir.Node, name: str, scope: tuple[str, ...]) -> ir.Ref:
        """`read` as an equation that stands where it is read, its own axes in place."""
        if read not in self.added:
            if read.type.axes & frozenset(self.model.copies):
                raise _Unreadable
            places = ((a, self.back.get(a, self.moved.get(a, a))) for a in scope)
            axes = (a if a in read.type.axes else b for a, b in places)
            self.added[read] = ir.Equation(
                name=fresh(f"{name}_part", self.taken),
                expr=read,
                scope=tuple(a for a in axes if a in read.type.axes),
                written=False,
                span=read.span,
            )
        return build.ref(self.added[read].name, read.type, read.span)
