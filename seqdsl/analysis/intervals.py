"""Sets of numbers between two ends, and arithmetic with them.

The numbers are real ones: rounding may put a value on an open end, and nothing is said
about values that are not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

INF = math.inf


@dataclass(frozen=True)
class Interval:
    """All real numbers between two ends, without those ends that are `open`."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.low:.4g}"
        left = "(" if self.low_open or self.low == -INF else "["
        right = ")" if self.high_open or self.high == INF else "]"
        low, high = self.low + 0.0, self.high + 0.0  # no -0
        return f"{left}{low:.4g}, {high:.4g}{right}".replace("-inf", "-∞").replace(
            "inf", "∞"
        )

    def __contains__(self, value: float) -> bool:
        above = value > self.low or (value == self.low and not self.low_open)
        return above and (
            value < self.high or (value == self.high and not self.high_open)
        )

    def inside(self, low: float, high: float, open_low: bool = False) -> bool:
        """Whether all of it lies in `[low, high]`, or `(low, high]`."""
        above = self.low > low or (self.low == low and (self.low_open or not open_low))
        return above and self.high <= high

    def union(self, other: Interval) -> Interval:
        """The smallest interval around both."""
        low, low_open = min((self.low, self.low_open), (other.low, other.low_open))
        high, closed = max(
            (self.high, not self.high_open), (other.high, not other.high_open)
        )
        return Interval(low, high, low_open, not closed)


REAL = Interval(-INF, INF)
UNIT = Interval(0.0, 1.0)
POSITIVE = Interval(0.0, INF)
OPEN_UNIT = Interval(0.0, 1.0, True, True)


def point(value: float) -> Interval:
    """One number."""
    return Interval(value, value)


# ---- Arithmetic


def add(a: Interval, b: Interval) -> Interval:
    """Sums."""
    return Interval(
        _plus(a.low, b.low, -INF),
        _plus(a.high, b.high, INF),
        a.low_open or b.low_open,
        a.high_open or b.high_open,
    )


def _plus(a: float, b: float, otherwise: float) -> float:
    result = a + b
    return otherwise if math.isnan(result) else result


def negate(a: Interval) -> Interval:
    """The mirror image."""
    return Interval(-a.high, -a.low, a.high_open, a.low_open)


def subtract(a: Interval, b: Interval) -> Interval:
    """Differences."""
    return add(a, negate(b))


_End = tuple[float, bool]


def multiply(a: Interval, b: Interval) -> Interval:
    """Products."""
    ends = [_product(x, y) for x in _ends(a) for y in _ends(b)]
    return _around(ends)


def _ends(a: Interval) -> tuple[_End, _End]:
    return (a.low, a.low_open), (a.high, a.high_open)


def _product(x: _End, y: _End) -> _End:
    if x[0] == 0 or y[0] == 0:
        # 0 times whatever is 0, and it is reached where a zero end is.
        reached = (x[0] == 0 and not x[1]) or (y[0] == 0 and not y[1])
        return 0.0, not reached
    return x[0] * y[0], x[1] or y[1]


def _around(ends: list[_End]) -> Interval:
    low, low_open = min(ends)
    high = max(value for value, _ in ends)
    high_open = all(is_open for value, is_open in ends if value == high)
    return Interval(low, high, low_open, high_open)


def divide(a: Interval, b: Interval) -> Interval:
    """Quotients; nothing is known where the divisor may be 0 or change its sign."""
    return multiply(a, reciprocal(b))


def reciprocal(b: Interval) -> Interval:
    """1 over numbers of one sign."""
    if b.low < 0 < b.high or b.low == b.high == 0:
        return REAL
    if b.high <= 0:
        return negate(reciprocal(negate(b)))
    high = INF if b.low == 0 else 1 / b.low
    low = 0.0 if b.high == INF else 1 / b.high
    return Interval(low, high, b.high_open or b.high == INF, b.low_open)


def square(a: Interval) -> Interval:
    """Squares."""
    if a.low < 0 < a.high:
        top = max((abs(a.low), not a.low_open), (abs(a.high), not a.high_open))
        return Interval(0.0, _squared(top[0]), False, not top[1])
    low, high = (a, a) if a.low >= 0 else (negate(a), negate(a))
    return Interval(
        _squared(low.low), _squared(high.high), low.low_open, high.high_open
    )


def _squared(value: float) -> float:
    return INF if abs(value) > 1e150 else value * value


def power(a: Interval, b: Interval) -> Interval:
    """Powers: of non-negative numbers, or to a whole one."""
    if b.low != b.high:
        return _corners(a, b) if a.low > 0 or (a.low == 0 <= b.low) else REAL
    n = b.low
    if n == 0:
        return point(1.0)
    if n == 2:
        return square(a)
    if n < 0:
        return reciprocal(power(a, point(-n)))
    whole = n == int(n) if math.isfinite(n) else False
    if whole and int(n) % 2 == 0 and a.low < 0:
        return power(square(a), point(n / 2))
    if a.low < 0 and not whole:
        return REAL
    return monotone(lambda x: math.copysign(_powered(abs(x), n), x))(a)


def _corners(a: Interval, b: Interval) -> Interval:
    """A power of non-negative numbers rises or falls in each argument by itself."""
    ends = [_powered(x, n) for x in (a.low, a.high) for n in (b.low, b.high)]
    never = a.low > 0 or (a.low_open and a.low == 0)
    return Interval(min(ends), max(ends), never and min(ends) == 0)


def _powered(x: float, n: float) -> float:
    try:
        return float(x**n)
    except OverflowError:
        return INF


# ---- Rising functions


def monotone(
    function: Callable[[float], float],
    low: float = -INF,
    high: float = INF,
) -> Callable[[Interval], Interval]:
    """A rising function whose limits are `low` and `high`, never reached if finite."""

    def row(a: Interval) -> Interval:
        bottom, top = function(a.low), function(a.high)
        return Interval(
            bottom,
            top,
            a.low_open or (bottom == low and a.low == -INF),
            a.high_open or (top == high and a.high == INF),
        )

    return row
