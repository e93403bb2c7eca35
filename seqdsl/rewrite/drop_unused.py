"""Drops equations, states and calls that no output needs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import map_roots, references


def drop_unused(model: ir.Model) -> ir.Model:
    """`model` without what cannot reach an output; parameters and sub-layers stay.

    A layer's state dict and its initial values are thus those of the spec.
    """
    needed: set[str] = set()
    todo = [name for output in model.outputs for name in _reads(output.expr)]
    while todo:
        name = todo.pop()
        if name in needed:
            continue
        needed.add(name)
        for expr in _definition(model, name):
            todo.extend(_reads(expr))
    kept = replace(
        model,
        equations=tuple(e for e in model.equations if e.name in needed),
        states=tuple(s for s in model.states if s.name in needed),
        calls=tuple(c for c in model.calls if c.name in needed),
        monoids=tuple(m for m in model.monoids if needed.issuperset(m.states)),
    )
    inside = {a for part in (*kept.equations, *kept.calls) for a in part.scope}
    # A loop in which nothing is left has nothing to stop.
    repeats = (
        r if r.axis in inside else replace(r, condition=None) for r in model.repeats
    )
    return replace(kept, repeats=tuple(repeats))


def drop_unread(model: ir.Model, among: Collection[str]) -> ir.Model:
    """`model` without those of its inputs and parameters `among` that nothing reads."""
    read: set[str] = set()

    def note(root: ir.Node) -> ir.Node:
        read.update(_reads(root))
        return root

    map_roots(model, note)
    unread = set(among) - read
    return replace(
        model,
        inputs=tuple(i for i in model.inputs if i.name not in unread),
        params=tuple(p for p in model.params if p.name not in unread),
    )


def _reads(expr: ir.Node) -> Iterator[str]:
    for read in references(expr):
        yield read.name if isinstance(read, ir.Ref) else read.call


def _definition(model: ir.Model, name: str) -> Iterator[ir.Node]:
    """Everything that the value or call `name` is computed from."""
    scope: tuple[str, ...] = ()
    if name in model.equation:
        scope = model.equation[name].scope
        yield model.equation[name].expr
    if name in model.state:
        yield model.state[name].initial
    if name in model.call:
        scope = model.call[name].scope
        yield from (arg for _, arg in model.call[name].args)
    for axis in scope:
        repeat = model.repeat[axis]
        if repeat.condition is not None:
            yield repeat.condition
        if isinstance(repeat.count, ir.Base):
            yield repeat.count
