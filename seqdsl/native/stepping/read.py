"""What of a layer is read where: by other blocks, at places of a repeat."""

from __future__ import annotations

from seqdsl.backends.torch.streaming import streaming
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import subtree
from seqdsl.rewrite.inline import inline_calls
from seqdsl.schedule.block import Key, key_of


def without_stateless(model: ir.Model) -> ir.Model:
    """`model` with the equations of sub-layers that keep nothing in the place of calls."""
    kept = {
        n.arg.call
        for e in model.equations
        for n in subtree(e.expr)
        if isinstance(n, ir.Shift | ir.At | ir.Stack) and isinstance(n.arg, ir.Result)
    }
    plain = {
        c.name
        for c in model.calls
        if c.name not in kept
        and not streaming(model.instance[c.instance].model).entries
    }
    return without_stateless(inline_calls(model, plain)) if plain else model


def placed(model: ir.Model, axis: str) -> set[Key]:
    """What is read at one place of a repeat."""
    exprs = [e.expr for e in model.equations] + [o.expr for o in model.outputs]
    exprs += [a for c in model.calls for _, a in c.args]
    return {
        key_of(n.arg)
        for expr in exprs
        for n in subtree(expr)
        if isinstance(n, ir.At) and n.axis == axis
    }


def readers_of(model: ir.Model) -> dict[str, frozenset[str]]:
    """Who reads an equation: equations by name; calls, outputs and repeats."""
    found: dict[str, set[str]] = {}

    def note(expr: ir.Node, reader: str) -> None:
        for node in subtree(expr):
            match node:
                case ir.Shift(arg=ir.Ref(name=name), axis=axis) if axis != TIME:
                    found.setdefault(name, set()).add(" repeat")
                case ir.At(arg=ir.Ref(name=name)):
                    found.setdefault(name, set()).add(" repeat")
                case ir.Ref(name=name):
                    found.setdefault(name, set()).add(reader)
                case _:
                    pass

    for equation in model.equations:
        conv = isinstance(equation.expr, ir.Conv)
        note(equation.expr, f"{equation.name}.taken" if conv else equation.name)
    for call in model.calls:
        for _, arg in call.args:
            note(arg, " call")
    for output in model.outputs:
        note(output.expr, f"output.{output.name}")
    for state in model.states:
        note(state.initial, " start")
    for entry in streaming(model).entries:
        owner = f"{entry.owner}.taken" if entry.kind == "conv" else entry.owner
        found.setdefault(owner, set()).add(f"{entry.key}.keep1")
    return {name: frozenset(readers) for name, readers in found.items()}
