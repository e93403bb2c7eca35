"""Which expressions share values along a copy of time.

A letter such as `s` may belong to several sums that have nothing to do with each other.
How far a value that varies along it is seen is told by the sums over that value and over
what is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from seqdsl.analysis.visibility import Reach, reach_in
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import subtree


def reach_of_readers(model: ir.Model) -> Mapping[str, Mapping[str, Reach]]:
    """For each equation and call by name: copies that only look back in it, and how far."""
    exprs = _expressions(model)
    found: dict[str, dict[str, Reach]] = {name: {} for name in exprs}
    for copy in model.copies:
        for group in _groups(model, exprs, copy):
            inside = [expr for name in group for expr in exprs[name]]
            reach = reach_in(model, inside, copy)
            if reach is not None:
                for name in group:
                    found[name][copy] = reach
    return found


def _expressions(model: ir.Model) -> Mapping[str, list[ir.Node]]:
    """What is computed under each name; outputs and conditions have names of their own."""
    found = {e.name: [e.expr] for e in model.equations}
    for state in model.states:
        found.setdefault(state.name, []).append(state.initial)
    for call in model.calls:
        found[call.name] = [arg for _, arg in call.args]
    for output in model.outputs:
        found[f"output {output.name}"] = [output.expr]
    for repeat in model.repeats:
        counted = [repeat.count] if isinstance(repeat.count, ir.Base) else []
        halting = [] if repeat.condition is None else [repeat.condition]
        found[f"repeat {repeat.axis}"] = [*counted, *halting]
    return found


def _groups(
    model: ir.Model, exprs: Mapping[str, list[ir.Node]], copy: str
) -> Iterator[set[str]]:
    """Names that are connected by reads of values which vary along `copy`."""
    group = {name: {name} for name in exprs}
    for reader, nodes in exprs.items():
        for name in _varying(nodes, copy):
            if name in model.equation and group[name] is not group[reader]:
                both = group[name] | group[reader]
                group |= dict.fromkeys(both, both)
    return iter({id(names): names for names in group.values()}.values())


def _varying(nodes: list[ir.Node], copy: str) -> Iterator[str]:
    for root in nodes:
        for node in subtree(root):
            if isinstance(node, ir.Ref) and copy in node.type.axes:
                yield node.name
