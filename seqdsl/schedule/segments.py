"""Regions for rows that hold several segments."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.walk import children, with_children
from seqdsl.schedule.region import Region

_KEPT = frozenset((BATCH, TIME))


def segmented(region: Region) -> Region:
    """The region for rows of several segments: states begin again where `starts` says."""
    model = region.model
    starts = ir.Input(name="starts", type=Type("bool", (), _KEPT))
    again = {
        s.name: ir.Input(name=f"{s.name}_again", type=replace(s.type, axes=_KEPT))
        for s in model.states
    }
    flag = build.ref("starts", starts.type)

    def fresh(node: ir.Node) -> ir.Node:
        if (
            isinstance(node, ir.Shift)
            and isinstance(node.arg, ir.Ref)
            and node.arg.name in again
        ):
            name = node.arg.name
            return build.map_(
                "where", flag, build.ref(f"{name}_again", again[name].type), node
            )
        old = children(node)
        new = tuple(map(fresh, old))
        return node if new == old else with_children(node, new)

    equations = tuple(replace(e, expr=fresh(e.expr)) for e in model.equations)
    inputs = (*model.inputs, starts, *again.values())
    return replace(
        region,
        name=f"{region.name}_segmented",
        model=replace(model, inputs=inputs, equations=equations),
    )
