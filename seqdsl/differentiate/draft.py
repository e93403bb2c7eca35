"""What differentiation adds to a model while it goes: names, equations, axes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from seqdsl.differentiate.broadcast import Dims, placed, typed
from seqdsl.differentiate.contractions import contracted
from seqdsl.differentiate.normal import costly
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.sizes import Apply, Lit, Opt
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.values import type_of
from seqdsl.ir.walk import transform
from seqdsl.source import Span


@dataclass
class Draft:
    """Additions to `model`, which is in normal form.

    A `repeat` is walked backward along an axis of its own, which counts from its last
    step; `mirrors` are these axes by the ones they mirror. What then runs forward
    anew has axes of its own too, so that no loop waits for itself: `again`.
    With `segments`, sums over sequences are over all segments.
    """

    model: ir.Model
    segments: bool = False
    equations: dict[str, ir.Equation] = field(default_factory=dict[str, ir.Equation])
    states: dict[str, ir.State] = field(default_factory=dict[str, ir.State])
    mirrors: dict[str, ir.Repeat] = field(default_factory=dict[str, ir.Repeat])
    again: dict[str, ir.Repeat] = field(default_factory=dict[str, ir.Repeat])
    copies: list[str] = field(default_factory=list[str])
    shared: dict[object, ir.Ref] = field(default_factory=dict[object, ir.Ref])

    def __post_init__(self) -> None:
        model = self.model
        self.taken = names_of(model) | {o.name for o in model.outputs}
        self.dims = Dims(model.dims, frozenset(model.copies), taken=self.taken)
        self.known = _known(model)

    # ---- Names and equations

    def name(self, wanted: str) -> str:
        """A name like `wanted` that nothing has."""
        return fresh(wanted.replace(".", "_"), self.taken)

    def define(
        self, name: str, expr: ir.Node, type_: Type, scope: tuple[str, ...], span: Span
    ) -> ir.Ref:
        """The new equation `name = expr`; results of the model are mentioned by name."""
        expr = placed(typed(contracted(self.mentioned(expr)), type_), span)
        self.equations[name] = ir.Equation(
            name=name, expr=expr, scope=scope, written=False, span=span
        )
        return build.ref(name, type_, span)

    def mentioned(self, expr: ir.Node) -> ir.Node:
        """`expr` with results of the model by their names."""
        return transform(expr, lambda node: self.known.get(node, node))

    def carry(
        self, name: str, type_: Type, axis: str, initial: ir.Node, span: Span
    ) -> None:
        """Make the equation `name` a state that is read at other steps of `axis`."""
        self.states[name] = ir.State(
            name=name,
            type=type_,
            initial=initial,
            carried=frozenset({axis}),
            span=span,
        )

    # ---- Axes

    def mirror(self, axis: str) -> ir.Repeat:
        """The `repeat` that walks `axis` from its last step to its first."""
        if axis not in self.mirrors:
            forward = self.model.repeat[axis]
            name = self.name(f"{axis}_back")
            scope = self.mirrored(forward.scope)
            self.mirrors[axis] = replace(
                forward, axis=name, condition=None, scope=scope
            )
        return self.mirrors[axis]

    def rerun(self, axis: str) -> ir.Repeat:
        """Another `repeat` with the steps of `axis`, in their order."""
        if axis not in self.again:
            forward, name = self.model.repeat[axis], self.name(f"{axis}_again")
            self.again[axis] = replace(forward, axis=name, condition=None)
        return self.again[axis]

    def mirrored(self, scope: Iterable[str]) -> tuple[str, ...]:
        """The axes of a scope, walked backward."""
        return tuple(self.mirror(axis).axis for axis in scope)

    def scope_of(self, axes: frozenset[str]) -> tuple[str, ...]:
        """Those of `axes` that are repeats, forward or backward, outermost first."""
        added = (*self.mirrors.values(), *self.again.values())
        found = [r for r in (*self.model.repeats, *added) if r.axis in axes]
        found.sort(key=lambda r: len(r.scope))
        return tuple(r.axis for r in found)

    def back(self, axis: str) -> ir.Node:
        """The step of `axis` that the current step of its mirror stands for."""
        mirror = self.mirror(axis)
        here = build.position(mirror.axis, axis=True)
        return build.map_("sub", self.count(axis, 1), here)

    def count(self, axis: str, more: int = 0) -> ir.Node:
        """The steps of the repeat `axis` and `more`, as a whole number."""
        count = self.model.repeat[axis].count
        match count:
            case Lit(int(value)):
                return build.const(value + more)
            case Lit() | Opt() | Apply():
                size = build.const(count)
                node = size if size.type.dtype == "int" else build.map_("int", size)
            case _:
                node = count
        return build.map_("add", node, build.const(more)) if more else node

    # ---- Types

    def gradient_type(self, name: str) -> Type:
        """The type of the gradient of a value: there is one wherever the value stands.

        What is the same for all sequences but changes along time gets a share from each
        sequence, as sequences are not equally long.
        """
        type_ = type_of(self.model, name)
        equation = self.model.equation.get(name)
        scope = () if equation is None else equation.scope
        return replace(type_, axes=self.behind(type_.axes | set(scope)))

    def behind(self, axes: frozenset[str]) -> frozenset[str]:
        """Axes of a value as those of its gradient."""
        turned = {self.mirror(a).axis if a in self.model.repeat else a for a in axes}
        return frozenset(turned | ({BATCH} if TIME in axes else set[str]()))


def _known(model: ir.Model) -> dict[ir.Node, ir.Node]:
    """Names of the results that derivatives mention as they were computed.

    A state has one for each turn of its `repeat` even if its equation does not: read
    from where the result is mentioned it would be another thing.
    """
    known: dict[ir.Node, ir.Node] = {}
    for equation in model.equations:
        type_, own = type_of(model, equation.name), equation.expr.type
        if costly(equation.expr) and (own.dims, own.axes) == (type_.dims, type_.axes):
            known[equation.expr] = build.ref(equation.name, type_)
    return known
