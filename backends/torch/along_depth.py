"""Reads of other steps of a repeat: from the list of the steps so far, or of all."""

from __future__ import annotations

from collections.abc import Callable

from seqdsl.backends.torch.memory import full_type, whole
from seqdsl.backends.torch.method import Key, Method
from seqdsl.backends.torch.parameters import parameter
from seqdsl.backends.torch.per_step import each_step
from seqdsl.backends.torch.pointwise import cast, dtype_code, tensor
from seqdsl.backends.torch.python import Atom, Each, Expr, Item, call, one_line
from seqdsl.backends.torch.streaming import key_of
from seqdsl.backends.torch.values import Value, align, ordered
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME


def earlier_step(m: Method, node: ir.Shift, before: Value | None) -> Value:
    """`h[n-2]`, or `[n-1]` of what is no state; `before` is the initial value, if any."""
    steps = _all_steps(m, node)
    back = Atom(f"{m.steps[node.axis]} - {1 - node.offset}")
    if before is None:
        before = _nothing(m, steps)
    elif isinstance(node.arg, ir.Ref):
        before = _wide(m, node.arg, before)
    code = call(m.helper("_back"), steps.code, back, align(before, steps.layout))
    return steps.at(code)


def _nothing(m: Method, steps: Value) -> Value:
    """Zeros: what there is of a value before the first step."""
    dims = tuple(n for n in steps.layout if n in m.model.dims)
    sizes = m.extents(dims) or [Atom("()")]
    dtype, device = dtype_code(m, steps.dtype), m.need("device")
    return Value(
        call("torch.zeros", *sizes, dtype=dtype, device=device), dims, steps.dtype
    )


def _wide(m: Method, ref: ir.Ref, before: Value) -> Value:
    """An initial value of full extent, as the steps in the list are."""
    type_ = full_type(m.model, ref.name)
    return whole(m, cast(m, tensor(m, before), type_.dtype), ref.name)


def last_step(m: Method, node: ir.At, before: Callable[[], Value | None]) -> Value:
    """`h[n = last]`; where loops stand between, that of their current step."""
    if not inner_axes(m, key_of(node.arg), node.axis):
        return m.look("last", *key_of(node.arg), node.axis)
    steps = _all_steps(m, node)
    steps = m.bind(m.names.new("steps"), steps)
    index = Value(call("len", steps.code), (), "int", scalar=True)
    return _one_step(m, steps, index, _first(m, node, steps, before))


def chosen_step(
    m: Method, node: ir.At, index: Value, before: Callable[[], Value | None]
) -> Value:
    """`h[n = i]`: one step for all, or one for every position."""
    every = m.find("every", *key_of(node.arg), node.axis)
    if every is not None:
        return _of_every(m, node, index, every)
    steps = _all_steps(m, node)
    first = _first(m, node, steps, before)
    if index.scalar:
        return _one_step(m, steps, index, first)
    code = call(m.helper("_from_initial"), steps.code, first)
    return _gathered(m, node, index, steps.at(code))


def _one_step(m: Method, steps: Value, index: Value, first: Expr) -> Value:
    return steps.at(call(m.helper("_step_of"), steps.code, index.code, first))


def _first(
    m: Method, node: ir.At, steps: Value, before: Callable[[], Value | None]
) -> Expr:
    """The initial value, if there is one that belongs to the whole loop."""
    found = None if starts_in(m, node) else before()
    if found is None or not isinstance(node.arg, ir.Ref):
        return Atom("None")
    return align(_wide(m, node.arg, found), steps.layout)


def starts_in(m: Method, node: ir.At | ir.Stack) -> bool:
    """Whether a state starts anew at each step of the loop whose steps are read."""
    name = node.arg.name if isinstance(node.arg, ir.Ref) else ""
    state = m.model.state.get(name)
    return state is not None and node.axis in state.initial.type.axes


def _gathered(m: Method, node: ir.At, index: Value, every: Value) -> Value:
    """A step for every position, of all steps from the initial value on."""
    dims = [n for n in every.layout if n in m.model.dims]
    axes = {*every.layout, *index.layout} - set(dims)
    target = ordered(axes, dims, m.model.copies)
    named = every.at(every.code, ("", *every.layout))
    place = align(index, target) if index.layout else index.code
    label = Atom(repr(node.axis))
    wide_steps = align(named, ("", *target))
    code = call(m.helper("_chosen_step"), wide_steps, place, label)
    timed = [v for v in (every, index) if TIME in v.layout]
    even = bool(timed) and all(v.even for v in timed)
    return Value(code, target, every.dtype, even=even)


def every_step(m: Method, node: ir.Stack) -> Value:
    """`stack[n as M](h)`."""
    every = m.find("every", *key_of(node.arg), node.axis)
    if every is not None:
        place = every.layout.index(node.axis)
        taken = ", ".join([*(":" for _ in range(place)), "1:"])
        layout = tuple(node.dim if n == node.axis else n for n in every.layout)
        return every.at(Item(every.code, taken), layout)
    steps = _all_steps(m, node)
    lead = [n for n in steps.layout if n not in m.model.dims]
    code = call("torch.stack", steps.code, len(lead))
    dims = [n for n in steps.layout if n in m.model.dims]
    return steps.at(code, (*lead, node.dim, *dims))


def _all_steps(m: Method, node: ir.Shift | ir.At | ir.Stack) -> Value:
    """The list of what every step of a loop has made, or of its parameters.

    Of what stands in loops inside of that one, what their current step has made.
    """
    key = key_of(node.arg)
    param = m.model.param.get(str(key[1])) if key[0] == "ref" else None
    if param is not None:
        code = each_step(m, (node.axis,), lambda: parameter(m, param).code)
        return Value(code, param.type.dims, param.type.dtype)
    steps = m.look("steps", *key, node.axis)
    inner = inner_axes(m, key, node.axis)
    if not inner:
        return steps
    entry = "".join(f"[{m.steps[axis]} - 1]" for axis in inner)
    one = m.names.new("step")
    return steps.at(Each(Atom(f"{one}{entry}"), f"for {one} in {one_line(steps.code)}"))


def inner_axes(m: Method, key: Key, axis: str) -> tuple[str, ...]:
    """The loops along depth around a value that stand inside of that along `axis`."""
    scope = scope_of(m, key)
    return scope[scope.index(axis) + 1 :] if axis in scope else ()


def scope_of(m: Method, key: Key) -> tuple[str, ...]:
    """The loops along depth around a value, outermost first."""
    name = str(key[1])
    named = m.model.equation.get(name) or m.model.call.get(name)
    return () if named is None else named.scope


def _of_every(m: Method, node: ir.At, index: Value, every: Value) -> Value:
    """A step of a loop that ran for whole sequences, within a loop along time."""
    place = every.layout.index(node.axis)
    rest = tuple(n for n in every.layout if n != node.axis)
    if not index.scalar:
        front = call("torch.movedim", every.code, place, 0)
        return _gathered(m, node, index, every.at(front, rest))
    front = ", ".join(":" for _ in range(place))
    later = call(f"{one_line(every.code)}.unbind", place)
    code = call(
        m.helper("_step_of"),
        Item(later, "1:"),
        index.code,
        Item(every.code, f"{front}, 0"),
    )
    return every.at(code, rest)
