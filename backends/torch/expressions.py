"""Nodes of the IR as expressions of the generated code."""

from __future__ import annotations

from functools import partial
from typing import assert_never

from seqdsl.backends.torch.along_depth import (
    chosen_step,
    earlier_step,
    every_step,
    last_step,
)
from seqdsl.backends.torch.along_time import (
    copied,
    copied_before,
    earlier_or_later,
    rows_before,
    shared,
    windows,
)
from seqdsl.backends.torch.attention import attend, match
from seqdsl.backends.torch.contraction import contract, is_linear, is_parameter
from seqdsl.backends.torch.dispatch import dispatch, match_experts
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.parameters import parameter
from seqdsl.backends.torch.pointwise import dtype_code, pointwise, tensor
from seqdsl.backends.torch.python import Atom, Expr, call, method, number, tuple_of
from seqdsl.backends.torch.random import sample
from seqdsl.backends.torch.reductions import along, reduce
from seqdsl.backends.torch.reindex import (
    canonical,
    concat,
    gather,
    one_hot,
    rearranged,
)
from seqdsl.backends.torch.streaming import key_of
from seqdsl.backends.torch.values import Value, align, from_end, ordered, permute
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import TIME, Type


def expression(m: Method, node: ir.Node) -> Value:
    """The value of `node` at the current index of the loops around it."""
    if m.exact or m.making or not m.layer.positional(node):
        return _expression(m, node)
    if isinstance(node, ir.Ref | ir.Position):
        return _expression(m, node)
    return rounded(m, unrounded(m, node))


def unrounded(m: Method, node: ir.Node) -> Value:
    """The value of what is made of positions alone, in at least single precision."""
    m.exact = True
    value = _expression(m, node)
    m.exact = False
    return value


def rounded(m: Method, value: Value) -> Value:
    """Such a value in the layer's precision."""
    if value.scalar or value.dtype not in ("float", "complex"):
        return value
    return value.at(method(value.code, "to", dtype_code(m, value.dtype)))


def _expression(m: Method, node: ir.Node) -> Value:
    match node:
        case ir.Const() | ir.Position() | ir.Training() | ir.Sample():
            return _leaf(m, node)
        case ir.Ref(name=name):
            return _named(m, name)
        case ir.Result(call=site, output=output):
            return m.look("result", site, output)
        case ir.Map(op="add", args=(ir.Contract() as product, bias)) if _biased(
            product, bias
        ):
            args = [expression(m, a) for a in product.args]
            return contract(m, product, args, expression(m, bias))
        case ir.Map(args=args):
            return pointwise(m, node, [expression(m, a) for a in args])
        case ir.Contract(args=args):
            return _contract(m, node)
        case ir.Reduce(arg=arg, where=where):
            experts = match_experts(m.model, node)
            if experts is not None:
                return dispatch(m, node, experts, expression, lambda: _reduce(m, node))
            return _reduce(m, node)
        case ir.Along(arg=arg, where=where):
            mask = None if where is None else expression(m, where)
            return along(m, node, expression(m, arg), mask)
        case ir.Shift() | ir.At() | ir.Stack() | ir.Copy():
            return _elsewhere(m, node)
        case ir.Rename() | ir.Split() | ir.Merge() | ir.SliceDim() | ir.Roll():
            return rearranged(m, node, expression(m, node.arg))
        case ir.Concat(args=args):
            return concat(m, node, [expression(m, a) for a in args])
        case ir.Gather(arg=arg, index=index):
            return gather(m, node, expression(m, arg), expression(m, index))
        case ir.OneHot(index=index):
            return one_hot(m, node, expression(m, index))
        case ir.Conv():
            return _conv(m, node)
        case ir.ExternCall():
            return _extern(m, node)
        case ir.Grad():
            raise UnsupportedError("`grad` that was not expanded")
    assert_never(node)


def _named(m: Method, name: str) -> Value:
    if name in m.model.param:
        value = parameter(m, m.model.param[name])
    elif m.exact and (kept := m.find("exact", name)) is not None:
        return kept
    else:
        value = m.look("ref", name)
    return rounded(m, value) if m.exact else value


def _biased(product: ir.Contract, bias: ir.Node) -> bool:
    """Whether `product + bias` is one affine map with a stored weight and bias."""
    found = is_linear(product)
    if found is None or not is_parameter(bias):
        return False
    weight = product.args[found].type.dims
    return bias.type.dims == weight[: len(weight) - len(product.over)]


# ---- Leaves


def _leaf(m: Method, node: ir.Const | ir.Position | ir.Training | ir.Sample) -> Value:
    match node:
        case ir.Const(value=Lit(value=value)) if not isinstance(value, str):
            return Value(number(value), (), node.type.dtype, scalar=True)
        case ir.Const(value=size):
            return Value(m.size(size), (), node.type.dtype, scalar=True)
        case ir.Training():
            return Value(Atom("self.training"), (), "bool", scalar=True)
        case ir.Position(along=along) if node.type.dims:
            entries = call(
                "torch.arange", m.layer.extent(along), device=m.need("device")
            )
            return Value(entries, (along,), "int")
        case ir.Position(along=along):
            return m.look("position", along)
        case ir.Sample():
            return sample(m, node)


# ---- Other indices


def _elsewhere(m: Method, node: ir.Shift | ir.At | ir.Stack | ir.Copy) -> Value:
    match node:
        case ir.Shift(arg=arg, axis=axis, offset=offset):
            known = m.find("shift", *key_of(arg), axis, offset)
            if known is not None:
                return known
            if axis != TIME:
                return earlier_step(m, node, initial(m, arg))
            outside = initial(m, arg)
            if (past := m.find("rows", *key_of(arg))) is not None:
                return rows_before(m, key_of(arg), past, outside)
            value = expression(m, arg)
            found = earlier_or_later(m, key_of(arg), value, offset, outside)
            return shared(m, key_of(arg), node, found)
        case ir.At(arg=arg, axis=axis) if axis == TIME:
            end = m.env.get(("end", *key_of(arg), _end(node)))
            if end is not None:
                return end
            return _at_step(m, node, expression(m, arg))
        case ir.At(arg=arg, index=None):
            return last_step(m, node, partial(initial, m, arg))
        case ir.At(arg=arg, index=index):
            assert index is not None
            place = expression(m, index)
            return chosen_step(m, node, place, partial(initial, m, arg))
        case ir.Stack():
            return every_step(m, node)
        case ir.Copy(arg=arg, copy=copy):
            key = key_of(arg)
            if m.in_time and m.find("history", *key) and m.find(*key) is None:
                return copied_before(m, key, copy)
            return copied(m, key, expression(m, arg), copy)


def _end(node: ir.At) -> str:
    """Which end of time a read is at: "last", "first" or neither."""
    if node.index is None:
        return "last"
    first = isinstance(node.index, ir.Const) and node.index.value == Lit(0)
    return "first" if first else ""


def initial(m: Method, arg: ir.Ref | ir.Result) -> Value | None:
    """What a read outside of an axis gives; None stands for zeros."""
    if not isinstance(arg, ir.Ref) or arg.name not in m.model.state:
        return None
    state = m.model.state[arg.name]
    value = expression(m, state.initial)
    value = tensor(m, value, state.type.dtype)
    from seqdsl.backends.torch.pointwise import cast

    return cast(m, value, state.type.dtype)


def _at_step(m: Method, node: ir.At, value: Value) -> Value:
    index: Expr = Atom("None")
    if node.index is not None:
        found = expression(m, node.index)
        index = found.code if found.scalar else align(found, ("batch", "t"))
    m.needed["starts"] = None
    name = node.arg.name if isinstance(node.arg, ir.Ref) else node.arg.call
    shown = Atom(repr(name))
    code = call(m.helper("_at_step"), value.code, index, Atom("starts"), shown)
    return Value(code, value.layout, value.dtype, even=True)


# ---- Contractions, convolutions, externs


def _reduce(m: Method, node: ir.Reduce) -> Value:
    mask = None if node.where is None else expression(m, node.where)
    return reduce(m, node, expression(m, node.arg), mask)


def _contract(m: Method, node: ir.Contract) -> Value:
    experts = match_experts(m.model, node)
    if experts is not None:
        return dispatch(m, node, experts, expression, lambda: _product(m, node))
    attention = match(m.model, node)
    if attention is not None:
        found = attend(m, attention, expression)
        dims = node.type.dims
        return permute(found, ordered(set(found.layout) - set(dims), dims, ()))
    return _product(m, node)


def _product(m: Method, node: ir.Contract) -> Value:
    args = [expression(m, a) for a in node.args]
    for copy in node.over:
        if copy in m.model.copies and not any(_masked(m, a, copy) for a in node.args):
            same = m.find("same", copy)
            if same is not None:
                args = [*args, Value(same.code, same.layout, "bool")]
    return contract(m, node, args)


def _masked(m: Method, node: ir.Node, copy: str) -> bool:
    """Whether `node` is 0 for steps of other segments already."""
    match node:
        case ir.Along(op="softmax", over=over):
            return copy in over
        case ir.Ref(name=name) if (
            name in m.model.equation and name not in m.model.state
        ):
            return _masked(m, m.model.equation[name].expr, copy)
        case ir.Map(op="mul", args=args) | ir.Contract(args=args):
            return any(_masked(m, a, copy) for a in args)
        case ir.Map(op="div", args=args):
            return _masked(m, args[0], copy)
        case ir.Rename() | ir.Split() | ir.Merge() | ir.SliceDim():
            return _masked(m, node.arg, copy)
        case _:
            return False


def _conv(m: Method, node: ir.Conv) -> Value:
    """Windows of the argument, contracted with the weight over taps and `reduce`."""
    value = canonical(m, tensor(m, expression(m, node.arg)), node.arg.type.dims)
    arg_type = node.arg.type
    for axis, tap in zip(node.axes, node.taps, strict=True):
        if axis == TIME:
            value = windows(m, node, value, tap)
            continue
        place = from_end(value.layout, axis)
        width = m.layer.extent(tap)
        code = call(
            m.helper("_neighbors"),
            value.code,
            place,
            width,
            m.whole(node.dilation),
            Atom(repr(node.pad)),
        )
        i = value.layout.index(axis) + 1
        value = value.at(code, (*value.layout[:i], tap, *value.layout[i:]))
    dims = tuple(n for n in value.layout if n in m.model.dims)
    window = ir.Ref(
        name="", type=Type(arg_type.dtype, dims, arg_type.axes), span=node.span
    )
    product = build.contract([window, node.weight], [*node.taps, *node.reduce])
    weight = expression(m, node.weight)
    result = contract(m, product, [value, weight])
    order = ordered(
        set(result.layout) - set(node.type.dims), node.type.dims, m.model.copies
    )
    return permute(result, order)


def _extern(m: Method, node: ir.ExternCall) -> Value:
    """Applied index by index: what an extern op does with a batch is not known."""
    values = [canonical(m, tensor(m, expression(m, a)), a.type.dims) for a in node.args]
    lead = ordered(
        {n for v in values for n in v.layout} - set(m.model.dims), (), m.model.copies
    )
    codes = [
        align(v, (*lead, *a.type.dims))
        if len(v.layout) == len(lead) + len(a.type.dims)
        else method(
            v.code,
            "view",
            tuple_of([*(1 for _ in lead), *m.extents(a.type.dims)]),
        )
        if len(v.layout) == len(a.type.dims)
        else align(v, (*lead, *a.type.dims))
        for v, a in zip(values, node.args, strict=True)
    ]
    function = Atom(f'self.externs["{node.name}"]')
    shape = tuple_of(m.extents(node.type.dims))
    dtype = dtype_code(m, node.type.dtype)
    code = call(m.helper("_extern"), function, len(lead), shape, *codes, dtype=dtype)
    return Value(code, (*lead, *node.type.dims), node.type.dtype)
