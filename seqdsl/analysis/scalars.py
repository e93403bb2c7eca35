"""Pointwise operators on numbers, as floating point does them: no exception, but inf and nan."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

Number = float | int | bool

_INF = math.inf
_NAN = math.nan


def _exp(x: float) -> float:
    return _INF if x > 709.78 else math.exp(x)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -_INF if x == 0 else _NAN


def _divide(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return _NAN if a == 0 or math.isnan(a) else math.copysign(_INF, a)


def _floor(a: float) -> float:
    return math.floor(a) if math.isfinite(a) else a


def _floordiv(a: float, b: float) -> float:
    return a // b if b != 0 and math.isfinite(a) else _divide(a, b)


def _mod(a: float, b: float) -> float:
    return a % b if b != 0 and math.isfinite(a) else _NAN


def _pow(a: float, b: float) -> float:
    if a == 0 and b < 0:
        return _INF
    try:
        found = a**b
    except OverflowError:
        return _INF
    return _NAN if isinstance(found, complex) else found


def _sqrt(x: float) -> float:
    return math.sqrt(x) if x >= 0 else _NAN


def _sigmoid(x: float) -> float:
    return 1 / (1 + _exp(-x)) if x >= 0 else _exp(x) / (1 + _exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(_exp(-abs(x)))


def _logaddexp(a: float, b: float) -> float:
    top = max(a, b)
    return top if math.isinf(top) else top + math.log1p(_exp(-abs(a - b)))


def _max(a: float, b: float) -> float:
    return _NAN if math.isnan(a) or math.isnan(b) else max(a, b)


def _min(a: float, b: float) -> float:
    return -_max(-a, -b)


def _times(a: float, b: float) -> float:
    return a * b


def _finite(function: Callable[[float], float]) -> Callable[[float], float]:
    """`function`, which is nan where the library refuses."""

    def row(x: float) -> float:
        try:
            return function(x)
        except (ValueError, OverflowError):
            return _NAN

    return row


def _where(condition: Number, a: Number, b: Number) -> Number:
    return a if condition else b


def _gelu(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


_ONE: Mapping[str, Callable[[float], Number]] = {
    "neg": operator.neg,
    "not": operator.not_,
    "exp": _exp,
    "log": _log,
    "log1p": lambda x: _log(1 + x),
    "expm1": lambda x: _exp(x) - 1 if abs(x) > 1 else math.expm1(x),
    "sqrt": _sqrt,
    "rsqrt": lambda x: _divide(1.0, _sqrt(x)),
    "square": lambda x: x * x,
    "sin": _finite(math.sin),
    "cos": _finite(math.cos),
    "tan": _finite(math.tan),
    "atan": math.atan,
    "sinh": _finite(math.sinh),
    "cosh": _finite(math.cosh),
    "tanh": math.tanh,
    "atanh": _finite(math.atanh),
    "sigmoid": _sigmoid,
    "logsigmoid": lambda x: -_softplus(-x),
    "softplus": _softplus,
    "silu": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
    "relu": lambda x: _max(x, 0.0),
    "erf": math.erf,
    "sign": lambda x: (x > 0) - (x < 0),
    "floor": _floor,
    "ceil": lambda x: -_floor(-x),
    "round": lambda x: round(x) if math.isfinite(x) else x,
    "abs": abs,
    "float": float,
    "int": lambda x: int(x) if math.isfinite(x) else 0,
    "bool": bool,
    "stopgrad": lambda x: x,
}
_TWO: Mapping[str, Callable[[float, float], Number]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": _times,
    "div": _divide,
    "floordiv": _floordiv,
    "mod": _mod,
    "pow": _pow,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "min": _min,
    "max": _max,
    "logaddexp": _logaddexp,
    "atan2": math.atan2,
}
SCALARS: Mapping[str, Callable[..., Number]] = {**_ONE, **_TWO, "where": _where}
"""Every operator on real numbers; those on complex ones have no row."""

FOLDS: Mapping[str, tuple[Callable[[float, float], Number], Number]] = {
    "sum": (operator.add, 0),
    "prod": (_times, 1),
    "max": (_max, -_INF),
    "min": (_min, _INF),
    "logsumexp": (_logaddexp, -_INF),
    "any": (lambda a, b: a or b, False),
    "all": (lambda a, b: a and b, True),
}
"""Reductions that are taken entry by entry, with what they are of nothing."""
