"""Loops with a condition as loops without: states that stop by themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.types import Type
from seqdsl.ir.walk import map_roots, transform


def unconditional(model: ir.Model) -> ir.Model:
    """`model` whose loops run all of their steps, and keep their states where they halted."""
    for repeat in model.repeats:
        if repeat.condition is not None:
            model = _Halting(model, repeat, repeat.condition).run()
    return model


@dataclass(frozen=True)
class _Halting:
    """One loop: `runs` says whether a step happens, `taken` counts those that do."""

    model: ir.Model
    repeat: ir.Repeat
    condition: ir.Node

    def run(self) -> ir.Model:
        """The model with the loop's condition written into its states."""
        model, axis = self.model, self.repeat.axis
        taken = names_of(model)
        scope = (*self.repeat.scope, axis)
        axes = self.condition.type.axes | set(scope)
        runs = build.ref(fresh(f"{axis}_runs", taken), Type("bool", (), axes))
        count = build.ref(fresh(f"{axis}_taken", taken), Type("int", (), axes))
        steps = {
            runs: build.map_("and", build.shift(runs, axis, -1), self.condition),
            count: build.map_(
                "add", build.shift(count, axis, -1), build.map_("int", runs)
            ),
        }
        added = tuple(
            ir.Equation(name=ref.name, expr=expr, scope=scope, written=False)
            for ref, expr in steps.items()
        )
        starts = {runs: build.const(True), count: build.const(0)}
        states = tuple(
            ir.State(
                name=ref.name,
                type=ref.type,
                initial=initial,
                carried=frozenset({axis}),
            )
            for ref, initial in starts.items()
        )
        held = replace(
            model,
            equations=(*(self._held(e, runs) for e in model.equations), *added),
            states=(*model.states, *states),
            repeats=tuple(
                replace(r, condition=None) if r.axis == axis else r
                for r in model.repeats
            ),
        )
        return map_roots(
            held, lambda root: transform(root, lambda n: self._last(n, count))
        )

    def _held(self, equation: ir.Equation, runs: ir.Ref) -> ir.Equation:
        """A state that keeps its value from where the loop halted."""
        state = self.model.state.get(equation.name)
        if state is None or self.repeat.axis not in state.carried:
            return equation
        ref = build.ref(state.name, state.type, equation.span)
        before = build.shift(ref, self.repeat.axis, -1, equation.span)
        expr = build.map_("where", runs, equation.expr, before, span=equation.span)
        return replace(equation, expr=expr)

    def _last(self, node: ir.Node, count: ir.Ref) -> ir.Node:
        """What stands at the last step stands at the last that happened."""
        match node:
            case ir.At(axis=self.repeat.axis, index=None, arg=arg) if arg != count:
                last = build.at(count, self.repeat.axis, None)
                return build.at(arg, self.repeat.axis, last, node.span)
            case _:
                return node
