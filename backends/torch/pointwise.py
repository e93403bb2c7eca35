"""Pointwise operators in torch, a row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.python import (
    Atom,
    Binary,
    Expr,
    Unary,
    call,
    method,
)
from seqdsl.backends.torch.values import Value, align, ordered
from seqdsl.ir import nodes as ir
from seqdsl.ir.ops import MAPS
from seqdsl.ir.types import DTYPES, TIME, DType, promote

_INFIX: Mapping[str, str] = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
    "and": "&",
    "or": "|",
}
_ON_NUMBERS: Mapping[str, str] = {"and": "and", "or": "or"}
_FUNCTIONS: Mapping[str, str] = {
    **{
        name: f"torch.{name}"
        for name in [
            "exp",
            "log",
            "log1p",
            "expm1",
            "sqrt",
            "rsqrt",
            "square",
            "sin",
            "cos",
            "tan",
            "atan",
            "sinh",
            "cosh",
            "tanh",
            "atanh",
            "sigmoid",
            "relu",
            "erf",
            "sign",
            "floor",
            "ceil",
            "round",
            "abs",
            "atan2",
            "complex",
            "real",
            "where",
        ]
    },
    "logsigmoid": "F.logsigmoid",
    "silu": "F.silu",
    "gelu": "F.gelu",
    "min": "torch.minimum",
    "max": "torch.maximum",
}
_OF_NUMBERS: Mapping[str, str] = {
    **{
        name: f"math.{name}"
        for name in [
            "exp",
            "log",
            "log1p",
            "expm1",
            "sqrt",
            "sin",
            "cos",
            "tan",
            "atan",
            "tanh",
            "floor",
            "ceil",
        ]
    },
    "abs": "abs",
    "min": "min",
    "max": "max",
    "float": "float",
    "int": "int",
    "bool": "bool",
    "round": "round",
}
_HELPERS: Mapping[str, str] = {"logaddexp": "_logaddexp", "imag": "_imag"}
_METHODS: Mapping[str, str] = {
    "int": "long",
    "bool": "bool",
    "stopgrad": "detach",
    "conj": "conj",
}
SUPPORTED = frozenset(
    [*_INFIX, *_FUNCTIONS, *_HELPERS, *_METHODS, "neg", "not", "float", "softplus"]
)


def pointwise(m: Method, node: ir.Map, args: Sequence[Value]) -> Value:
    """`node` over its arguments' values."""
    if all(a.scalar for a in args) and (number := _of_numbers(node.op, args)):
        return Value(number, (), node.type.dtype, scalar=True)
    target = joint_layout(m, node, args)
    operands = _promoted(m, node, list(args))
    if node.op == "floordiv" and node.type.dtype == "float":
        operands[0] = tensor(m, operands[0], "float")
    codes = [align(a, target) for a in operands]
    even = all(a.even for a in args if TIME in a.layout) and TIME in target
    return Value(_code(m, node, codes), target, node.type.dtype, even=even)


def joint_layout(m: Method, node: ir.Node, args: Sequence[Value]) -> tuple[str, ...]:
    """The layout of what combines `args` by name."""
    dims = node.type.dims
    axes = {n for a in args for n in a.layout} - set(dims)
    return ordered(axes, dims, m.model.copies)


def _code(m: Method, node: ir.Map, codes: Sequence[Expr]) -> Expr:
    op = node.op
    if op == "floordiv" and node.type.dtype == "float":
        # `//` of tensors has no gradient
        return call("torch.div", *codes, rounding_mode=Atom('"floor"'))
    if op in _INFIX:
        return Binary(_INFIX[op], codes[0], codes[1])
    if op in _METHODS:
        return method(codes[0], _METHODS[op])
    if op in _HELPERS:
        return call(m.helper(_HELPERS[op]), *codes)
    match op:
        case "neg":
            return Unary("-", codes[0])
        case "not":
            return Unary("~", codes[0])
        case "float":
            return codes[0]
        case "softplus":
            # beyond 40 it equals its argument in double precision
            return call("F.softplus", codes[0], threshold="40.0")
        case _:
            return call(_FUNCTIONS[op], *codes)


def _of_numbers(op: str, args: Sequence[Value]) -> Expr | None:
    """The operator on Python numbers, None where Python has none."""
    codes = [a.code for a in args]
    if op in _OF_NUMBERS:
        return call(_OF_NUMBERS[op], *codes)
    if op in _INFIX:
        return Binary(_ON_NUMBERS.get(op, _INFIX[op]), codes[0], codes[1])
    if op in ("neg", "not"):
        return Unary("-" if op == "neg" else "not", codes[0])
    return None


def _promoted(m: Method, node: ir.Map, args: list[Value]) -> list[Value]:
    """Arguments in dtypes from which torch arrives at the declared one."""
    row = MAPS[node.op]
    first = 1 if row.result == "branches" else 0
    values = args[first:]
    if row.result == "bool" and node.op != "bool":
        return [*_with_tensor(m, values, node.op in _INFIX)]
    dtypes: list[DType] = [a.dtype for a in values]
    dtype = promote(row.least, *dtypes)
    if node.op in ("int", "bool"):
        dtype = values[0].dtype
    infix = node.op in _INFIX or node.op in ("neg", "not")
    values = _with_tensor(m, values, infix)
    settled = any(a.dtype == dtype and not a.scalar for a in values)
    strict = not infix or node.op == "sub"
    result: list[Value] = []
    for value in values:
        low = not value.scalar and value.dtype != dtype
        if low and (not settled or (strict and value.dtype == "bool") or not infix):
            value = cast(m, value, dtype)
            settled = True
        result.append(value)
    return [*(tensor(m, a) for a in args[:first]), *result]


def _with_tensor(m: Method, values: list[Value], infix: bool) -> list[Value]:
    """Numbers as tensors where torch's function would not take them."""
    if infix and any(not v.scalar for v in values):
        return values
    if len(values) == 2 and not infix and any(not v.scalar for v in values):
        return [tensor(m, v) for v in values]
    return [tensor(m, v) if v.scalar else v for v in values]


def tensor(m: Method, value: Value, dtype: DType | None = None) -> Value:
    """A Python number as a tensor; a tensor is left alone."""
    if not value.scalar:
        return value
    made = call(
        "torch.tensor",
        value.code,
        dtype=dtype_code(m, dtype or value.dtype),
        device=m.need("device"),
    )
    return Value(made, (), dtype or value.dtype)


def dtype_code(m: Method, dtype: DType) -> Expr:
    """A dtype of the language in torch: floats are in the layer's precision."""
    match dtype:
        case "bool":
            return Atom("torch.bool")
        case "int":
            return Atom("torch.int64")
        case "float":
            return m.need("exact" if m.exact else "dtype")
        case "complex":
            return call(m.helper("_complex"), m.need("exact" if m.exact else "dtype"))


def cast(m: Method, value: Value, dtype: DType) -> Value:
    """`value` in at least `dtype`."""
    if DTYPES.index(value.dtype) >= DTYPES.index(dtype):
        return value
    if value.scalar:
        return Value(value.code, (), dtype, scalar=True)
    code = method(value.code, "to", dtype_code(m, dtype))
    return Value(code, value.layout, dtype, even=value.even)
