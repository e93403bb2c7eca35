"""What the tests of the interpreter share: noise, and a layer run from its text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from seqdsl.backends.reference import initial_params, interpret
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.sizes import Scalar

Params = dict[str, Tensor]


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Normal numbers as a leaf in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        shape, generator=generator, dtype=torch.float64, requires_grad=True
    )


def made(text: str, options: Mapping[str, Scalar], seed: int = 0) -> Params:
    """Initial values of the last layer in `text`, as leaves."""
    params = initial_params(elaborate_text(text), options, seed)
    return {name: p.requires_grad_() for name, p in params.items()}


def run_all(
    text: str,
    options: Mapping[str, Scalar] | None = None,
    params: Mapping[str, Tensor] | None = None,
    segments: Tensor | None = None,
    externs: Mapping[str, Callable[..., Tensor]] | None = None,
    training: bool = False,
    **inputs: Tensor,
) -> dict[str, Tensor]:
    """All outputs of the last layer in `text`."""
    return interpret(
        elaborate_text(text),
        options=options or {},
        params=params or {},
        inputs=inputs,
        segments=segments,
        externs=externs,
        training=training,
    )


def run(
    text: str,
    options: Mapping[str, Scalar] | None = None,
    params: Mapping[str, Tensor] | None = None,
    externs: Mapping[str, Callable[..., Tensor]] | None = None,
    **inputs: Tensor,
) -> Tensor:
    """The first output of the last layer in `text`."""
    results = run_all(text, options, params, None, externs, False, **inputs)
    return next(iter(results.values()))


def listed(x: Tensor) -> object:
    """The entries of `x` as nested lists."""
    return cast(object, x.tolist())  # pyright: ignore[reportUnknownMemberType]


def layer(inputs: str, *lines: str, options: str = "") -> str:
    """The text of a layer with `inputs`, separated by semicolons, and further lines."""
    declared = [f"    input {i.strip()}" for i in inputs.split(";")]
    return "\n".join(
        [f"layer L({options}):", *declared, *(f"    {x}" for x in lines), ""]
    )


def check(ours: Tensor, theirs: Tensor, *leaves: Tensor) -> None:
    """Equal values, and equal gradients of one random projection of them."""
    torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)
    weight = noise(*ours.shape, seed=9).detach()
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), leaves),
        torch.autograd.grad((theirs * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
