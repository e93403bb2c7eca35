"""Constructors of IR nodes: they compute types and refuse what does not fit.

Every stage that makes nodes (elaborate, rewrite, differentiate) makes them here, so a
node that exists is well typed. Refusals are `Issue`s: a code and facts, to which the
elaborator adds the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from seqdsl.ir import nodes as ir
from seqdsl.ir.ops import ALONGS, MAPS, REDUCTIONS, AlongOp, DTypeRule, MapOp
from seqdsl.ir.sizes import Lit, Size
from seqdsl.ir.types import BATCH, DTYPES, TIME, DType, Type, merge_dims, promote
from seqdsl.source import NOWHERE, Span

_N = TypeVar("_N", bound=ir.Base)


class Issue(Exception):
    """An ill-typed node: diagnostic code, message, and what to do."""

    def __init__(self, code: str, message: str, *help: str) -> None:
        self.code = code
        self.message = message
        self.help = help
        super().__init__(f"{code} {message}")


def at_span(node: _N, span: Span) -> _N:
    """The same node at another place in the text."""
    return replace(node, span=span)


# ---- Leaves


def const(value: Size | float | bool, span: Span = NOWHERE) -> ir.Const:
    """A scalar known when the layer is made; a bare option counts as int if `integral`."""
    size = Lit(value) if isinstance(value, int | float) else value
    return ir.Const(value=size, type=Type(_const_dtype(size)), span=span)


def _const_dtype(size: Size) -> DType:
    match size:
        case Lit(bool()):
            return "bool"
        case Lit(int()):
            return "int"
        case _:
            return "float"


def ref(name: str, type: Type, span: Span = NOWHERE) -> ir.Ref:
    """The value `name` at the current index."""
    return ir.Ref(name=name, type=type, span=span)


def position(along: str, axis: bool, span: Span = NOWHERE) -> ir.Position:
    """The index along an axis (`axis=True`) or along a dim."""
    type_ = Type("int", (), frozenset({along})) if axis else Type("int", (along,))
    return ir.Position(along=along, type=type_, span=span)


# ---- Pointwise


def map_(op: str, *args: ir.Node, span: Span = NOWHERE) -> ir.Map:
    """The pointwise operator `op` of `args`, broadcast by name."""
    row = MAPS[op]
    dtype = _map_dtype(row, args)
    dims = merge_dims(*(a.type.dims for a in args))
    if op != "mul":
        _check_contained(row, args, dims)
    return ir.Map(op=op, args=args, type=Type(dtype, dims, _axes(args)), span=span)


def _dtypes(args: Sequence[ir.Node]) -> list[DType]:
    return [a.type.dtype for a in args]


def _axes(args: Sequence[ir.Node]) -> frozenset[str]:
    return frozenset[str]().union(*(a.type.axes for a in args))


def _map_dtype(row: MapOp, args: Sequence[ir.Node]) -> DType:
    values = args[1:] if row.result == "branches" else args
    if row.result == "branches" and args[0].type.dtype != "bool":
        raise Issue(
            "E0210",
            f"the condition of `{row.name}` is {args[0].type.dtype}, not bool",
            "compare it with something, such as `x > 0`",
        )
    dtype = promote(row.least, *_dtypes(values))
    _check_accepts(row.name, row.accepts, dtype)
    return _result_dtype(row.result, dtype)


def _check_accepts(name: str, accepts: DType, dtype: DType) -> None:
    if DTYPES.index(dtype) > DTYPES.index(accepts):
        raise Issue(
            "E0211",
            f"`{name}` does not take {dtype} values (at most {accepts})",
            {
                "complex": "take `real(…)`, `imag(…)` or `abs(…)` first",
                "float": "make whole numbers or bools first, "
                "for instance with a comparison",
            }.get(dtype, "compare it with something, such as `x > 0`"),
        )


def _result_dtype(rule: DTypeRule, dtype: DType) -> DType:
    match rule:
        case "float" | "bool" | "int" | "complex":
            return rule
        case "real":
            return "float" if dtype == "complex" else dtype
        case _:
            return dtype


def _check_contained(
    row: MapOp, args: Sequence[ir.Node], dims: tuple[str, ...]
) -> None:
    if any(len(a.type.dims) == len(dims) for a in args):
        return
    if all(_is_positional(a) for a in args):
        return
    shapes = " and ".join(f"[{', '.join(a.type.dims)}]" for a in args if a.type.dims)
    name = row.symbol or row.name
    first, *rest = [a.type.dims for a in args if a.type.dims]
    only_a = [d for d in first if d not in rest[0]]
    only_b = [d for d in rest[0] if d not in first]
    rename = (
        f"if `{only_a[0]}` and `{only_b[0]}` are the same thing, rename one: "
        f"`….({only_a[0]} -> {only_b[0]})`; or project with `linear`"
        if only_a and only_b
        else "rename a dim with `….(A -> B)`"
    )
    raise Issue(
        "E0201",
        f"`{name}` of {shapes}: neither has all dims of the other",
        rename,
        "only `*` may form an outer product",
    )


def _is_positional(node: ir.Node) -> bool:
    """Whether a value is made of `index[…]` and numbers only.

    Such values say themselves which dims they have, so `index[I] - index[J]` cannot be
    the mistake that the rule against outer sums is there to catch.
    """
    match node:
        case ir.Const() | ir.Position():
            return True
        case ir.Map(args=args) | ir.Concat(args=args):
            return all(map(_is_positional, args))
        case _:
            return False


# ---- Reductions and contractions


def reduce(
    op: str,
    arg: ir.Node,
    over: Sequence[str],
    where: ir.Node | None = None,
    span: Span = NOWHERE,
) -> ir.Reduce:
    """`op` over dims and axes of `arg` (and of `where`)."""
    row = REDUCTIONS[op]
    _check_over(op, arg, over, where)
    dtype = promote(row.least, arg.type.dtype)
    _check_accepts(op, row.accepts, dtype)
    dims, axes = _with_where(arg, where)
    if op.startswith("arg") and len(over) != 1:
        raise Issue("E0212", f"`{op}` runs over one dim", "merge the dims first")
    type_ = Type(
        _result_dtype(row.result, dtype),
        tuple(d for d in dims if d not in over),
        axes - set(over),
    )
    return ir.Reduce(
        op=op, arg=arg, over=tuple(over), where=where, type=type_, span=span
    )


def _with_where(
    arg: ir.Node, where: ir.Node | None
) -> tuple[tuple[str, ...], frozenset[str]]:
    if where is None:
        return arg.type.dims, arg.type.axes
    if where.type.dtype != "bool":
        raise Issue("E0210", "a condition between brackets must be a comparison")
    dims = merge_dims(arg.type.dims, where.type.dims)
    return dims, arg.type.axes | where.type.axes


def _check_over(
    op: str, arg: ir.Node, over: Sequence[str], where: ir.Node | None = None
) -> None:
    dims, axes = _with_where(arg, where)
    for name in over:
        if name not in dims and name not in axes:
            shape = f"[{', '.join(dims)}]"
            hint = f"its dims are {shape}" if dims else "it has no dims"
            raise Issue(
                "E0202", f"`{op}[{name}]`: the value does not vary along `{name}`", hint
            )
    if len(set(over)) != len(over):
        raise Issue("E0203", f"`{op}` names a dim twice")


def contract(
    args: Sequence[ir.Node], over: Sequence[str], span: Span = NOWHERE
) -> ir.Contract:
    """Product of `args`, summed over `over` (dims or a copy axis)."""
    dims = merge_dims_in_order(*(a.type.dims for a in args))
    axes = _axes(args)
    for name in over:
        holders = [a for a in args if name in a.type.dims or name in a.type.axes]
        if not holders:
            shapes = " and ".join(f"[{', '.join(a.type.dims)}]" for a in args)
            raise Issue("E0202", f"`dot[{name}]` of {shapes}: no argument has `{name}`")
    dtype = promote("int", *_dtypes(args))
    type_ = Type(dtype, tuple(d for d in dims if d not in over), axes - set(over))
    return ir.Contract(args=tuple(args), over=tuple(over), type=type_, span=span)


def merge_dims_in_order(*shapes: tuple[str, ...]) -> tuple[str, ...]:
    """Union of named dims in order of first appearance."""
    return tuple(dict.fromkeys(dim for shape in shapes for dim in shape))


def along(
    op: str,
    arg: ir.Node,
    over: Sequence[str],
    where: ir.Node | None = None,
    count: Size | None = None,
    span: Span = NOWHERE,
) -> ir.Along:
    """A shape-keeping operator along dims or copy axes."""
    row: AlongOp = ALONGS[op]
    _check_over(op, arg, over, where)
    if len(over) > 1 and not row.several:
        raise Issue("E0212", f"`{op}` runs along one dim", "merge the dims first")
    if where is not None and not row.masked:
        raise Issue("E0213", f"`{op}` takes no condition")
    dtype = promote(row.least, arg.type.dtype)
    _check_accepts(op, row.accepts, dtype)
    dims, axes = _with_where(arg, where)
    return ir.Along(
        op=op,
        arg=arg,
        over=tuple(over),
        where=where,
        count=count,
        type=Type(dtype, dims, axes),
        span=span,
    )


# ---- Re-indexing


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
    type_ = Type(promote(*_dtypes(args)), union, _axes(args))
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
    type_ = Type(arg.type.dtype, dims, _axes((arg, index)))
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
        _axes((arg, weight)) | ({TIME, BATCH} if TIME in axes else set[str]()),
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
