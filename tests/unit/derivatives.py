"""Gradients by the interpreter, and by the equations that replace them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from seqdsl.backends.reference import interpret
from seqdsl.elaborate import elaborate_text
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar
from seqdsl.rewrite.expand_grad import expand_grad

SIZES: Mapping[str, Scalar] = {"K": 4, "V": 3, "H": 2, "J": 2, "W": 3}
DIMS = {
    "a": ("K",),
    "b": ("K",),
    "m": ("K", "V"),
    "s": (),
    "w": ("W",),
    "g": ("H", "J", "K"),
}
Make = Callable[[Mapping[str, ir.Node]], ir.Node]


def model_of(
    expr: str, lines: str = "", dims: Mapping[str, tuple[str, ...]] = DIMS
) -> ir.Model:
    inputs = "".join(f"    input {n}: [{', '.join(d)}]\n" for n, d in dims.items())
    options = ", ".join(SIZES)
    return elaborate_text(
        f"layer L({options}):\n{inputs}{lines}    y = {expr}\n    output y\n"
    )


def with_expr(model: ir.Model, make: Make) -> ir.Model:
    """`model` whose `y` is what `make` builds from the inputs."""
    refs = {i.name: build.ref(i.name, i.type) for i in model.inputs}
    equation = replace(model.equation["y"], expr=make(refs))
    return replace(model, equations=(equation,))


def gradients(
    model: ir.Model, wrt: str, values: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The gradient of `sum(y * y)` (or of its real part): interpreted and expanded."""
    y: ir.Node = build.ref("y", model.equation["y"].expr.type)
    if y.type.dtype == "complex":
        real, imag = build.map_("real", y), build.map_("imag", y)
        y = build.map_("add", build.map_("mul", real, imag), imag)
    grad = build.grad(build.map_("square", y), input_ref(model, wrt))
    asked = replace(model, outputs=(replace(model.outputs[0], expr=grad),))
    expanded = expand_grad(asked)
    runs = [
        interpret(m, options=SIZES, params={}, inputs=values)[m.outputs[0].name]
        for m in (asked, expanded)
    ]
    return runs[0].detach(), runs[1].detach()


def input_ref(model: ir.Model, name: str) -> ir.Ref:
    """An input of `model` as a node."""
    return build.ref(name, model.input[name].type)


def close(expected: Tensor, found: Tensor) -> bool:
    """Equal up to rounding."""
    return torch.allclose(expected, found, rtol=1e-8, atol=1e-10, equal_nan=True)


def normal(shapes: Mapping[str, Iterable[str]], seed: int = 0) -> dict[str, Tensor]:
    make = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(
            2, 3, *(int(SIZES[d]) for d in dims), generator=make, dtype=torch.float64
        )
        for name, dims in shapes.items()
    }
