"""Calls of sub-layers that only their equations can stand for."""

from __future__ import annotations

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import roots, subtree


def calls_to_inline(model: ir.Model) -> frozenset[str]:
    """Calls whose random numbers depend on where the call stands, or whose arguments
    per batch are one for each segment, where a sub-layer takes one for each row.
    """
    return frozenset(
        call.name
        for call in model.calls
        if _samples(model.instance[call.instance].model) or _cut(model, call)
    )


def _samples(model: ir.Model) -> bool:
    if any(isinstance(n, ir.Sample) for root in roots(model) for n in subtree(root)):
        return True
    return any(_samples(i.model) for i in model.instances)


def _cut(model: ir.Model, call: ir.CallSite) -> bool:
    """Whether an argument of one value per sequence is taken over the sequence."""
    inputs = model.instance[call.instance].model.input
    fixed = [a for n, a in call.args if TIME not in inputs[n].type.axes]
    return any(_of_segment(model, a) for a in fixed)


def _of_segment(model: ir.Model, node: ir.Node) -> bool:
    """Whether `node`, the same at all steps, depends on which steps there are."""
    for sub in subtree(node):
        match sub:
            case ir.Reduce(over=over) if TIME in over and BATCH not in over:
                return True
            case ir.At(axis=axis) if axis == TIME:
                return True
            case ir.Ref(name=name) if name in model.equation:
                fixed = TIME not in sub.type.axes and name not in model.state
                if fixed and _of_segment(model, model.equation[name].expr):
                    return True
            case ir.Result(call=call, output=output) if TIME not in sub.type.axes:
                if _result_of_segment(model, model.call[call], output):
                    return True
            case _:
                pass
    return False


def _result_of_segment(model: ir.Model, call: ir.CallSite, output: str) -> bool:
    callee = model.instance[call.instance].model
    expr = next(o.expr for o in callee.outputs if o.name == output)
    return _of_segment(callee, expr) or _cut(model, call)
