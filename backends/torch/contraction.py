"""Contractions: `F.linear` with a weight, `einsum` between other values."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.backends.torch.along_time import timed
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
from seqdsl.ir.types import BATCH, TIME


def contract(
    m: Method, node: ir.Contract, args: Sequence[Value], bias: Value | None = None
) -> Value:
    """Products by name summed over `node.over`; a `bias` only where `is_linear`."""
    args = [cast(m, tensor(m, a), node.type.dtype) for a in args]
    over = node.over
    if TIME in over:
        return _over_time(m, node, args)
    if BATCH in over:
        args = [one(m, a) for a in args]
    if len(args) == 2 and (found := is_linear(node)) is not None:
        x, weight = args[1 - found], args[found]
        if set(over) <= set(x.layout):
            return _linear(m, node, x, weight, bias)
    if (product := _matmul(node, args)) is not None:
        return product
    target = joint_layout(m, node, args)
    target = tuple(n for n in target if n not in over)
    if len(args) == 1:
        return _summed(args[0], over, target, node)
    if node.type.dtype == "int" or not over:
        return _multiplied(m, node, args, target)
    return Value(_einsum(args, target), target, node.type.dtype, even=_even(args))


def _matmul(node: ir.Contract, args: Sequence[Value]) -> Value | None:
    """`x @ W` for a weight `[in, out]`."""
    if len(args) != 2 or len(node.over) != 1 or not is_parameter(node.args[1]):
        return None
    x, weight = args
    if len(weight.layout) != 2 or weight.layout[0] != node.over[0]:
        return None
    if not x.layout or x.layout[-1] != node.over[0] or weight.layout[1] in x.layout:
        return None
    layout = (*x.layout[:-1], weight.layout[1])
    if layout[len(layout) - len(node.type.dims) :] != node.type.dims:
        return None
    code = Binary("@", x.code, weight.code)
    return Value(code, layout, node.type.dtype, even=x.even)


def is_linear(node: ir.Contract) -> int | None:
    """Which of two arguments is a weight `[out…, in…]` (or `[in…]`) for `F.linear`."""
    if len(node.args) != 2:
        return None
    for i in (1, 0):
        weight, x = node.args[i], node.args[1 - i]
        dims, count = weight.type.dims, len(node.over)
        out = dims[: len(dims) - count]
        if (
            is_parameter(weight)
            and set(dims[len(out) :]) == set(node.over)
            and set(node.over) <= set(x.type.dims)
            and not set(out) & set(x.type.dims)
            and count
        ):
            return i
    return None


def is_parameter(node: ir.Node) -> bool:
    """Whether `node` does not change with batch or time, as a weight does not."""
    return isinstance(node, ir.Ref) and not node.type.axes & {BATCH, TIME}


def _linear(
    m: Method, node: ir.Contract, x: Value, weight: Value, bias: Value | None
) -> Value:
    count = len(node.over)
    inner = weight.layout[len(weight.layout) - count :]
    out = weight.layout[: len(weight.layout) - count]
    rest = tuple(n for n in x.layout if n not in inner)
    x = permute(x, (*rest, *inner))
    source = x.code if count == 1 else method(x.code, "flatten", -count)
    layout = (*rest, *out)
    path = weight.code.text.rsplit(".", 1)[0] if isinstance(weight.code, Atom) else ""
    module = path.split(".", 1)[-1] if path else ""
    if (
        module
        and len(out) == count == 1
        and path in m.layer.linears
        and (bias is not None) == (f"{path}.bias" in m.layer.linears)
    ):
        code: Expr = call(path, source)
    elif not out:
        flat = weight.code if count == 1 else method(weight.code, "flatten")
        code = Binary("@", source, flat)
        code = code if bias is None else Binary("+", code, bias.code)
    else:
        code = call("F.linear", source, *_flat(weight, len(out), count, bias))
        if len(out) > 1:
            code = method(code, "unflatten", -1, tuple_of(m.extents(out)))
    target = ordered(set(rest) - set(node.type.dims), node.type.dims, m.model.copies)
    value = Value(code, layout, node.type.dtype, even=x.even)
    return permute(value, target)


def _flat(weight: Value, out: int, count: int, bias: Value | None) -> list[Expr]:
    """The weight as a matrix, and the bias as a vector."""
    matrix = weight.code
    if count > 1:
        matrix = method(matrix, "flatten", out)
    if out > 1:
        matrix = method(matrix, "flatten", 0, out - 1)
    if bias is None:
        return [matrix]
    return [matrix, bias.code if out == 1 else method(bias.code, "flatten")]


def _over_time(m: Method, node: ir.Contract, args: Sequence[Value]) -> Value:
    """A sum over time, or over all steps of all sequences.

    One over time keeps the dimension: with segments it has a value a step.
    """
    args = stepwise(m, node.over, args)
    wide = joint_layout(m, node, args)
    wide = (*wide, *(n for n in node.over if n not in wide))
    target = tuple(n for n in wide if n not in node.over)
    if BATCH in node.over:
        if target and all(set(target) <= set(a.layout) for a in args):
            # no matrix product, which is what einsum would make of it row by row
            return _multiplied(m, node, args, target)
        return Value(_einsum(args, target), target, node.type.dtype)
    each = tuple(n for n in wide if n not in node.over or n == TIME)
    codes = [a.code for a in args]
    helper, starts = m.helper("_dot_over_time"), m.need("starts")
    whole = _subscripts(args, target), _subscripts(args, each)
    return Value(call(helper, *whole, starts, *codes), each, node.type.dtype, even=True)


def stepwise(m: Method, over: Sequence[str], args: Sequence[Value]) -> list[Value]:
    """Values of which one at least has its full extent along time.

    For a step of a stream, all steps of all sequences are those of this step.
    """
    if m.in_time and BATCH in over:
        return list(args)
    if m.in_time:
        raise UnsupportedError("a sum over time within a step")
    found = [a for a in args if TIME in a.layout and not a.even]
    if found:
        return list(args)
    first = next((a for a in args if TIME in a.layout), args[0])
    return [timed(m, a) if a is first else a for a in args]


def one(m: Method, value: Value) -> Value:
    """Without time, where a value is the same at all steps."""
    if not value.even:
        return value
    rest = tuple(n for n in value.layout if n != TIME)
    name = Atom(f'"{m.current}"')
    return Value(call(m.helper("_final"), value.code, name), rest, value.dtype)


def _summed(
    value: Value, over: Sequence[str], target: Sequence[str], node: ir.Node
) -> Value:
    dims = [value.layout.index(n) - len(value.layout) for n in over]
    where = str(dims[0]) if len(dims) == 1 else tuple_of(dims)
    left = tuple(n for n in value.layout if n not in over)
    summed = Value(method(value.code, "sum", where), left, node.type.dtype)
    return permute(summed, target)


def _multiplied(
    m: Method, node: ir.Contract, args: Sequence[Value], target: Sequence[str]
) -> Value:
    """The product written out, for what no library multiplies as matrices."""
    wide = joint_layout(m, node, args)
    wide = (*wide, *(n for n in node.over if n not in wide))
    code = align(args[0], wide)
    for arg in args[1:]:
        code = Binary("*", code, align(arg, wide))
    product = Value(code, wide, node.type.dtype, even=_even(args))
    return _summed(product, node.over, target, node) if node.over else product


def _even(args: Sequence[Value]) -> bool:
    timed = [a for a in args if TIME in a.layout]
    return bool(timed) and all(a.even for a in timed)


def _einsum(args: Sequence[Value], target: Sequence[str]) -> Expr:
    return call("torch.einsum", _subscripts(args, target), *(a.code for a in args))


def _subscripts(args: Sequence[Value], target: Sequence[str]) -> Expr:
    letters: dict[str, str] = {}
    for name in dict.fromkeys(n for a in args for n in a.layout):
        letters[name] = _letter(name, set(letters.values()))
    inputs = ",".join("".join(letters[n] for n in a.layout) for a in args)
    output = "".join(letters[n] for n in target)
    return Atom(f'"{inputs}->{output}"')


def _letter(name: str, taken: set[str]) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    own = [c for c in name if c.isascii() and c.isalpha()]
    tries = [*(c.lower() for c in own), *(c.upper() for c in own)]
    every = [*tries, *alphabet, *alphabet.upper()]
    return next(c for c in every if c not in taken)
