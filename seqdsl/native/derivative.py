"""The derivative of a region: its adjoint as modules whose loops are kernels again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.torch import compile_model
from seqdsl.backends.torch.load import load
from seqdsl.diagnostics import SpecError, UnsupportedError
from seqdsl.differentiate.adjoint import Adjoint, adjoint
from seqdsl.differentiate.reverse import smooth
from seqdsl.differentiate.states import open_states
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.native.artifact import NativeArtifact, native_artifact
from seqdsl.rewrite.accumulate import accumulate
from seqdsl.rewrite.spread import inline_spread
from seqdsl.schedule.choose import Wish
from seqdsl.schedule.region import Region


class Derivative:
    """Two modules: the forward pass, which keeps what the other reads, and backward.

    `wanted` are the inputs of the region whose gradients are computed, by default all
    that have one.
    """

    def __init__(self, region: Region, wanted: frozenset[str] | None = None) -> None:
        self.region = region
        self.closed = _closed(region.model)
        self.opened = open_states(self.closed)
        self.wanted = wanted

    @cached_property
    def adjoint(self) -> Adjoint | None:
        """The adjoint; None for a region that has none."""
        wrt = None
        if self.wanted is not None:
            inputs = self.region.model.inputs
            pairs = zip(self._names(), inputs, strict=True)
            wrt = [n for n, i in pairs if i.name in self.wanted and smooth(i.type)]
        try:
            return adjoint(self.closed, wrt)
        except (UnsupportedError, SpecError):
            return None

    @property
    def known(self) -> bool:
        """Whether kernels compute the gradients."""
        return self.adjoint is not None

    @cached_property
    def forward(self) -> Any:
        """The module of the forward pass."""
        assert self.adjoint is not None
        model = inline_spread(self.adjoint.forward)
        return _module(native_artifact(model, whole=True, rest=Wish()))

    @cached_property
    def backward(self) -> Any:
        """The module of the backward pass."""
        assert self.adjoint is not None
        again = frozenset(self.adjoint.kept.borders)
        plain = inline_spread(self.adjoint.backward)
        summed = accumulate(plain, again)
        made = native_artifact(summed, whole=True, again=again)
        if made.refused:  # no kernel keeps one of the sums
            made = native_artifact(plain, whole=True, again=again, rest=Wish())
        return _module(made)

    @cached_property
    def plain(self) -> Any:
        """The forward pass in torch."""
        return load(compile_model(self.opened.model, strategy="loop"))()

    # ---- Names: the region's own are those of `NAME_0` for states before the first step

    def _names(self) -> list[str]:
        """Inputs as the adjoint calls them."""
        first = {f"{s}_0": n for s, n in self.opened.first.items()}
        return [first.get(i.name, i.name) for i in self.region.model.inputs]

    def _given(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self._names(), inputs, strict=True))

    def _produced(self) -> list[str]:
        """What the region gives back, by the names of its outputs here."""
        outputs = [o.name for o in self.region.model.outputs]
        return [*outputs, *(self.opened.last[s] for s in self.region.states)]

    # ---- Calls

    def run_plain(
        self, inputs: Sequence[Tensor], batch: int, time: int
    ) -> tuple[Tensor, ...]:
        """What the region computes, in torch."""
        given = self._given(inputs)
        results = _called(self.plain, self.opened.model, given, batch, time)
        return tuple(results[n] for n in self._produced())

    def run_forward(
        self, inputs: Sequence[Tensor], batch: int, time: int
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """What the region computes, and what is kept, by name."""
        assert self.adjoint is not None
        given, model = self._given(inputs), self.adjoint.forward
        results = _called(self.forward, model, given, batch, time)
        kept = {n: results[o] for n, o in self.adjoint.saved.items()}
        return tuple(results[n] for n in self._produced()), kept

    def run_backward(
        self,
        inputs: Sequence[Tensor],
        kept: Mapping[str, Tensor],
        grads: Sequence[Tensor | None],
        batch: int,
        time: int,
    ) -> list[Tensor | None]:
        """Gradients of the inputs, None where they are 0."""
        found = self.adjoint
        assert found is not None
        if not found.gradients:
            return [None] * len(inputs)
        given = {**self._given(inputs), **kept}
        for name, grad in zip(self._produced(), grads, strict=True):
            if name in found.upstream and grad is not None:
                given[found.upstream[name]] = grad
        made = _called(self.backward, found.backward, given, batch, time)
        gradients: list[Tensor | None] = []
        for name, tensor in self._given(inputs).items():
            output = found.gradients.get(name)
            grad = None if output is None else made[output]
            gradients.append(None if grad is None else grad.expand(tensor.shape))
        return gradients

    def learned(self) -> list[bool]:
        """Which inputs have a gradient that is not 0."""
        assert self.adjoint is not None
        return [n in self.adjoint.gradients for n in self._names()]

    def differentiable(
        self,
        inputs: Sequence[Tensor],
        grads: Sequence[Tensor | None],
        batch: int,
        time: int,
    ) -> list[Tensor | None]:
        """Gradients of the inputs that can be differentiated again: in torch."""
        with torch.enable_grad():
            # views of their own: one input may be computed from another outside
            inputs = [t.view_as(t) for t in inputs]
            outputs = self.run_plain(inputs, batch, time)
        pairs = [
            (o, g)
            for o, g in zip(outputs, grads, strict=True)
            if g is not None and o.requires_grad
        ]
        wanted = [t for t in inputs if t.requires_grad]
        found: Sequence[Tensor | None] = [None] * len(wanted)
        if pairs:
            outs, ups = [o for o, _ in pairs], [g for _, g in pairs]
            found = torch.autograd.grad(
                outs, wanted, ups, create_graph=True, allow_unused=True
            )
        rest = iter(found)
        return [next(rest) if t.requires_grad else None for t in inputs]


def _closed(model: ir.Model) -> ir.Model:
    """The region without the inputs that its states start from: others open it again."""
    first = {f"{s.name}_0" for s in model.states}
    zero: dict[str, float | bool] = {"float": 0.0, "int": 0, "bool": False}
    return replace(
        model,
        inputs=tuple(i for i in model.inputs if i.name not in first),
        states=tuple(
            replace(s, initial=build.const(zero[s.type.dtype])) for s in model.states
        ),
    )


def _module(made: NativeArtifact) -> Any:
    from seqdsl.native.load import load_kernels

    return load_kernels(made)()


def _called(
    module: Any, model: ir.Model, given: Mapping[str, Tensor], batch: int, time: int
) -> dict[str, Tensor]:
    """All outputs of a module by name."""
    args = [given[i.name] for i in model.inputs]
    axes = {a for i in model.inputs for a in i.type.axes}
    extents = {} if "batch" in axes else {"batch": batch}
    extents |= {} if "t" in axes else {"time": time}
    results = module(*args, **extents)
    if len(model.outputs) == 1:
        results = (results,)
    return dict(zip((o.name for o in model.outputs), results, strict=True))
