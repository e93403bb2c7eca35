"""Calls of modules that learn faster by chunks than in kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seqdsl.backends.torch.lower import make_layer
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.training import Training


class ByChunks:
    """Which calls of the class of `model` go to torch, as far as gradients are wanted."""

    def __init__(self, model: ir.Model, training: Training) -> None:
        self.model, self.training = model, training
        self.attributes = make_layer(model).attributes
        lead = {BATCH, TIME}
        streams = (n for n, i in enumerate(model.inputs) if lead <= i.type.axes)
        self.stream = next(streams, None)
        self.known: WeakKeyDictionary[nn.Module, dict[tuple[int, int], bool]] = (
            WeakKeyDictionary()
        )

    def __call__(self, module: nn.Module, args: Sequence[Any]) -> bool:
        """Whether this call is one of them."""
        if not torch.is_grad_enabled() or self.stream is None:
            return False
        if len(args) <= self.stream or not isinstance(args[self.stream], Tensor):
            return False
        stream: Tensor = args[self.stream]
        if stream.dim() < 2:
            return False
        known = self.known.setdefault(module, {})
        key = stream.shape[0], stream.shape[1]
        if key not in known:
            known[key] = self.training.by_chunks(self._sizes(module), *key)
        return known[key] and (
            any(isinstance(a, Tensor) and a.requires_grad for a in args)
            or any(p.requires_grad for p in module.parameters())
        )

    def _sizes(self, module: nn.Module) -> dict[str, float]:
        options = self.model.options
        given = {o.name: getattr(module, self.attributes[o.name]) for o in options}
        bound = bind_sizes(self.model, given)
        numbers = {n: v for n, v in bound.options.items() if not isinstance(v, str)}
        return {**numbers, **bound.dims}
