"""Updates that are functions on a small finite set: automata.

Bools that are updated entry by entry are one: a step is the table of what it makes of
each of their values. So is an int that is looked up in tables: a step is the table of
what it makes of 0 … n-1. Functions compose associatively, whatever they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from seqdsl.analysis.graph import name_of
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.terms import TooLong
from seqdsl.analysis.tropical import NoForm
from seqdsl.analysis.verdict import Recurrence, Verdict
from seqdsl.differentiate.broadcast import pointwise
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children

BITS = 3
"""More coupled bools than this make a table of too many entries."""


@dataclass(frozen=True)
class Automaton:
    """A step as a table.

    For bools `table` holds, for each of their values in the order of counting (the
    first state is the highest bit), the new value of every state. For an int it is one
    value along the dim `entries`.
    """

    table: tuple[ir.Node, ...]
    entries: str | None


def automaton_verdict(
    normal: Normal, recurrence: Recurrence, exprs: Mapping[str, ir.Node]
) -> Verdict | None:
    """The verdict if a step is a function on a finite set; else None."""
    if recurrence.axis != TIME:
        return None
    try:
        found = automaton_of(normal, exprs)
    except (NoForm, TooLong, build.Issue):
        return None
    return Verdict(
        recurrence,
        "scannable",
        structure="monoid",
        monoid="table",
        invariant=not any(recurrence.axis in n.type.axes for n in found.table),
        strategies=("loop", "scan"),
        leaf=found.table,
        entries=found.entries,
        dims=dict(normal.dims.added),
    )


def automaton_of(normal: Normal, exprs: Mapping[str, ir.Node]) -> Automaton:
    """The table of the updates `exprs` of some states; raises `NoForm`."""
    dtypes = {e.type.dtype for e in exprs.values()}
    if dtypes == {"bool"}:
        return _of_bools(normal, exprs)
    if dtypes != {"int"} or len(exprs) != 1:
        raise NoForm
    (expr,) = exprs.values()
    return _of_tables(normal, expr)


def _of_bools(normal: Normal, exprs: Mapping[str, ir.Node]) -> Automaton:
    if len(exprs) > BITS or len({frozenset(e.type.dims) for e in exprs.values()}) > 1:
        raise NoForm
    own = frozenset(d for e in exprs.values() for d in e.type.dims)
    table = [
        _with(normal, expr, dict(zip(exprs, map(build.const, bits), strict=True)), own)
        for bits in product((False, True), repeat=len(exprs))
        for expr in exprs.values()
    ]
    return Automaton(tuple(table), None)


def _of_tables(normal: Normal, expr: ir.Node) -> Automaton:
    """A look-up needs its index in range, so all that is looked up must stay there."""
    found = list(_lookups(normal, expr))
    extents = {normal.dims.extent(g.dim) for g in found}
    if len(extents) != 1 or not _closed(normal, expr, *extents):
        raise NoForm
    entries = normal.dims.fresh(found[0].dim)
    here = build.position(entries, axis=False)
    names = {name_of(r.arg) for r in _reads(normal, expr)}
    own = frozenset(expr.type.dims)
    table = _with(normal, expr, dict.fromkeys(names, here), own)
    return Automaton((table,), entries)


def _inlined(normal: Normal, node: ir.Node) -> ir.Node:
    while isinstance(node, ir.Ref) and node.name in normal.model.equation:
        node = normal.model.equation[node.name].expr
    return node


def _lookups(normal: Normal, node: ir.Node) -> Iterator[ir.Gather]:
    node = _inlined(normal, node)
    if not normal.active(node) or isinstance(node, ir.Shift):
        return
    if isinstance(node, ir.Gather) and normal.active(node.index):
        yield node
    for child in children(node):
        yield from _lookups(normal, child)


def _reads(normal: Normal, node: ir.Node) -> Iterator[ir.Shift]:
    node = _inlined(normal, node)
    if isinstance(node, ir.Shift) and normal.is_read(node):
        yield node
    elif normal.active(node):
        for child in children(node):
            yield from _reads(normal, child)


def _closed(normal: Normal, node: ir.Node, extent: Size) -> bool:
    """Whether `node` is in 0 … extent-1 if the state and what is in the tables are."""
    node = _inlined(normal, node)
    match node:
        case ir.Shift():
            return normal.is_read(node)
        case ir.Gather(arg=arg, index=index) if normal.active(index):
            return not normal.active(arg) and _closed(normal, index, extent)
        case ir.Gather(arg=arg):
            return _closed(normal, arg, extent)
        case ir.Map(op="where", args=(_, a, b)) | ir.Map(op="min" | "max", args=(a, b)):
            return _closed(normal, a, extent) and _closed(normal, b, extent)
        case ir.Const(value=Lit(int(value))) if isinstance(extent, Lit):
            return isinstance(extent.value, int) and 0 <= value < extent.value
        case _:
            return False


def _with(
    normal: Normal, node: ir.Node, values: Mapping[str, ir.Node], own: frozenset[str]
) -> ir.Node:
    """`node` with `values` for the states at the step before; raises `NoForm`.

    What would mix entries along `own`, the dims of the states, has no such form.
    """
    node = _inlined(normal, node) if normal.active(node) else node
    if not normal.active(node):
        return node
    match node:
        case ir.Shift(offset=1 | -1) if normal.is_read(node):
            return values[name_of(node.arg)]
        case ir.Map(op=op, args=args):
            return pointwise(op, *(_with(normal, a, values, own) for a in args))
        case ir.Gather(arg=arg, dim=dim, index=index) if not normal.active(arg):
            found = _with(normal, index, values, own)
            return build.gather(arg, dim, found, node.span)
        case ir.Gather(arg=arg, dim=dim, index=index) if dim not in own:
            if not normal.active(index):
                found = _with(normal, arg, values, own)
                return build.gather(found, dim, index, node.span)
            raise NoForm
        case _:
            raise NoForm
