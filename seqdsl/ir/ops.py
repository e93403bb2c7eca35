"""Every primitive operator, one row each: dtypes, broadcasting, linearity, derivative.

Derivatives are written in the language itself, over the arguments `a`, `b`, `c` and the
result `y`; `differentiate/` parses them. Only `mul` may form an outer product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from seqdsl.ir.types import DType

DTypeRule = Literal["promote", "float", "bool", "int", "complex", "real", "branches"]


@dataclass(frozen=True, slots=True)
class MapOp:
    """A pointwise operator.

    `accepts`: the largest argument dtype. `least`: arguments are promoted at least to
    this. `result`: `promote` is the promoted dtype, `real` its real counterpart,
    `branches` that of all arguments but the first. `joint`: arguments in which it is
    jointly linear while the others stay fixed; `each`: linear in every argument by
    itself. `partials`: derivative with respect to each argument, None where it is
    zero everywhere (integers, comparisons, `stopgrad`).
    """

    name: str
    arity: int
    partials: tuple[str | None, ...]
    accepts: DType = "float"
    least: DType = "bool"
    result: DTypeRule = "promote"
    joint: tuple[int, ...] = ()
    each: bool = False
    symbol: str | None = None


def _unary(name: str, partial: str | None, accepts: DType = "float") -> MapOp:
    """A function of real (or complex) numbers with one argument."""
    return MapOp(name, 1, (partial,), accepts=accepts, least="float")


def _compare(name: str, symbol: str, accepts: DType = "float") -> MapOp:
    """A comparison: two numbers to a bool."""
    return MapOp(name, 2, (None, None), accepts=accepts, result="bool", symbol=symbol)


def _logic(name: str, arity: int, symbol: str) -> MapOp:
    """A boolean connective."""
    return MapOp(name, arity, (None,) * arity, accepts="bool", symbol=symbol)


_MAP_ROWS: tuple[MapOp, ...] = (
    # arithmetic
    MapOp("add", 2, ("1", "1"), "complex", "int", joint=(0, 1), symbol="+"),
    MapOp("sub", 2, ("1", "-1"), "complex", "int", joint=(0, 1), symbol="-"),
    MapOp("mul", 2, ("b", "a"), "complex", "int", each=True, symbol="*"),
    MapOp("div", 2, ("1 / b", "-y / b"), "complex", "float", joint=(0,), symbol="/"),
    MapOp("floordiv", 2, (None, None), "float", "int", symbol="//"),
    MapOp("mod", 2, ("1", "-(a // b)"), "float", "int", symbol="%"),
    MapOp(
        "pow",
        2,
        (
            "where(b == 0, 0, b * a ** (b - 1))",
            "where(a == 0, 0, y * log(where(a == 0, 1, a)))",
        ),
        "complex",
        "int",
        symbol="**",
    ),
    MapOp("neg", 1, ("-1",), "complex", "int", joint=(0,), symbol="-"),
    # comparison, logic, choice
    _compare("lt", "<"),
    _compare("le", "<="),
    _compare("gt", ">"),
    _compare("ge", ">="),
    _compare("eq", "==", "complex"),
    _compare("ne", "!=", "complex"),
    _logic("and", 2, "and"),
    _logic("or", 2, "or"),
    _logic("not", 1, "not"),
    MapOp(
        "where",
        3,
        (None, "where(a, 1, 0)", "where(a, 0, 1)"),
        "complex",
        result="branches",
        joint=(1, 2),
    ),
    # pointwise functions
    _unary("exp", "y", "complex"),
    _unary("log", "1 / a", "complex"),
    _unary("log1p", "1 / (1 + a)"),
    _unary("expm1", "y + 1"),
    _unary("sqrt", "0.5 / y", "complex"),
    _unary("rsqrt", "-0.5 * y * y * y"),
    MapOp("square", 1, ("2 * a",), "complex", "int"),
    _unary("sin", "cos(a)", "complex"),
    _unary("cos", "-sin(a)", "complex"),
    _unary("tan", "1 + y * y"),
    _unary("atan", "1 / (1 + a * a)"),
    _unary("sinh", "cosh(a)"),
    _unary("cosh", "sinh(a)"),
    _unary("tanh", "1 - y * y", "complex"),
    _unary("atanh", "1 / (1 - a * a)"),
    _unary("sigmoid", "y * (1 - y)"),
    _unary("logsigmoid", "sigmoid(-a)"),
    _unary("softplus", "sigmoid(a)"),
    _unary("silu", "sigmoid(a) * (1 + a * (1 - sigmoid(a)))"),
    _unary(
        "gelu",
        "0.5 * (1 + erf(a * 0.7071067811865476)) + 0.3989422804014327 * a * exp(-0.5 * a * a)",
    ),
    _unary("relu", "where(a > 0, 1, 0)"),
    _unary("erf", "1.1283791670955126 * exp(-a * a)"),
    MapOp("sign", 1, (None,), "float", "int"),
    MapOp("floor", 1, (None,), "float", "int"),
    MapOp("ceil", 1, (None,), "float", "int"),
    MapOp("round", 1, (None,), "float", "int"),
    MapOp("abs", 1, ("sign(a)",), "complex", "int", result="real"),
    # the derivative of a tie goes half to each side
    MapOp(
        "min",
        2,
        ("0.5 * ((a < b) + (a <= b))", "0.5 * ((b < a) + (b <= a))"),
        "float",
        "int",
    ),
    MapOp(
        "max",
        2,
        ("0.5 * ((a > b) + (a >= b))", "0.5 * ((b > a) + (b >= a))"),
        "float",
        "int",
    ),
    MapOp(
        "logaddexp",
        2,
        (
            "where(a == y, where(b == y, 0.5, 1), exp(a - y))",
            "where(b == y, where(a == y, 0.5, 1), exp(b - y))",
        ),
        "float",
        "float",
    ),
    MapOp(
        "atan2", 2, ("b / (a * a + b * b)", "-a / (a * a + b * b)"), "float", "float"
    ),
    # complex numbers
    MapOp(
        "complex",
        2,
        ("1", "complex(0, 1)"),
        "float",
        "float",
        result="complex",
        joint=(0, 1),
    ),
    MapOp("real", 1, ("1",), "complex", "float", result="real", joint=(0,)),
    MapOp("imag", 1, ("1",), "complex", "float", result="real", joint=(0,)),
    MapOp("conj", 1, ("1",), "complex", "float", joint=(0,)),
    # casts and gradient control
    MapOp("float", 1, ("1",), "float", "float", result="float"),
    MapOp("int", 1, (None,), "float", result="int"),
    MapOp("bool", 1, (None,), "float", result="bool"),
    MapOp("stopgrad", 1, (None,), "complex"),
)

MAPS: Mapping[str, MapOp] = {row.name: row for row in _MAP_ROWS}


@dataclass(frozen=True, slots=True)
class ReduceOp:
    """An operator that removes dims or axes.

    `identity` is what entries outside `where` count as; None where a `where` is
    refused. `linear` says that it is linear in its argument.
    """

    name: str
    accepts: DType
    least: DType
    result: DTypeRule
    identity: float | bool | None
    linear: bool = False


_INF = float("inf")
REDUCTIONS: Mapping[str, ReduceOp] = {
    row.name: row
    for row in (
        ReduceOp("sum", "complex", "int", "promote", 0, linear=True),
        ReduceOp("mean", "complex", "float", "promote", 0, linear=True),
        ReduceOp("prod", "complex", "int", "promote", 1),
        ReduceOp("max", "float", "int", "promote", -_INF),
        ReduceOp("min", "float", "int", "promote", _INF),
        ReduceOp("logsumexp", "float", "float", "promote", -_INF),
        ReduceOp("argmax", "float", "int", "int", -_INF),
        ReduceOp("argmin", "float", "int", "int", _INF),
        ReduceOp("any", "bool", "bool", "bool", False),
        ReduceOp("all", "bool", "bool", "bool", True),
    )
}


@dataclass(frozen=True, slots=True)
class AlongOp:
    """An operator along dims that keeps the shape.

    `several`: may run over more than one dim at once. `masked`: takes a `where`.
    `running`: along time it is a recurrence and is written as one when elaborated.
    """

    name: str
    accepts: DType
    least: DType
    several: bool = False
    masked: bool = False
    running: bool = False
    linear: bool = False


ALONGS: Mapping[str, AlongOp] = {
    row.name: row
    for row in (
        AlongOp("softmax", "float", "float", several=True, masked=True),
        AlongOp("log_softmax", "float", "float", several=True, masked=True),
        AlongOp("cumsum", "complex", "int", running=True, linear=True),
        AlongOp("cumprod", "complex", "int", running=True),
        AlongOp("cummax", "float", "int", running=True),
        AlongOp("cummin", "float", "int", running=True),
        AlongOp("logcumsumexp", "float", "float", running=True),
        AlongOp("top", "float", "int"),
    )
}
