"""Initial values of parameters, as `Param.init` describes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NoReturn

import torch
from torch import Tensor

from seqdsl.backends.reference.evaluate import evaluate
from seqdsl.backends.reference.frame import Frame, fill
from seqdsl.backends.reference.named import cast
from seqdsl.backends.reference.session import Index, Session
from seqdsl.diagnostics import CallError
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_instance, bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.types import Type
from seqdsl.ir.walk import transform


def initial_params(
    model: ir.Model, options: Mapping[str, Scalar], seed: int
) -> dict[str, Tensor]:
    """A state dict of initial values in double precision, drawn from torch's generator.

    Untied parameters have one entry per step, those of sub-layers the sub-layer's path.
    Raises `SpecError` for options that do not fit, `CallError` for a parameter that is
    untied along a repeat whose count is not known when a layer is made.
    """
    world = _Making(torch.Generator().manual_seed(seed))
    frame = Frame(Session(()), world, model, bind_sizes(model, options), _no_input)
    _make(frame)
    return world.made


def _no_input(name: str, index: Index) -> NoReturn:
    raise CallError(f"an initial value reads the input `{name}`")


@dataclass
class _Making:
    """Where numbers come from while a module is made."""

    generator: torch.Generator
    made: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def evaluate(self, frame: Frame, node: ir.Node, index: Index) -> Tensor:
        return evaluate(frame, node, index)

    def parameter(self, frame: Frame, param: ir.Param, index: Index) -> Tensor:
        key = f"{frame.prefix}{fill(param.key, index)}"
        if key not in self.made:
            self.made[key] = self._initial(frame, param, index).clone()
        return self.made[key]

    def _initial(self, frame: Frame, param: ir.Param, index: Index) -> Tensor:
        init = param.init
        if init.expr is not None:
            return frame.fit(_drawn(init.expr, param.type.dims), index, param.type)
        gain = 1.0 if init.gain is None else float(frame.bound.size(init.gain))
        value = (
            _orthogonal(frame.extents(param.type.dims), init.rows, self.generator)
            * gain
        )
        return cast(value, param.type.dtype)

    def draw(self, frame: Frame, node: ir.Sample, index: Index) -> Tensor:
        extents = frame.extents(node.type.dims)
        draw = torch.rand if node.kind == "uniform" else torch.randn
        return draw(extents, generator=self.generator, dtype=torch.float64)


def _drawn(expr: ir.Node, dims: tuple[str, ...]) -> ir.Node:
    """`expr` with every sample that names no dims drawn for each entry of `dims`."""

    def rule(node: ir.Node) -> ir.Node:
        match node:
            case ir.Sample(type=Type(dims=())):
                return replace(node, type=replace(node.type, dims=dims))
            case ir.Map(op=op, args=args):
                return build.map_(op, *args, span=node.span)
            case _:
                return node

    return transform(expr, rule)


def _orthogonal(
    extents: Sequence[int], rows: int, generator: torch.Generator
) -> Tensor:
    """Orthonormal rows or columns of `[first dims, the rest]` (Saxe et al. 2013)."""
    first, rest = math.prod(extents[:rows]), math.prod(extents[rows:])
    value = torch.empty(first, rest, dtype=torch.float64)
    torch.nn.init.orthogonal_(value, generator=generator)
    return value.reshape(list(extents))


def _make(frame: Frame) -> None:
    for param in frame.model.params:
        for index in _steps(frame, param.type.axes):
            frame.value(param.name, index)
    for instance in frame.model.instances:
        for index in _steps(frame, frozenset(instance.scope)):
            prefix = f"{frame.prefix}{fill(instance.name, index)}."
            bound = bind_instance(instance, frame.bound)
            inner = instance.model
            session, world = frame.session, frame.world
            _make(Frame(session, world, inner, bound, _no_input, prefix))


def _steps(frame: Frame, axes: frozenset[str]) -> Iterator[Index]:
    """Every index along the repeat axes `axes`, in the order of their declaration."""
    order = [r.axis for r in frame.model.repeats if r.axis in axes]
    ends = [frame.ends(axis, {}) for axis in order]
    for at in product(*(range(first, last + 1) for first, last in ends)):
        yield dict(zip(order, at, strict=True))
