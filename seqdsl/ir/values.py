"""Types of named values, with every axis along which they may vary."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import Type


def type_of(model: ir.Model, name: str) -> Type:
    """The type of what `name` stands for; a state varies along what carries it."""
    if name in model.param or name in model.input:
        return (model.param.get(name) or model.input[name]).type
    own = model.equation[name].expr.type
    if name not in model.state:
        return own
    state = model.state[name]
    axes = own.axes | state.type.axes | state.carried
    for axis in state.carried & model.repeat.keys():
        condition = model.repeat[axis].condition
        axes |= frozenset[str]() if condition is None else condition.type.axes
    return replace(state.type, axes=axes)
