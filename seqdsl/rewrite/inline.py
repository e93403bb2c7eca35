"""Replaces calls of sub-layers by the sub-layers' equations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children, with_children
from seqdsl.rewrite.moved import Move


def inline_calls(model: ir.Model, which: Collection[str]) -> ir.Model:
    """`model` with the call sites named in `which` replaced by equations.

    A value `h` of the callee becomes `<call>_h`; parameters keep their place in the
    state dict and are shared by all calls of one instance. Instances that these calls
    were the last of disappear; one that nothing called keeps its parameters. Calls that
    the callee makes come along as they are.
    """
    inlined = [c for c in model.calls if c.name in which]
    for call in inlined:
        model = _inline(model, model.call[call.name])
    gone = {c.instance for c in inlined} - {c.instance for c in model.calls}
    kept = tuple(i for i in model.instances if i.name not in gone)
    return replace(model, instances=kept)


def _inline(model: ir.Model, call: ir.CallSite) -> ir.Model:
    instance = model.instance[call.instance]
    moved = Move.make(model, call, instance)
    callee = instance.model
    equations = tuple(moved.equation(e) for e in callee.equations)
    merged = replace(
        model,
        dims={**model.dims, **moved.new_dims()},
        params=_union(model.params, (moved.param(p) for p in callee.params)),
        states=(*model.states, *(moved.state(s) for s in callee.states)),
        equations=(*model.equations, *moved.arguments(), *equations),
        repeats=(*model.repeats, *(moved.repeat(r) for r in callee.repeats)),
        instances=_union(
            model.instances, (moved.instance_of(i) for i in callee.instances)
        ),
        calls=(
            *(c for c in model.calls if c.name != call.name),
            *(moved.call_of(c) for c in callee.calls),
        ),
        externs=_union(model.externs, callee.externs),
        monoids=(*model.monoids, *(moved.monoid(m) for m in callee.monoids)),
        copies=(*model.copies, *(moved.axes[c] for c in callee.copies)),
        constraints=(
            *model.constraints,
            *(
                replace(c, left=moved.size(c.left), right=moved.size(c.right))
                for c in callee.constraints
            ),
        ),
    )
    results = {o.name: moved.leaving(moved.node(o.expr)) for o in callee.outputs}
    taken = {*merged.input, *merged.param, *merged.equation, *merged.call}
    return _Results(call, results, taken, {}).applied(merged)


def _union(old: tuple[Any, ...], new: Any) -> tuple[Any, ...]:
    names = {item.name for item in old}
    return (*old, *(item for item in new if item.name not in names))


@dataclass(frozen=True)
class _Results:
    """Reads of a call's results become reads of what the callee outputs.

    An output that is no plain value of the callee gets an equation; so does a state
    that is read at another step, because outside the sequence a result is 0 there and
    not the state's initial value.
    """

    call: ir.CallSite
    exprs: dict[str, ir.Node]
    taken: set[str]
    found: dict[str, ir.Equation]

    def applied(self, model: ir.Model) -> ir.Model:
        """`model` without any read of the call."""
        changed = replace(
            model,
            equations=tuple(
                replace(e, expr=self.read(e.expr)) for e in model.equations
            ),
            outputs=tuple(replace(o, expr=self.read(o.expr)) for o in model.outputs),
            states=tuple(
                replace(s, initial=self.read(s.initial)) for s in model.states
            ),
            calls=tuple(
                replace(c, args=tuple((n, self.read(a)) for n, a in c.args))
                for c in model.calls
            ),
            repeats=tuple(self._repeat(r) for r in model.repeats),
            monoids=tuple(
                replace(m, leaf=tuple(map(self.read, m.leaf))) for m in model.monoids
            ),
        )
        equations = (*changed.equations, *self.found.values())
        return replace(changed, equations=equations)

    def read(self, node: ir.Node, indexed: bool = False) -> ir.Node:
        """`node` over the callee's equations; `indexed` where only a name will do."""
        if isinstance(node, ir.Result):
            return self._value(node, indexed) if node.call == self.call.name else node
        below = isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy)
        old = children(node)
        new = tuple(self.read(c, below and i == 0) for i, c in enumerate(old))
        same = all(a is b for a, b in zip(old, new, strict=True))
        return node if same else with_children(node, new)

    def _value(self, node: ir.Result, indexed: bool) -> ir.Node:
        expr = self.exprs[node.output]
        if isinstance(expr, ir.Ref) and not indexed and node.output not in self.found:
            return expr
        if node.output not in self.found:
            self.found[node.output] = ir.Equation(
                name=self._name(node.output),
                expr=expr,
                scope=self.call.scope,
                written=False,
                span=self.call.span,
            )
        found = self.found[node.output]
        return ir.Ref(name=found.name, type=expr.type, span=node.span)

    def _name(self, output: str) -> str:
        """The call's name, with the output's where there are several; a free one."""
        only = len(self.exprs) == 1
        name = wanted = self.call.name if only else f"{self.call.name}_{output}"
        number = 1
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name

    def _repeat(self, repeat: ir.Repeat) -> ir.Repeat:
        count = repeat.count
        if isinstance(count, ir.Base):
            count = self.read(count)
        condition = repeat.condition
        if condition is not None:
            condition = self.read(condition)
        return replace(repeat, count=count, condition=condition)
