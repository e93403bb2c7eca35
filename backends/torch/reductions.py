"""Reductions and shape-keeping operators along dims, copies of time, time and batch."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.analysis.infinite import may_be_infinite
from seqdsl.backends.torch.contraction import one, stepwise
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import cast, joint_layout, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Binary,
    Expr,
    call,
    method,
    tuple_of,
)
from seqdsl.backends.torch.values import Value, align, ordered, permute
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.ops import ALONGS, REDUCTIONS
from seqdsl.ir.types import BATCH, TIME

_PLAIN = {
    "sum": "sum",
    "mean": "mean",
    "max": "amax",
    "min": "amin",
    "argmax": "argmax",
    "argmin": "argmin",
    "any": "any",
    "all": "all",
}
SUPPORTED_REDUCTIONS = frozenset([*_PLAIN, "prod", "logsumexp"])
SUPPORTED_ALONGS = frozenset(ALONGS)


def reduce(m: Method, node: ir.Reduce, arg: Value, where: Value | None) -> Value:
    """`node` over its argument's value."""
    arg = cast(m, tensor(m, arg), REDUCTIONS[node.op].least)
    if TIME in node.over and BATCH not in node.over:
        return _over_time(m, node, arg, where)
    if TIME in node.over and (where is None or where.even):
        (arg,) = stepwise(m, node.over, [arg])
    elif BATCH in node.over and TIME not in node.over:
        arg, where = one(m, arg), None if where is None else one(m, where)
    where = with_segments(m, node.over, where)
    values = [arg] if where is None else [arg, where]
    wide = _wide(m, node, values)
    left = tuple(n for n in wide if n not in node.over)
    target = ordered(set(left) - set(node.type.dims), node.type.dims, m.model.copies)
    empty = BATCH in node.over and node.op in ("mean", "max", "min")
    if where is None and node.op in _PLAIN and arg.layout == wide and not empty:
        dims = _dims(node.over, wide)
        code: Expr = method(arg.code, _PLAIN[node.op], dims)
    else:
        code = _helped(m, node.op, arg, where, wide, node.over)
    even = arg.even and TIME in left
    return permute(Value(code, left, node.type.dtype, even=even), target)


def _wide(
    m: Method, node: ir.Reduce | ir.Along, values: Sequence[Value]
) -> tuple[str, ...]:
    """The layout of everything that `node` runs over."""
    dims = dict.fromkeys((*node.arg.type.dims, *node.type.dims))
    every = {n for v in values for n in v.layout}
    dims |= dict.fromkeys(
        n for v in values for n in v.layout if n in m.model.dims and n not in dims
    )
    names = [d for d in dims if d in every]
    return ordered(every - set(names), names, m.model.copies)


def _dims(over: Sequence[str], layout: Sequence[str]) -> Expr:
    places = [list(layout).index(n) for n in over]
    shown = [
        p if p < 2 and layout[p] in (BATCH, TIME) else p - len(layout) for p in places
    ]
    return Atom(str(shown[0])) if len(shown) == 1 else tuple_of(shown)


def _helped(
    m: Method,
    op: str,
    arg: Value,
    where: Value | None,
    wide: Sequence[str],
    over: Sequence[str],
) -> Expr:
    """A masked reduction, or one that torch has no safe form of."""
    x = align(arg, wide)
    dims = tuple_of([list(wide).index(n) - len(wide) for n in over])
    mask = Atom("None") if where is None else align(where, wide)
    found = call(m.helper(f"_{op}"), x, dims, mask)
    if op not in ("argmax", "argmin") or over[0] not in m.model.copies:
        return found
    steps = align(m.look("position", over[0]), wide)
    place = list(wide).index(over[0]) - len(wide)
    return call(m.helper("_position"), found, x, place, mask, steps)


def with_segments(m: Method, over: Sequence[str], where: Value | None) -> Value | None:
    """`where`, and the same segment for a copy of time that is summed away."""
    copies = [n for n in over if n in m.model.copies]
    for copy in copies:
        same = m.find("same", copy)
        if same is None:
            continue
        if where is None:
            where = same
        else:
            dims = [n for n in where.layout if n in m.model.dims]
            axes = {*where.layout, *same.layout} - set(dims)
            target = ordered(axes, dims, m.model.copies)
            code = Binary("&", align(where, target), align(same, target))
            where = Value(code, target, "bool")
    return where


def _over_time(m: Method, node: ir.Reduce, arg: Value, where: Value | None) -> Value:
    """A reduction over time keeps the dimension: with segments it has a value a step."""
    if m.in_time:
        raise UnsupportedError("a reduction over time within a step")
    values = [arg] if where is None else [arg, where]
    wide = _wide(m, node, values)
    if BATCH not in wide:
        raise UnsupportedError("a reduction over time of what has no time")
    rest = [n for n in node.over if n != TIME]
    dims = tuple_of([list(wide).index(n) - len(wide) for n in rest])
    mask = Atom("None") if where is None else align(where, wide)
    x = align(arg, wide)
    if arg.even:
        x = call(m.helper("_expand_time"), x, m.need("time"))
    if node.op == "sum":
        code = call(m.helper("_sum_over_time"), x, dims, mask, Atom("starts"))
    elif node.op in ("argmax", "argmin"):
        helper, more = m.helper("_step_over_time"), m.need_position()
        reducer = Atom(m.helper(f"_{node.op}"))
        code = call(helper, reducer, x, mask, Atom("starts"), more)
    else:
        reducer = Atom(m.helper(f"_{node.op}"))
        code = call(m.helper("_over_time"), reducer, x, dims, mask, Atom("starts"))
    m.needed["starts"] = None
    left = tuple(n for n in wide if n not in rest)
    return Value(code, left, node.type.dtype, even=True)


def along(m: Method, node: ir.Along, arg: Value, where: Value | None) -> Value:
    """A shape-keeping operator."""
    arg = cast(m, tensor(m, arg), ALONGS[node.op].least)
    masked = where is not None
    where = with_segments(m, node.over, where)
    values = [arg] if where is None else [arg, where]
    target = joint_layout(m, node, values)
    x = align(arg, target)
    if any(n not in arg.layout for n in node.over):
        x = method(x, "expand_as", align(where, target)) if where else x
    dims = [list(target).index(n) - len(target) for n in node.over]
    even = arg.even and (where is None or where.even)
    return Value(
        _along(m, node, x, where, target, dims, masked),
        target,
        node.type.dtype,
        even=even,
    )


def _along(
    m: Method,
    node: ir.Along,
    x: Expr,
    where: Value | None,
    target: Sequence[str],
    dims: Sequence[int],
    masked: bool,
) -> Expr:
    mask = None if where is None else align(where, target)
    match node.op:
        case "softmax" | "log_softmax":
            known = mask is None and len(dims) == 1
            if known and not may_be_infinite(m.model, node.arg, m.layer.hoisted):
                return call(f"F.{node.op}", x, dim=dims[0])
            shown = Atom("None") if mask is None else mask
            return call(m.helper(f"_{node.op}"), x, tuple_of(list(dims)), shown)
        case "top":
            count = m.whole(node.count) if node.count is not None else Atom("1")
            masks = () if mask is None else (mask,)
            return call(m.helper("_top"), x, count, dims[0], *masks)
        case "cumsum" | "cumprod":
            if mask is not None:
                x = call(m.helper("_masked"), x, mask, int(node.op == "cumprod"))
            return method(x, node.op, dims[0])
        case _:
            shown = Atom("None") if mask is None else mask
            return call(m.helper(f"_{node.op}"), x, dims[0], shown)
