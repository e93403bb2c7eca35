"""The dims of a region: all, those that programs may share out, those held at a time.

Also how many operations have which.
"""

from __future__ import annotations

from collections.abc import Iterator

from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import subtree
from seqdsl.schedule.region import Region


def dims_of(region: Region) -> tuple[str, ...]:
    """All dims that a value of a region has, in order."""
    found: dict[str, None] = {}
    for value in (*region.model.inputs, *region.model.states):
        found.update(dict.fromkeys(value.type.dims))
    for node in _nodes(region):
        found.update(dict.fromkeys(node.type.dims))
    return tuple(found)


def parallel_of(region: Region) -> tuple[str, ...]:
    """Dims along which nothing is summed or moved: programs may share them out."""
    met: set[str] = set()
    for node in _nodes(region):
        match node:
            case ir.Contract(over=over) | ir.Reduce(over=over) | ir.Along(over=over):
                met |= set(over)
            case ir.Rename(pairs=pairs):
                met |= {d for pair in pairs for d in pair}
            case _:
                pass
    return tuple(d for d in dims_of(region) if d not in met)


def widest_of(region: Region) -> tuple[tuple[str, ...], ...]:
    """Dims of everything that is in registers at some time."""
    found: dict[tuple[str, ...], None] = {}
    for value in (*region.model.inputs, *region.model.states):
        found[value.type.dims] = None
    for node in _nodes(region):
        found[node.type.dims] = None
        if isinstance(node, ir.Contract):
            found[tuple(dict.fromkeys(d for a in node.args for d in a.type.dims))] = (
                None
            )
    return tuple(d for d in found if d)


def work_of(region: Region) -> dict[tuple[str, ...], int]:
    """How many operations of a step have which dims."""
    found: dict[tuple[str, ...], int] = {}
    for node in _nodes(region):
        match node:
            case ir.Map(type=type_):
                dims, count = type_.dims, 1
            case ir.Contract(args=args, over=over):
                dims = tuple(dict.fromkeys(d for a in args for d in a.type.dims))
                count = len(args) - (not over)
            case ir.Reduce(arg=arg, op=op):
                dims, count = arg.type.dims, 3 if op == "logsumexp" else 1
            case ir.Along(type=type_):
                dims, count = type_.dims, 5
            case _:
                continue
        found[dims] = found.get(dims, 0) + count
    return found


def _nodes(region: Region) -> Iterator[ir.Node]:
    for name in region.steps:
        yield from subtree(region.model.equation[name].expr)
