"""Functions of the mathematical library, lane by lane where MLIR has no form of them."""

from __future__ import annotations

from collections.abc import Mapping

from seqdsl.backends.mlir.vector_body import Body, Shape

_SAME = (
    *("exp", "expm1", "tanh", "log", "log1p", "erf", "sin", "cos"),
    *("tan", "atan", "sinh", "cosh", "atanh", "atan2"),
)

LIBRARY: Mapping[str, str] = {
    "pow": "powf",
    **{name: name for name in _SAME},
}
"""What the mathematical library has, by the name of its operation in MLIR."""

_LANE_BY_LANE = frozenset(("expm1", "log1p"))
"""What MLIR would make of others and lose digits."""


def library(b: Body, name: str, args: tuple[str, ...]) -> str:
    """A call of the library, in double precision whatever the shape's."""
    wide = b.shape.of("f64")
    if b.shape.bits == 32:
        args = tuple(b.put(f"arith.extf {a} : {b.shape.real} to {wide}") for a in args)
    if name in _LANE_BY_LANE:
        value = _each_lane(b, name, args[0])
    elif name == "atanh":
        value = _atanh(b, args[0])
    else:
        value = b.put(f"math.{LIBRARY[name]} {', '.join(args)} : {wide}")
    if b.shape.bits == 64:
        return value
    return b.put(f"arith.truncf {value} : {wide} to {b.shape.real}")


def _each_lane(b: Body, name: str, x: str) -> str:
    """The library's function on one number after another."""
    if not b.shape.lanes:
        return b.put(f"func.call @{name}({x}) : (f64) -> f64")
    wide, result = b.shape.of("f64"), x
    for i in range(b.shape.lanes):
        entry = b.put(f"vector.extract {x}[{i}] : f64 from {wide}")
        entry = b.put(f"func.call @{name}({entry}) : (f64) -> f64")
        result = b.put(f"vector.insert {entry}, {result} [{i}] : f64 into {wide}")
    return result


def _atanh(b: Body, x: str) -> str:
    wide = Body(Shape(b.shape.lanes, 64), b.prefix, b.lines, b.known)
    size = wide.call("absf", x)
    ratio = wide.div(wide.add(size, size), wide.sub(wide.number(1.0), size))
    half = wide.mul(wide.number(0.5), _each_lane(b, "log1p", ratio))
    return wide.put(f"math.copysign {half}, {x} : {wide.shape.real}")


def declarations() -> list[str]:
    """What functions may call of the mathematical library."""
    return [f"  func.func private @{n}(f64) -> f64" for n in sorted(_LANE_BY_LANE)]
