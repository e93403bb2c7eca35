"""Functions of real numbers on vectors, as MLIR functions that the compiler inlines.

In single precision each is a polynomial of our own, within 4 units in the last place
over the whole range. In double precision `exp` and what is made of it goes through the
same steps where that is exact enough; the rest calls the mathematical library lane by
lane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from seqdsl.backends.mlir import vector_exp, vector_waves
from seqdsl.backends.mlir.vector_body import Body, Shape
from seqdsl.backends.mlir.vector_library import LIBRARY, library

_OURS: Mapping[str, Callable[..., str]] = {
    "exp": vector_exp.exp,
    "expm1": vector_exp.expm1,
    "tanh": vector_exp.tanh,
    "log": vector_exp.log,
    "log1p": vector_exp.log1p,
    "sigmoid": vector_exp.sigmoid,
    "softplus": vector_exp.softplus,
    "logsigmoid": vector_exp.logsigmoid,
    "logaddexp": vector_exp.logaddexp,
    "erf": vector_waves.erf,
    "sin": vector_waves.sin,
    "cos": vector_waves.cos,
}
"""Polynomials in single precision, and what is made of them."""

FUNCTIONS = frozenset((*_OURS, *LIBRARY))
ARITY: Mapping[str, int] = {"logaddexp": 2, "pow": 2, "atan2": 2}


def function(name: str, shape: Shape) -> str:
    """The MLIR function that computes `name` on `shape`."""
    body = Body(shape)
    names = [f"%x{i}" for i in range(ARITY.get(name, 1))]
    if name in _OURS:
        result = _OURS[name](body, *names)
    else:
        result = library(body, name, tuple(names))
    args = ", ".join(f"{n}: {shape.real}" for n in names)
    head = f"  func.func private @{shape.symbol(name)}({args}) -> {shape.real} {{"
    return "\n".join([head, *body.lines, f"    return {result} : {shape.real}", "  }"])
