"""Calls of sub-layers that only their equations can stand for."""

from __future__ import annotations

from seqdsl.backends.torch.by_segment import by_segment, cut
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import roots, subtree


def calls_to_inline(model: ir.Model) -> frozenset[str]:
    """Calls whose random numbers depend on where the call stands, or whose arguments
    per batch are one for each segment, where a sub-layer takes one for each row.
    """
    found = by_segment(model)
    return frozenset(
        call.name
        for call in model.calls
        if _samples(model.instance[call.instance].model) or cut(model, call, found)
    )


def _samples(model: ir.Model) -> bool:
    if any(isinstance(n, ir.Sample) for root in roots(model) for n in subtree(root)):
        return True
    return any(_samples(i.model) for i in model.instances)
