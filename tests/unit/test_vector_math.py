"""Vector functions of the MLIR backend against double precision, over the whole range."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cache

import pytest
import torch
from torch import Tensor

from seqdsl.backends.mlir.engine import Code, compile_text
from seqdsl.backends.mlir.pointwise import Pointwise
from seqdsl.backends.mlir.vector_body import Shape
from seqdsl.backends.mlir.vector_library import declarations
from seqdsl.backends.mlir.vector_math import FUNCTIONS, function
from seqdsl.backends.mlir.writer import Val, Writer
from seqdsl.native.load import available

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

LANES = 8
COUNT = 1 << 19
SPECIAL = (0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, -1e-45)
SPECIAL_TOO = (
    1.0,
    -1.0,
    88.72283,
    88.72284,
    -103.97,
    -104.1,
    3.4e38,
    -3.4e38,
    1.17e-38,
)


def _softplus(x: Tensor) -> Tensor:
    small, large = torch.log1p(torch.exp(x)), x + torch.log1p(torch.exp(-x))
    return torch.where(x > 0, large, small)


def _logsigmoid(x: Tensor) -> Tensor:
    return -_softplus(-x)


EXACT: Mapping[str, Callable[..., Tensor]] = {
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": _softplus,
    "logsigmoid": _logsigmoid,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "atanh": torch.atanh,
    "logaddexp": torch.logaddexp,
    "pow": torch.pow,
    "atan2": torch.atan2,
}


@cache
def _compiled(name: str, bits: int, count: int) -> Code:
    """A loop that applies `name` (1 or 2 arguments) to whole arrays."""
    arity = 2 if name in ("logaddexp", "pow", "atan2") else 1
    shape, kind = Shape(LANES, bits), f"memref<{count}xf{bits}>"
    names = [f"%a{i}" for i in range(arity)]
    loads = "\n".join(
        f"      %x{i} = vector.load {n}[%i] : {kind}, {shape.real}"
        for i, n in enumerate(names)
    )
    types = ", ".join([shape.real] * arity)
    given = ", ".join(f"%x{i}" for i in range(arity))
    args = ", ".join(f"{n}: {kind}" for n in [*names, "%y"])
    text = f"""module {{
  func.func @run({args}) attributes {{llvm.emit_c_interface}} {{
    %c0 = arith.constant 0 : index
    %n = arith.constant {count} : index
    %s = arith.constant {LANES} : index
    scf.for %i = %c0 to %n step %s {{
{loads}
      %r = func.call @{shape.symbol(name)}({given}) : ({types}) -> {shape.real}
      vector.store %r, %y[%i] : {kind}, {shape.real}
    }}
    return
  }}
{function(name, shape)}
{chr(10).join(declarations())}
}}
"""
    return compile_text(text, "run")[0]


def apply(name: str, *args: Tensor) -> Tensor:
    """The vector function on one-dimensional tensors."""
    result = torch.empty_like(args[0])
    code = _compiled(name, args[0].element_size() * 8, len(result))
    words: list[int] = []
    for tensor in (*args, result):
        words += (tensor.data_ptr(), tensor.data_ptr(), 0, len(tensor), 1)
    values = (ctypes.c_int64 * len(words))(*words)
    base = ctypes.addressof(values)
    pointers = (ctypes.c_void_p * len(words))(*range(base, base + 8 * len(words), 8))
    code.call(ctypes.addressof(pointers))
    return result


def everywhere(seed: int = 0) -> Tensor:
    """Every exponent and sign equally often, everyday numbers, and special values."""
    generator = torch.Generator().manual_seed(seed)
    low, high = -(2**31), 2**31 - 1
    raw = torch.randint(low, high, (COUNT,), generator=generator, dtype=torch.int64)
    x = raw.to(torch.int32).view(torch.float32)
    x[: COUNT // 2] = 20 * torch.randn(COUNT // 2, generator=generator)
    special = torch.tensor((*SPECIAL, *SPECIAL_TOO))
    x[: len(special)] = special
    return x


def ulps(found: Tensor, exact: Tensor) -> Tensor:
    """Distance in units in the last place of single precision; 0 where both are NaN."""
    rounded = exact.to(torch.float32)
    same = (found == rounded) | (found.isnan() & rounded.isnan())
    size = rounded.abs().clamp(min=2.0**-126, max=3.4e38)
    unit = torch.exp2(torch.floor(torch.log2(size.double())) - 23)
    return torch.where(same, 0.0, (found.double() - exact).abs() / unit)


def _check(name: str, *args: Tensor) -> None:
    found = apply(name, *args)
    exact = EXACT[name](*(a.double() for a in args))
    off = ulps(found, exact)
    worst = int(torch.nan_to_num(off, nan=float("inf")).argmax())
    case = [float(a[worst]) for a in args]
    assert off[worst] <= 4, (name, case, float(found[worst]), float(exact[worst]))


@pytest.mark.parametrize("name", sorted(EXACT.keys() - {"logaddexp", "pow", "atan2"}))
def test_single_precision_is_within_four_units(name: str) -> None:
    _check(name, everywhere())


@pytest.mark.parametrize("name", ["logaddexp", "pow", "atan2"])
def test_functions_of_two_numbers(name: str) -> None:
    x, y = everywhere(1), everywhere(2)
    if name == "logaddexp":
        # where both nearly cancel the sum has no relative precision
        x, y = x.abs(), y.abs()
    _check(name, x, y)


def test_every_function_is_tried() -> None:
    assert EXACT.keys() == FUNCTIONS


@pytest.mark.parametrize("name", sorted(EXACT))
def test_double_precision_follows_the_library(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(1024, generator=generator, dtype=torch.float64)
    arity = 2 if name in ("logaddexp", "pow", "atan2") else 1
    args = [x, x.flip(0)][:arity]
    torch.testing.assert_close(
        apply(name, *args), EXACT[name](*args), rtol=1e-14, atol=1e-300, equal_nan=True
    )


def test_rsqrt_is_within_four_units() -> None:
    writer = Writer()
    value = Pointwise(writer, 32).apply("rsqrt", [Val("%x", "float", 8, 0)], "float")
    assert value.lanes == 8
    assert any("math.sqrt" in line for line in writer.levels[0].lines)
