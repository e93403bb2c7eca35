"""Pointwise operators on numbers and vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seqdsl.backends.mlir.vector_body import Shape, literal
from seqdsl.backends.mlir.vector_math import FUNCTIONS, function
from seqdsl.backends.mlir.writer import Val, Writer
from seqdsl.ir.types import DType, promote

_FAST = "fastmath<contract>"


@dataclass
class Pointwise:
    """Writes operators; a result stands in the innermost block of its operands."""

    w: Writer
    bits: int

    # ---- Types

    def element(self, dtype: DType) -> str:
        return {"bool": "i1", "int": "i64"}.get(dtype, f"f{self.bits}")

    def type_(self, dtype: DType, lanes: int) -> str:
        element = self.element(dtype)
        return f"vector<{lanes}x{element}>" if lanes else element

    def number(self, value: float, dtype: DType, lanes: int = 0) -> Val:
        """A constant."""
        if dtype == "float":
            text = literal(float(value), self.bits)
        elif dtype == "bool":
            text = "true" if value else "false"
        else:
            text = str(int(value))
        type_ = self.type_(dtype, lanes)
        if lanes:
            text = f"dense<{text}> : {type_}"
        elif dtype != "bool":
            text = f"{text} : {type_}"
        return Val(self.w.once(f"arith.constant {text}"), dtype, lanes, 0)

    # ---- Conversions

    def spread(self, value: Val, lanes: int) -> Val:
        """One number in every lane."""
        if value.lanes or not lanes:
            return value
        scalar, wide = self.type_(value.dtype, 0), self.type_(value.dtype, lanes)
        text = f"vector.broadcast {value.name} : {scalar} to {wide}"
        return Val(self.w.once(text, value.level), value.dtype, lanes, value.level)

    def cast(self, value: Val, dtype: DType) -> Val:
        """`value` in another dtype."""
        if value.dtype == dtype:
            return value
        match value.dtype, dtype:
            case "bool", "float":
                op = "uitofp"
            case "bool", "int":
                op = "extui"
            case "int", "float":
                op = "sitofp"
            case "float", "int":
                op = "fptosi"
            case _, "bool":
                return self.compare("ne", value, self.number(0, value.dtype))
            case _:
                raise AssertionError(f"{value.dtype} as {dtype}")
        have = self.type_(value.dtype, value.lanes)
        want = self.type_(dtype, value.lanes)
        name = self.w.put(f"arith.{op} {value.name} : {have} to {want}", value.level)
        return Val(name, dtype, value.lanes, value.level)

    def together(self, *values: Val) -> tuple[tuple[Val, ...], int, int]:
        """Operands of equally many lanes, that number, and the block of the result."""
        lanes = max(v.lanes for v in values)
        spread = tuple(self.spread(v, lanes) for v in values)
        return spread, lanes, max(v.level for v in values)

    # ---- Operators

    def plain(self, op: str, *values: Val, flags: str = "") -> Val:
        """An operation whose operands and result have one type."""
        spread, lanes, level = self.together(*values)
        dtype = values[0].dtype
        names = ", ".join(v.name for v in spread)
        more = f" {flags}" if flags else ""
        text = f"{op} {names}{more} : {self.type_(dtype, lanes)}"
        return Val(self.w.put(text, level), dtype, lanes, level)

    def arithmetic(self, op: str, *values: Val) -> Val:
        """add, sub, mul, div, max, min of floats or ints."""
        if values[0].dtype == "float":
            name = {"max": "maximum", "min": "minimum"}.get(op, op)
            flags = _FAST if op in ("add", "sub", "mul") else ""
            return self.plain(f"arith.{name}f", *values, flags=flags)
        name = {"max": "maxs", "min": "mins", "div": "floordivs"}.get(op, op)
        return self.plain(f"arith.{name}i", *values)

    def compare(self, how: str, a: Val, b: Val) -> Val:
        """A comparison, to bool."""
        (x, y), lanes, level = self.together(a, b)
        if a.dtype == "float":
            op, how = "cmpf", {"ne": "une"}.get(how, f"o{how}")
        else:
            unordered = how in ("eq", "ne")
            sign = "u" if a.dtype == "bool" else "s"
            op, how = "cmpi", how if unordered else f"{sign}{how}"
        text = f"arith.{op} {how}, {x.name}, {y.name} : {self.type_(a.dtype, lanes)}"
        return Val(self.w.put(text, level), "bool", lanes, level)

    def select(self, when: Val, a: Val, b: Val) -> Val:
        """`a` where `when`, else `b`."""
        (x, y, z), lanes, level = self.together(when, a, b)
        type_ = self.type_(a.dtype, lanes)
        kinds = f"{self.type_('bool', lanes)}, {type_}" if lanes else type_
        text = f"arith.select {x.name}, {y.name}, {z.name} : {kinds}"
        return Val(self.w.put(text, level), a.dtype, lanes, level)

    def function(self, name: str, *values: Val) -> Val:
        """A function of `vector_math`."""
        assert name in FUNCTIONS
        spread, lanes, level = self.together(*values)
        shape = Shape(lanes, self.bits)
        symbol = shape.symbol(name)
        if symbol not in self.w.functions:
            self.w.functions[symbol] = function(name, shape)
        kinds = ", ".join([shape.real] * len(spread))
        names = ", ".join(v.name for v in spread)
        text = f"func.call @{symbol}({names}) : ({kinds}) -> {shape.real}"
        return Val(self.w.put(text, level), "float", lanes, level)

    def apply(self, op: str, values: list[Val], dtype: DType) -> Val:
        """The operator `op` of `ir.ops.MAPS` with a result of `dtype`."""
        return _ROWS[op](self, op, values, dtype)


_Row = Callable[[Pointwise, str, list[Val], DType], Val]


def _arithmetic(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    return p.arithmetic(op, *(p.cast(v, dtype) for v in values))


def _compare(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    kinds: list[DType] = [v.dtype for v in values]
    widest = promote(*kinds)
    a, b = (p.cast(v, widest) for v in values)
    return p.compare(op, a, b)


def _logic(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    if op == "not":
        return p.plain("arith.xori", values[0], p.number(1, "bool"))
    return p.plain(f"arith.{op}i", *values)


def _where(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    when, a, b = values
    return p.select(when, p.cast(a, dtype), p.cast(b, dtype))


def _function(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    return p.function(op, *(p.cast(v, "float") for v in values))


def _instruction(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    name = {"round": "roundeven"}.get(op, op)
    value = values[0]
    if value.dtype != "float":
        return value
    return p.plain(f"math.{name}", value)


def _negative(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    value = p.cast(values[0], dtype)
    if dtype == "float":
        return p.plain("arith.negf", value)
    return p.arithmetic("sub", p.number(0, "int"), value)


def _absolute(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    value = p.cast(values[0], dtype)
    return p.plain("math.absf" if dtype == "float" else "math.absi", value)


def _square(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    value = p.cast(values[0], dtype)
    return p.arithmetic("mul", value, value)


def _rsqrt(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    root = p.plain("math.sqrt", p.cast(values[0], "float"))
    return p.arithmetic("div", p.number(1, "float"), root)


def _sqrt(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    return p.plain("math.sqrt", p.cast(values[0], "float"))


def _silu(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    x = p.cast(values[0], "float")
    return p.arithmetic("mul", x, p.function("sigmoid", x))


def _gelu(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    x = p.cast(values[0], "float")
    scaled = p.arithmetic("mul", x, p.number(0.7071067811865476, "float"))
    half = p.arithmetic("mul", x, p.number(0.5, "float"))
    one = p.number(1, "float")
    return p.arithmetic(
        "mul", half, p.arithmetic("add", one, p.function("erf", scaled))
    )


def _relu(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    return p.arithmetic("max", p.cast(values[0], "float"), p.number(0, "float"))


def _sign(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    x = p.cast(values[0], dtype)
    zero = p.number(0, dtype)
    above = p.cast(p.compare("gt", x, zero), dtype)
    below = p.cast(p.compare("lt", x, zero), dtype)
    return p.arithmetic("sub", above, below)


def _floor_divide(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    a, b = (p.cast(v, dtype) for v in values)
    if dtype == "int":
        return p.arithmetic("div", a, b)
    return p.plain("math.floor", p.arithmetic("div", a, b))


def _modulo(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    a, b = (p.cast(v, dtype) for v in values)
    rest = p.plain("arith.remf" if dtype == "float" else "arith.remsi", a, b)
    zero = p.number(0, dtype)
    other = p.compare("ne", p.compare("lt", rest, zero), p.compare("lt", b, zero))
    wrong = p.plain("arith.andi", other, p.compare("ne", rest, zero))
    return p.select(wrong, p.arithmetic("add", rest, b), rest)


def _power(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    if dtype == "int":
        a, b = (p.cast(v, "int") for v in values)
        return p.plain("math.ipowi", a, b)
    return p.function("pow", *(p.cast(v, "float") for v in values))


def _cast(p: Pointwise, op: str, values: list[Val], dtype: DType) -> Val:
    return p.cast(values[0], dtype)


_ROWS: Mapping[str, _Row] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "min", "max"), _arithmetic),
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), _compare),
    **dict.fromkeys(("and", "or", "not"), _logic),
    **dict.fromkeys(FUNCTIONS, _function),
    **dict.fromkeys(("floor", "ceil", "round"), _instruction),
    **dict.fromkeys(("float", "int", "bool", "stopgrad"), _cast),
    "where": _where,
    "neg": _negative,
    "abs": _absolute,
    "square": _square,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "silu": _silu,
    "gelu": _gelu,
    "relu": _relu,
    "sign": _sign,
    "floordiv": _floor_divide,
    "mod": _modulo,
    "pow": _power,
}
