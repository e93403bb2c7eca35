"""The tangent of a model, as a model: `tangent(model)`.

It runs beside the model and in its direction, with the same states and as many again:
`t_h` is how `h` changes as inputs, parameters and initial states do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from seqdsl.diagnostics import UnsupportedError
from seqdsl.differentiate.active import differentiable, influenced, smooth
from seqdsl.differentiate.broadcast import ZERO, typed
from seqdsl.differentiate.draft import Draft
from seqdsl.differentiate.jvp import jvp
from seqdsl.differentiate.normal import inlined, named
from seqdsl.differentiate.readings import Leaf
from seqdsl.differentiate.reverse import source
from seqdsl.differentiate.states import open_states, per_segment
from seqdsl.differentiate.untied import dim_of
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh
from seqdsl.ir.types import Type
from seqdsl.ir.values import type_of
from seqdsl.rewrite.drop_unused import drop_unread, drop_unused


@dataclass(frozen=True)
class Tangent:
    """A model with its derivative in one direction.

    `model` has the outputs of the one it is of and, after them, their tangents. By name:

    - `first`, `last`: by state, the input that it starts from, the output it ends as
    - `directions`: by input or parameter, the input of `model` that says how it changes;
      untied parameters have their steps as first dims
    - `tangents`: by output, the output of `model` with its tangent; what is missing does
      not change
    """

    model: ir.Model
    first: Mapping[str, str]
    last: Mapping[str, str]
    directions: Mapping[str, str]
    tangents: Mapping[str, str]


def tangent(
    model: ir.Model,
    wrt: Collection[str] | None = None,
    *,
    states: bool = True,
    segments: bool = False,
) -> Tangent:
    """The tangent of `model` for directions of its inputs and parameters `wrt`.

    Arguments and errors are those of `adjoint`.
    """
    opened = open_states(model) if states else None
    if opened is not None:
        model = opened.model
    form = named(inlined(per_segment(model) if segments else model))
    wanted = differentiable(form) if wrt is None else wrt
    run = _Forward(Draft(form), wanted)
    found = run.model()
    return Tangent(
        model=found,
        first={} if opened is None else opened.first,
        last={} if opened is None else opened.last,
        directions={
            n: i.name for n, i in run.directions.items() if i.name in found.input
        },
        tangents=run.tangents,
    )


@dataclass
class _Forward:
    """Tangents of everything that the inputs and parameters `wanted` influence."""

    draft: Draft
    wanted: Collection[str]
    directions: dict[str, ir.Input] = field(default_factory=dict[str, ir.Input])
    tangents: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        model = self.draft.model
        self.active = influenced(model, self.wanted)
        every = (*model.input, *model.param, *model.equation)
        self.names = {n: self.draft.name(f"t_{n}") for n in every if n in self.active}
        for name in self.wanted:
            self._direction(name)

    def _direction(self, name: str) -> None:
        """An input for how `name` changes; of an untied parameter, at every step."""
        draft, type_ = self.draft, type_of(self.draft.model, name)
        axes = draft.scope_of(type_.axes) if name in draft.model.param else ()
        given, dims = self.names[name], tuple(dim_of(draft, a) for a in axes)
        if axes:
            given = draft.name(f"{given}_steps")
        whole = Type(type_.dtype, (*dims, *type_.dims), type_.axes - set(axes))
        self.directions[name] = ir.Input(name=given, type=whole)
        value: ir.Node = build.ref(given, whole)
        for axis, dim in zip(axes, dims, strict=True):
            step = build.position(axis, axis=True)
            value = build.gather(value, dim, build.map_("sub", step, build.const(1)))
        if axes:
            span = draft.model.param[name].span
            draft.define(self.names[name], value, type_, axes, span)

    def model(self) -> ir.Model:
        """The model with its tangents."""
        model = self.draft.model
        for equation in model.equations:
            if equation.name in self.active:
                self._define(equation)
        outputs, taken = list(model.outputs), {o.name for o in model.outputs}
        for output in model.outputs:
            part = self._of(output.expr) if smooth(output.expr.type) else None
            if part is not None:
                name = fresh(f"t_{output.name}", taken)
                self.tangents[output.name] = name
                expr = typed(part, output.expr.type)
                outputs.append(ir.Output(name=name, expr=expr, span=output.span))
        draft = self.draft
        whole = replace(
            model,
            name=f"{model.name}_tangent",
            dims={**model.dims, **draft.dims.added},
            copies=(*model.copies, *draft.copies, *draft.dims.more),
            inputs=(*model.inputs, *self.directions.values()),
            equations=(*model.equations, *draft.equations.values()),
            states=(*model.states, *draft.states.values()),
            outputs=tuple(outputs),
        )
        given = [i.name for i in self.directions.values()]
        return drop_unread(drop_unused(whole), given)

    def _define(self, equation: ir.Equation) -> None:
        """The equation of a tangent, a state where that of the value is one."""
        model, name = self.draft.model, equation.name
        type_ = type_of(model, name)
        expr = self._fitted(equation.expr, type_)
        own = self.names[name]
        self.draft.define(own, expr, type_, equation.scope, equation.span)
        if name in model.state:
            state = model.state[name]
            initial = self._fitted(state.initial, state.type)
            self.draft.states[own] = replace(state, name=own, initial=initial)

    def _fitted(self, expr: ir.Node, type_: Type) -> ir.Node:
        part = self._of(expr)
        if part is None:
            part = ZERO
        if type_.dtype == "complex" and part.type.dtype != "complex":
            part = build.map_("complex", part, ZERO)
        return part

    def _of(self, expr: ir.Node) -> ir.Node | None:
        try:
            return jvp(expr, self._read, self.draft.dims)
        except build.Issue as issue:
            raise UnsupportedError(f"no tangent: {issue.message}") from None

    def _read(self, leaf: Leaf) -> ir.Node | None:
        name = source(leaf)
        if name not in self.active:
            return None
        ref = leaf if isinstance(leaf, ir.Ref) else leaf.arg
        moved = build.ref(self.names[name], ref.type, ref.span)
        if isinstance(leaf, ir.Ref):
            return moved
        return replace(leaf, arg=moved)
