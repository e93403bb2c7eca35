"""Values that are the same at all steps, and yet depend on which steps there are.

In packed rows these are one for each segment, and tensors of them keep the time axis.
"""

from __future__ import annotations

from collections.abc import Collection

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.values import type_of
from seqdsl.ir.walk import subtree


def by_segment(model: ir.Model) -> frozenset[str]:
    """Equations of one value per sequence that is taken over its steps."""
    axes = {e.name: type_of(model, e.name).axes for e in model.equations}
    still = {n for n, a in axes.items() if BATCH in a and TIME not in a}
    found: set[str] = set()
    grew = True
    while grew:
        more = {n for n in still - found if _reads(model, n, found)}
        found |= more
        grew = bool(more)
    return frozenset(found)


def _reads(model: ir.Model, name: str, found: Collection[str]) -> bool:
    exprs = [model.equation[name].expr]
    if name in model.state:
        exprs.append(model.state[name].initial)
    return any(of_segment(model, e, found) for e in exprs)


def of_segment(model: ir.Model, node: ir.Node, found: Collection[str]) -> bool:
    """Whether `node` takes a value over time itself, or reads one of `found`."""
    for sub in subtree(node):
        match sub:
            case ir.Reduce(over=over) | ir.Contract(over=over):
                if TIME in over and BATCH not in over:
                    return True
            case ir.At(axis=axis) if axis == TIME:
                return True
            case ir.Ref(name=name) if name in found:
                return True
            case ir.Result(call=call, output=output) if TIME not in sub.type.axes:
                if _result(model, model.call[call], output, found):
                    return True
            case _:
                pass
    return False


def _result(
    model: ir.Model, call: ir.CallSite, output: str, found: Collection[str]
) -> bool:
    callee = model.instance[call.instance].model
    expr = next(o.expr for o in callee.outputs if o.name == output)
    return of_segment(callee, expr, by_segment(callee)) or cut(model, call, found)


def cut(model: ir.Model, call: ir.CallSite, found: Collection[str]) -> bool:
    """Whether an argument of one value per sequence is taken over the sequence."""
    inputs = model.instance[call.instance].model.input
    fixed = [a for n, a in call.args if TIME not in inputs[n].type.axes]
    return any(of_segment(model, a, found) for a in fixed)
