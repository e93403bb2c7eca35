"""Constructors of nodes that read values elsewhere; see `ir/build.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from seqdsl.ir import nodes as ir
from seqdsl.ir.combine import Issue, axes_of, dtypes_of, merge_dims_in_order
from seqdsl.ir.sizes import Size
from seqdsl.ir.types import BATCH, TIME, Type, merge_dims, promote
from seqdsl.source import NOWHERE, Span


def shift(
    arg: ir.Ref | ir.Result, axis: str, offset: int, span: Span = NOWHERE
) -> ir.Node:
    """`arg` at `axis + offset`; offset 0 is `arg` itself."""
    if offset == 0:
        return arg
    axes = arg.type.axes | {axis} | ({BATCH} if axis == TIME else set[str]())
    type_ = replace(arg.type, axes=axes)
    return ir.Shift(arg=arg, axis=axis, offset=offset, type=type_, span=span)


def at(
    arg: ir.Ref | ir.Result, axis: str, index: ir.Node | None, span: Span = NOWHERE
) -> ir.At:
    """`arg` at one index of `axis`; None is the last."""
    axes = arg.type.axes - {axis}
    if index is not None:
        axes |= index.type.axes
        if index.type.dims or index.type.dtype != "int":
            raise Issue("E0214", "an index along an axis is one whole number")
    type_ = replace(arg.type, axes=axes)
    return ir.At(arg=arg, axis=axis, index=index, type=type_, span=span)


def stack(
    arg: ir.Ref | ir.Result, axis: str, dim: str, span: Span = NOWHERE
) -> ir.Stack:
    """All steps of `arg` along the repeat axis `axis` as the first dim `dim`."""
    type_ = Type(arg.type.dtype, (dim, *arg.type.dims), arg.type.axes - {axis})
    return ir.Stack(arg=arg, axis=axis, dim=dim, type=type_, span=span)


def copy(arg: ir.Ref | ir.Result, name: str, span: Span = NOWHERE) -> ir.Copy:
    """`arg` with time renamed to the copy axis `name`."""
    axes = arg.type.axes - {TIME} | {name}
    return ir.Copy(arg=arg, copy=name, type=replace(arg.type, axes=axes), span=span)


def rename(
    arg: ir.Node, pairs: Sequence[tuple[str, str]], span: Span = NOWHERE
) -> ir.Node:
    """`arg` with dims renamed; names that stay are left out."""
    pairs = [(a, b) for a, b in pairs if a != b]
    if not pairs:
        return arg
    table = dict(pairs)
    for old in table:
        _require_dim(arg, old)
    dims = tuple(table.get(d, d) for d in arg.type.dims)
    _require_distinct(dims)
    type_ = replace(arg.type, dims=dims)
    return ir.Rename(arg=arg, pairs=tuple(pairs), type=type_, span=span)


def _require_dim(arg: ir.Node, dim: str) -> None:
    if dim not in arg.type.dims:
        raise Issue(
            "E0202",
            f"the value has no dim `{dim}`",
            f"its dims are [{', '.join(arg.type.dims)}]",
        )


def _require_distinct(dims: Sequence[str]) -> None:
    for dim in dims:
        if dims.count(dim) > 1:
            raise Issue(
                "E0203",
                f"the result would have the dim `{dim}` twice",
                f"rename one first; a second name for the same size is `dim J = {dim}`",
            )


def split(
    arg: ir.Node, dim: str, into: Sequence[str], span: Span = NOWHERE
) -> ir.Split:
    """`dim` as `into`, row-major."""
    _require_dim(arg, dim)
    i = arg.type.dims.index(dim)
    dims = (*arg.type.dims[:i], *into, *arg.type.dims[i + 1 :])
    _require_distinct(dims)
    type_ = replace(arg.type, dims=dims)
    return ir.Split(arg=arg, dim=dim, into=tuple(into), type=type_, span=span)


def merge(
    arg: ir.Node, dims: Sequence[str], into: str, span: Span = NOWHERE
) -> ir.Merge:
    """`dims` as `into`, row-major in the order given."""
    for dim in dims:
        _require_dim(arg, dim)
    _require_distinct(dims)
    first = min(arg.type.dims.index(d) for d in dims)
    anchor = arg.type.dims[first]
    kept = (
        into if d == anchor else d
        for d in arg.type.dims
        if d not in dims or d == anchor
    )
    result = tuple(kept)
    _require_distinct(result)
    type_ = replace(arg.type, dims=result)
    return ir.Merge(arg=arg, dims=tuple(dims), into=into, type=type_, span=span)


def slice_dim(
    arg: ir.Node, dim: str, start: Size, step: Size, into: str, span: Span = NOWHERE
) -> ir.SliceDim:
    """Every `step`-th entry of `dim` from `start`, as the dim `into`."""
    _require_dim(arg, dim)
    dims = tuple(into if d == dim else d for d in arg.type.dims)
    _require_distinct(dims)
    return ir.SliceDim(
        arg=arg,
        dim=dim,
        start=start,
        step=step,
        into=into,
        type=replace(arg.type, dims=dims),
        span=span,
    )


def roll(
    arg: ir.Node, dim: str, offset: Size, wrap: bool, span: Span = NOWHERE
) -> ir.Roll:
    """`arg` moved along `dim`."""
    _require_dim(arg, dim)
    return ir.Roll(arg=arg, dim=dim, offset=offset, wrap=wrap, type=arg.type, span=span)


def concat(
    args: Sequence[ir.Node], dims: Sequence[str], into: str, span: Span = NOWHERE
) -> ir.Concat:
    """`args` one after another, each along its own dim of `dims`, as `into`.

    The dim "" stands for a value without the dim, which counts as one entry.
    """
    shapes: list[tuple[str, ...]] = []
    for arg, dim in zip(args, dims, strict=True):
        if dim:
            _require_dim(arg, dim)
            shapes.append(tuple(into if d == dim else d for d in arg.type.dims))
        else:
            shapes.append((into, *arg.type.dims))
    union = merge_dims(*shapes)
    type_ = Type(promote(*dtypes_of(args)), union, axes_of(args))
    _require_distinct(union)
    if all(len(shape) < len(union) for shape in shapes):
        listed = " and ".join(f"[{', '.join(a.type.dims)}]" for a in args)
        raise Issue(
            "E0201",
            f"values of {listed} side by side: none has all dims of the others",
            "rename or project, so that they differ in the joined dim only",
        )
    return ir.Concat(
        args=tuple(args), dims=tuple(dims), into=into, type=type_, span=span
    )


def gather(arg: ir.Node, dim: str, index: ir.Node, span: Span = NOWHERE) -> ir.Gather:
    """`arg` at `index` along `dim`."""
    _require_dim(arg, dim)
    if index.type.dtype != "int":
        raise Issue(
            "E0214",
            f"an index along `{dim}` is int, not {index.type.dtype}",
            "write `int(…)` around it, which drops the fraction",
        )
    rest = tuple(d for d in arg.type.dims if d != dim)
    dims = merge_dims_in_order(index.type.dims, rest)
    type_ = Type(arg.type.dtype, dims, axes_of((arg, index)))
    return ir.Gather(arg=arg, dim=dim, index=index, type=type_, span=span)


def one_hot(index: ir.Node, dim: str, span: Span = NOWHERE) -> ir.OneHot:
    """The unit vectors of `index` along the new dim `dim`."""
    if index.type.dtype != "int":
        raise Issue("E0214", f"`onehot` takes int values, not {index.type.dtype}")
    dims = (*index.type.dims, dim)
    _require_distinct(dims)
    type_ = Type("float", dims, index.type.axes)
    return ir.OneHot(index=index, dim=dim, type=type_, span=span)


def conv(
    arg: ir.Node,
    weight: ir.Node,
    axes: Sequence[str],
    taps: Sequence[str],
    reduce: Sequence[str],
    dilation: Size,
    pad: Literal["zero", "circular", "reflect", "replicate"],
    span: Span = NOWHERE,
    ahead: bool = False,
) -> ir.Conv:
    """Convolution of `arg` with `weight`; new dims stand where the first summed one stood."""
    for dim in (*axes, *reduce):
        if dim != TIME:
            _require_dim(arg, dim)
    _require_distinct((*axes, *reduce))
    _require_distinct((*axes, *weight.type.dims))
    new = [
        d
        for d in weight.type.dims
        if d not in arg.type.dims and d not in taps and d not in reduce
    ]
    dims: list[str] = []
    for d in arg.type.dims:
        if d not in reduce:
            dims.append(d)
        elif d == reduce[0]:
            dims.extend(new)
    if not reduce:
        dims.extend(new)
    _require_distinct(dims)
    type_ = Type(
        promote("float", arg.type.dtype, weight.type.dtype),
        tuple(dims),
        axes_of((arg, weight)) | ({TIME, BATCH} if TIME in axes else set[str]()),
    )
    return ir.Conv(
        arg=arg,
        weight=weight,
        axes=tuple(axes),
        taps=tuple(taps),
        dilation=dilation,
        reduce=tuple(reduce),
        pad=pad,
        ahead=ahead,
        type=type_,
        span=span,
    )


def grad(of: ir.Node, wrt: ir.Shift | ir.Ref, span: Span = NOWHERE) -> ir.Grad:
    """Gradient of the sum of `of` with respect to `wrt`."""
    if of.type.dtype != "float" or wrt.type.dtype != "float":
        raise Issue("E0215", "`grad` differentiates float values")
    type_ = Type("float", wrt.type.dims, of.type.axes | wrt.type.axes)
    return ir.Grad(of=of, wrt=wrt, type=type_, span=span)
