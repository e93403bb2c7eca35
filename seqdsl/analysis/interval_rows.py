"""Between which numbers the result of an operator lies, one row an operator.

A row goes from the intervals of the arguments to that of the result. The numbers are
real ones: rounding may put a value on an open end, and nothing is said about values
that are not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from seqdsl.analysis.intervals import (
    INF,
    POSITIVE,
    REAL,
    Interval,
    add,
    divide,
    monotone,
    multiply,
    negate,
    point,
    power,
    reciprocal,
    square,
    subtract,
)

Row = Callable[..., Interval]


def _exp(x: float) -> float:
    return INF if x > 709 else math.exp(x)


def _sigmoid(x: float) -> float:
    return 1 / (1 + _exp(-x)) if x >= 0 else _exp(x) / (1 + _exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(_exp(-abs(x)))


def _log(x: float) -> float:
    return -INF if x <= 0 else math.log(x)


def _silu(x: float) -> float:
    return x * _sigmoid(x) if math.isfinite(x) else max(x, 0.0)


def _gelu(x: float) -> float:
    return (
        0.5 * x * (1 + math.erf(x / math.sqrt(2))) if math.isfinite(x) else max(x, 0.0)
    )


def _dip(
    function: Callable[[float], float], at: float, least: float, left: float = 0.0
) -> Row:
    """A function that falls from `left` to `least` near `at` and rises from there."""

    def row(a: Interval) -> Interval:
        ends = function(a.low), function(a.high)
        bottom = least if a.low <= at <= a.high else min(ends)
        # The place of the least value is rounded, so nothing is said to be left out.
        return Interval(min(bottom, *ends), max(left if a.low == -INF else -INF, *ends))

    return row


def _bounded(low: float, high: float) -> Row:
    return lambda *_: Interval(low, high)


def _defined(row: Row, low: float, low_value: float) -> Row:
    """A rising function that exists from `low` on."""

    def clipped(a: Interval) -> Interval:
        if a.high < low:
            return REAL
        if a.low < low:
            a = Interval(low, max(a.high, low), False, a.high_open)
        found = row(a)
        return found if not math.isnan(found.low) else Interval(low_value, found.high)

    return clipped


def _rsqrt(a: Interval) -> Interval:
    root = _sqrt(a)
    return POSITIVE if root.low < 0 else reciprocal(root) if root.high > 0 else REAL


def _root(x: float) -> float:
    return math.sqrt(x) if x > 0 else 0.0


def _absolute(a: Interval) -> Interval:
    if a.low >= 0:
        return a
    if a.high <= 0:
        return negate(a)
    top = max((-a.low, not a.low_open), (a.high, not a.high_open))
    return Interval(0.0, top[0], False, not top[1])


def _steps(function: Callable[[float], float]) -> Row:
    def row(a: Interval) -> Interval:
        ends = [x if math.isinf(x) else float(function(x)) for x in (a.low, a.high)]
        return Interval(ends[0], ends[1])

    return row


def _largest(a: Interval, b: Interval) -> Interval:
    low, low_open = max((a.low, a.low_open), (b.low, b.low_open))
    high, closed = max((a.high, not a.high_open), (b.high, not b.high_open))
    return Interval(low, high, low_open, not closed)


def _least(a: Interval, b: Interval) -> Interval:
    return negate(_largest(negate(a), negate(b)))


def _logaddexp(a: Interval, b: Interval) -> Interval:
    def of(x: float, y: float) -> float:
        if math.isinf(x) or math.isinf(y):
            return max(x, y)
        return max(x, y) + math.log1p(_exp(-abs(x - y)))

    either = a.low_open or b.low_open, a.high_open or b.high_open
    return Interval(of(a.low, b.low), of(a.high, b.high), *either)


def _mod(a: Interval, b: Interval) -> Interval:
    if b.low > 0:
        return Interval(0.0, b.high, False, False)
    return REAL


def _floordiv(a: Interval, b: Interval) -> Interval:
    return _steps(math.floor)(divide(a, b))


def _truncated(x: float) -> float:
    return float(math.trunc(x))


_sqrt = _defined(monotone(_root, 0.0), 0.0, 0.0)


def _either(_: Interval, a: Interval, b: Interval) -> Interval:
    return a.union(b)


def _same(a: Interval) -> Interval:
    return a


def _relu(a: Interval) -> Interval:
    return _largest(a, point(0.0))


def _sign(x: float) -> float:
    return float((x > 0) - (x < 0))


def _cosh(x: float) -> float:
    return INF if abs(x) > 709 else math.cosh(x)


ROWS: Mapping[str, Row] = {
    "add": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
    "floordiv": _floordiv,
    "mod": _mod,
    "pow": power,
    "neg": negate,
    "where": _either,
    "exp": monotone(_exp, 0.0),
    "log": _defined(monotone(_log), 0.0, -INF),
    "log1p": _defined(monotone(lambda x: _log(1 + x)), -1.0, -INF),
    "expm1": monotone(lambda x: INF if x > 709 else math.expm1(x), -1.0),
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "square": square,
    "sin": _bounded(-1, 1),
    "cos": _bounded(-1, 1),
    "tan": _bounded(-INF, INF),
    "atan": monotone(math.atan, -math.pi / 2, math.pi / 2),
    "sinh": monotone(lambda x: math.copysign(INF, x) if abs(x) > 709 else math.sinh(x)),
    "cosh": _dip(_cosh, 0.0, 1.0, INF),
    "tanh": monotone(math.tanh, -1.0, 1.0),
    "atanh": _bounded(-INF, INF),
    "sigmoid": monotone(_sigmoid, 0.0, 1.0),
    "logsigmoid": monotone(lambda x: -_softplus(-x), -INF, 0.0),
    "softplus": monotone(_softplus, 0.0),
    "silu": _dip(_silu, -1.2784645427610738, -0.2784645427610739),
    "gelu": _dip(_gelu, -0.7517915961, -0.1699712075),
    "relu": _relu,
    "erf": monotone(math.erf, -1.0, 1.0),
    "sign": _steps(_sign),
    "floor": _steps(math.floor),
    "ceil": _steps(math.ceil),
    "round": _steps(round),
    "abs": _absolute,
    "min": _least,
    "max": _largest,
    "logaddexp": _logaddexp,
    "atan2": _bounded(-math.pi, math.pi),
    "float": _same,
    "int": _steps(_truncated),
    "stopgrad": _same,
    "real": _same,
    "conj": _same,
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), _bounded(0, 1)),
    **dict.fromkeys(("and", "or", "not", "bool"), _bounded(0, 1)),
    **dict.fromkeys(("complex", "imag"), _bounded(-INF, INF)),
}
"""One row per operator of `ops.MAPS`."""
