"""Dims under other names: rename, split, merge, slice, roll, concat, gather, one-hot."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import cast, joint_layout, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Binary,
    Expr,
    Item,
    call,
    list_of,
    method,
    tuple_of,
)
from seqdsl.backends.torch.values import Value, align, from_end, ordered, permute
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import TIME


def canonical(m: Method, value: Value, dims: Sequence[str]) -> Value:
    """`value` with all of `dims`, in their order behind the leading dimensions."""
    lead = [n for n in value.layout if n not in dims]
    target = (*ordered(set(lead), (), m.model.copies), *dims)
    kept = tuple(n for n in target if n in value.layout)
    value = permute(value, kept)
    missing = [d for d in dims if d not in value.layout]
    if not missing:
        return value
    sizes = [m.layer.extent(n) if n in missing else Atom("-1") for n in target]
    aligned = align(tensor(m, value), target)
    if not kept:
        sizes = [*m.extents(dims)]
    return value.at(method(aligned, "expand", *sizes), target)


def rearranged(
    m: Method,
    node: ir.Rename | ir.Split | ir.Merge | ir.SliceDim | ir.Roll,
    arg: Value,
) -> Value:
    """`node` over its argument's value."""
    if arg.scalar:
        return arg
    match node:
        case ir.Rename(pairs=pairs):
            table = dict(pairs)
            return arg.at(arg.code, [table.get(n, n) for n in arg.layout])
        case ir.Split(dim=dim, into=into):
            i = arg.layout.index(dim)
            place = i - len(arg.layout)
            code = method(arg.code, "unflatten", place, tuple_of(m.extents(into)))
            return arg.at(code, (*arg.layout[:i], *into, *arg.layout[i + 1 :]))
        case ir.Merge(dims=dims, into=into):
            return _merge(m, node, canonical(m, arg, node.arg.type.dims), dims, into)
        case ir.SliceDim():
            return _slice(m, node, arg)
        case ir.Roll():
            return _roll(m, node, arg)


def _merge(
    m: Method, node: ir.Merge, arg: Value, dims: Sequence[str], into: str
) -> Value:
    lead = tuple(n for n in arg.layout if n not in node.arg.type.dims)
    order: list[str] = []
    for d in node.type.dims:
        order.extend(dims if d == into else [d])
    moved = permute(arg, (*lead, *order))
    first = len(lead) + order.index(dims[0])
    last = first + len(dims) - 1
    n = len(moved.layout)
    flat = method(moved.code, "flatten", first - n, last - n)
    if len(dims) == 1:
        flat = moved.code
    return arg.at(flat, (*lead, *node.type.dims))


def _slice(m: Method, node: ir.SliceDim, arg: Value) -> Value:
    place = from_end(arg.layout, node.dim)
    layout = [node.into if n == node.dim else n for n in arg.layout]
    start, count = m.whole(node.start), m.layer.extent(node.into)
    if node.step == Lit(1):
        return arg.at(method(arg.code, "narrow", place, start, count), layout)
    index = call(
        m.helper("_entries"), start, m.whole(node.step), count, m.need("device")
    )
    return arg.at(method(arg.code, "index_select", place, index), layout)


def _roll(m: Method, node: ir.Roll, arg: Value) -> Value:
    place = from_end(arg.layout, node.dim)
    offset = m.whole(node.offset)
    if node.wrap:
        return arg.at(method(arg.code, "roll", offset, place))
    return arg.at(call(m.helper("_move"), arg.code, offset, place))


def concat(m: Method, node: ir.Concat, args: Sequence[Value]) -> Value:
    """Values one after another; each gets the dims (and steps) of the others."""
    renamed: list[Value] = []
    for arg, dim in zip(args, node.dims, strict=True):
        value = cast(m, tensor(m, arg), node.type.dtype)
        names = [node.into if n == dim else n for n in value.layout]
        if not dim:
            names = [*value.layout, node.into]
            value = value.at(Item(value.code, "..., None"))
        renamed.append(value.at(value.code, names))
    target = joint_layout(m, node, renamed)
    place = from_end(target, node.into)
    codes = [align(v, target) for v in renamed]
    if any(v.layout != target for v in renamed) or any(v.even for v in renamed):
        even = TIME in target and all(v.even for v in renamed if TIME in v.layout)
        code = call(m.helper("_concat"), list_of(codes), place)
        return Value(code, target, node.type.dtype, even=even)
    return Value(call("torch.cat", list_of(codes), place), target, node.type.dtype)


def _named(index: ir.Node) -> str | None:
    """What the spec calls an index, where it is a name."""
    match index:
        case ir.Ref(name=name) | ir.Position(along=name):
            return name
        case _:
            return None


def gather(m: Method, node: ir.Gather, arg: Value, index: Value) -> Value:
    """A table look-up; an index from outside is checked on the way."""
    if index.scalar and node.dim in arg.layout:
        return _entry(m, node, arg, index)
    index = tensor(m, index, "int")
    extent = m.layer.extent(node.dim)
    if index.dtype == "bool":
        index = cast(m, index, "int")
    label = Atom(f'"{_named(node.index) or node.dim}"')
    checked = call(m.helper("_inside"), index.code, extent, label)
    index = index.at(checked)
    rest = [n for n in arg.layout if n != node.dim]
    shared = [n for n in rest if n in index.layout]
    if not shared and arg.layout[:1] == (node.dim,):
        if len(arg.layout) == 2:
            code: Expr = call("F.embedding", index.code, arg.code)
        else:
            code = Item(arg.code, _text(index.code))
        found = Value(code, (*index.layout, *rest), arg.dtype)
    else:
        found = _indexed(m, node, arg, index)
    axes = set(found.layout) - set(node.type.dims)
    return permute(found, ordered(axes, node.type.dims, m.model.copies))


def _entry(m: Method, node: ir.Gather, arg: Value, index: Value) -> Value:
    """One entry for all: its number is known when the layer is made, or a depth step."""
    place = from_end(arg.layout, node.dim)
    rest = [n for n in arg.layout if n != node.dim]
    if isinstance(node.index, ir.Const):
        code = method(arg.code, "select", place, index.code)
    else:
        label = Atom(f'"{node.dim}"')
        code = call(m.helper("_entry"), arg.code, place, index.code, label)
    found = arg.at(code, rest)
    axes = set(rest) - set(node.type.dims)
    return permute(found, ordered(axes, node.type.dims, m.model.copies))


def _text(code: Expr) -> str:
    from seqdsl.backends.torch.python import one_line

    return one_line(code)


def _indexed(m: Method, node: ir.Gather, arg: Value, index: Value) -> Value:
    """Look-up where table and index share dims: by index tensors of all dims."""
    rest = [n for n in arg.layout if n != node.dim]
    dims = node.type.dims
    axes = {*rest, *index.layout} - set(dims)
    target = ordered(axes, dims, m.model.copies)
    own = [n for n in arg.layout]
    places = [list_of([]) if n == node.dim else Atom(str(target.index(n))) for n in own]
    shown = [
        Atom("None") if n == node.dim else p for n, p in zip(own, places, strict=True)
    ]
    code = call(
        m.helper("_gather"),
        arg.code,
        align(index, target),
        tuple_of(shown),
        len(target),
    )
    return Value(code, target, arg.dtype)


def one_hot(m: Method, node: ir.OneHot, index: Value) -> Value:
    """Unit vectors, in the layer's precision."""
    index = tensor(m, index, "int")
    entries = call("torch.arange", m.layer.extent(node.dim), device=m.need("device"))
    wide = Item(index.code, "..., None")
    code = method(Binary("==", wide, entries), "to", m.need("dtype"))
    return Value(code, (*index.layout, node.dim), "float", even=index.even)
