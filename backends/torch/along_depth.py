"""Reads of other steps of a repeat: from the list of the steps so far, or of all."""

from __future__ import annotations

from seqdsl.backends.torch.memory import full_type, whole
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.parameters import parameter
from seqdsl.backends.torch.per_step import each_step
from seqdsl.backends.torch.pointwise import cast, dtype_code, tensor
from seqdsl.backends.torch.python import Atom, Expr, call
from seqdsl.backends.torch.streaming import key_of
from seqdsl.backends.torch.values import Value, align, ordered
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME


def earlier_step(m: Method, node: ir.Shift, before: Value | None) -> Value:
    """`h[n-2]`, or `[n-1]` of what is no state; `before` is the initial value, if any."""
    steps = m.look("steps", *key_of(node.arg), node.axis)
    back = Atom(f"{m.steps[node.axis]} - {1 - node.offset}")
    if before is None:
        dims = tuple(n for n in steps.layout if n in m.model.dims)
        sizes = m.extents(dims) or [Atom("()")]
        dtype, device = dtype_code(m, steps.dtype), m.need("device")
        zeros = call("torch.zeros", *sizes, dtype=dtype, device=device)
        before = Value(zeros, dims, steps.dtype)
    elif isinstance(node.arg, ir.Ref):
        before = _wide(m, node.arg, before)
    code = call(m.helper("_back"), steps.code, back, align(before, steps.layout))
    return steps.at(code)


def _wide(m: Method, ref: ir.Ref, before: Value) -> Value:
    """An initial value of full extent, as the steps in the list are."""
    type_ = full_type(m.model, ref.name)
    return whole(m, cast(m, tensor(m, before), type_.dtype), ref.name)


def chosen_step(m: Method, node: ir.At, index: Value, before: Value | None) -> Value:
    """`h[n = i]`: one step for all, or one for every position."""
    steps = _all_steps(m, node)
    first: Expr = Atom("None")
    if before is not None and isinstance(node.arg, ir.Ref):
        first = align(_wide(m, node.arg, before), steps.layout)
    if index.scalar:
        code = call(m.helper("_step_of"), steps.code, index.code, first)
        return steps.at(code)
    dims = [n for n in steps.layout if n in m.model.dims]
    axes = {*steps.layout, *index.layout} - set(dims)
    target = ordered(axes, dims, m.model.copies)
    every = call(m.helper("_from_initial"), steps.code, first)
    named = Value(every, ("", *steps.layout), steps.dtype)
    place = align(index, target) if index.layout else index.code
    label = Atom(repr(node.axis))
    wide_steps = align(named, ("", *target))
    code = call(m.helper("_chosen_step"), wide_steps, place, label)
    timed = [v for v in (steps, index) if TIME in v.layout]
    even = bool(timed) and all(v.even for v in timed)
    return Value(code, target, steps.dtype, even=even)


def every_step(m: Method, node: ir.Stack) -> Value:
    """`stack[n as M](h)`."""
    steps = _all_steps(m, node)
    lead = [n for n in steps.layout if n not in m.model.dims]
    code = call("torch.stack", steps.code, len(lead))
    dims = [n for n in steps.layout if n in m.model.dims]
    return steps.at(code, (*lead, node.dim, *dims))


def _all_steps(m: Method, node: ir.At | ir.Stack) -> Value:
    """The list of what every step of a loop has made, or of its parameters."""
    key = key_of(node.arg)
    param = m.model.param.get(str(key[1])) if key[0] == "ref" else None
    if param is None:
        equation = m.model.equation.get(str(key[1]))
        if equation is not None and equation.scope[-1:] != (node.axis,):
            name = f"`{equation.name}`, which stands in a loop inside of `{node.axis}`"
            raise UnsupportedError(f"a step of {name}, is read from outside")
        return m.look("steps", *key, node.axis)
    code = each_step(m, (node.axis,), lambda: parameter(m, param).code)
    return Value(code, param.type.dims, param.type.dtype)
