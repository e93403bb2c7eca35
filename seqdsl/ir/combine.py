"""Constructors of leaves, of pointwise operations and of reductions; see `ir/build.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from seqdsl.ir import nodes as ir
from seqdsl.ir.ops import ALONGS, MAPS, REDUCTIONS, AlongOp, DTypeRule, MapOp
from seqdsl.ir.sizes import Lit, Size
from seqdsl.ir.types import DTYPES, DType, Type, merge_dims, promote
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
    return ir.Map(op=op, args=args, type=Type(dtype, dims, axes_of(args)), span=span)


def dtypes_of(args: Sequence[ir.Node]) -> list[DType]:
    """Dtypes of `args`, in order."""
    return [a.type.dtype for a in args]


def axes_of(args: Sequence[ir.Node]) -> frozenset[str]:
    """Axes along which any of `args` varies."""
    return frozenset[str]().union(*(a.type.axes for a in args))


def _map_dtype(row: MapOp, args: Sequence[ir.Node]) -> DType:
    values = args[1:] if row.result == "branches" else args
    if row.result == "branches" and args[0].type.dtype != "bool":
        raise Issue(
            "E0210",
            f"the condition of `{row.name}` is {args[0].type.dtype}, not bool",
            "compare it with something, such as `x > 0`",
        )
    dtype = promote(row.least, *dtypes_of(values))
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
    axes = axes_of(args)
    for name in over:
        holders = [a for a in args if name in a.type.dims or name in a.type.axes]
        if not holders:
            shapes = " and ".join(f"[{', '.join(a.type.dims)}]" for a in args)
            raise Issue("E0202", f"`dot[{name}]` of {shapes}: no argument has `{name}`")
    dtype = promote("int", *dtypes_of(args))
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
