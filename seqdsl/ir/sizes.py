"""Arithmetic over a layer's options: dim extents and compile-time scalars.

A size stays symbolic until a layer is made, so that one elaboration serves every size.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seqdsl.source import Span

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Lit:
    """A known value."""

    value: Scalar

    def __str__(self) -> str:
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        return f'"{self.value}"' if isinstance(self.value, str) else f"{self.value}"


@dataclass(frozen=True, slots=True)
class Opt:
    """An option of the enclosing layer, by name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator of `OPERATORS` applied to sizes."""

    op: str
    args: tuple[Size, ...]

    def __str__(self) -> str:
        match self.args:
            case (a,):
                return f"-{_group(a)}" if self.op == "neg" else f"{self.op}({a})"
            case (a, b) if self.op in _INFIX:
                return f"{_group(a)} {self.op} {_group(b)}"
            case _:
                return f"{self.op}({', '.join(map(str, self.args))})"


Size = Lit | Opt | Apply

_INFIX = ("+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!=")


def _group(size: Size) -> str:
    infix = isinstance(size, Apply) and (size.op in _INFIX or size.op == "neg")
    return f"({size})" if infix else f"{size}"


class SizeError(ValueError):
    """Arithmetic over options that has no value; the text gives the numbers."""


def _divide(a: float, b: float) -> float:
    if b == 0:
        raise SizeError(f"{a} / {b} divides by zero")
    quotient = a / b
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return quotient


def _whole_divide(a: float, b: float) -> float:
    if b == 0:
        raise SizeError(f"{a} // {b} divides by zero")
    return a // b


def _remainder(a: float, b: float) -> float:
    if b == 0:
        raise SizeError(f"{a} % {b} divides by zero")
    return a % b


def _power(a: float, b: float) -> float:
    if abs(b) > 1024 or abs(a) > 2**64:
        raise SizeError(f"{a} ** {b} is too large")
    return a**b


def _and(a: Scalar, b: Scalar) -> bool:
    return bool(a) and bool(b)


def _or(a: Scalar, b: Scalar) -> bool:
    return bool(a) or bool(b)


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "//": _whole_divide,
    "%": _remainder,
    "**": _power,
    "neg": operator.neg,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "and": _and,
    "or": _or,
    "not": operator.not_,
    "min": min,
    "max": max,
    "abs": abs,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
}


def apply(op: str, *args: Size) -> Size:
    """`op` over sizes, folded where every argument is known.

    Raises `SizeError` where the folded value does not exist.
    """
    if all(isinstance(a, Lit) for a in args):
        return Lit(_call(op, [a.value for a in args if isinstance(a, Lit)]))
    return Apply(op, args)


def _call(op: str, values: list[Scalar]) -> Scalar:
    try:
        return OPERATORS[op](*values)
    except SizeError:
        raise
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        shown = ", ".join(map(str, values))
        raise SizeError(f"{op}({shown}) has no value: {error}") from None


def evaluate(size: Size, options: Mapping[str, Scalar]) -> Scalar:
    """The value of `size` under `options`.

    Raises `KeyError` for an option that is not given, `SizeError` for bad arithmetic.
    """
    match size:
        case Lit(value):
            return value
        case Opt(name):
            return options[name]
        case Apply(op, args):
            return _call(op, [evaluate(a, options) for a in args])


def substitute(size: Size, values: Mapping[str, Size]) -> Size:
    """`size` with options replaced, folded."""
    match size:
        case Lit():
            return size
        case Opt(name):
            return values.get(name, size)
        case Apply(op, args):
            return apply(op, *(substitute(a, values) for a in args))


def options_of(size: Size) -> Iterator[str]:
    """Names of the options that `size` reads."""
    match size:
        case Lit():
            return
        case Opt(name):
            yield name
        case Apply(_, args):
            for arg in args:
                yield from options_of(arg)


@dataclass(frozen=True)
class Constraint:
    """Two sizes that must agree once the options are known."""

    left: Size
    right: Size
    span: Span
    message: str
