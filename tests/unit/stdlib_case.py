"""What the tests of the standard library share: noise, and a layer run by its name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seqdsl.backends.reference import interpret
from seqdsl.elaborate import elaborate, load_std
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar

BATCH, TIME = 2, 7


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def moved(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Initial values a little off, so that zeros and ones hide no mistake."""
    return {
        name: value + 0.1 * noise(*value.shape, seed=i)
        for i, (name, value) in enumerate(sorted(params.items()))
    }


def model_of(file: str, layer: str, options: Mapping[str, Scalar]) -> ir.Model:
    return elaborate(load_std(file), layer, options).model


def run(
    file: str,
    layer: str,
    options: Mapping[str, Scalar],
    params: Mapping[str, Tensor],
    x: Tensor,
    **more: Tensor,
) -> Tensor:
    model = model_of(file, layer, options)
    inputs = {model.inputs[0].name: x, **more}
    outputs = interpret(model, options=options, params=params, inputs=inputs)
    return next(iter(outputs.values()))
