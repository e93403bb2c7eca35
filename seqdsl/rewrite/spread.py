"""Values with more dims than all they are made of, such as `a[i] + B[i, j]` at every step.

To store them takes far more memory than to compute them again where they are read, and
a sum of them over all steps is better kept while the steps run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from seqdsl.differentiate.keep import spreads
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import (
    children,
    map_roots,
    references,
    roots,
    subtree,
    transform,
    with_children,
)


def inline_spread(model: ir.Model) -> ir.Model:
    """`model` in which such values have no names: what reads them computes them."""
    return _all_inlined(_sums_named(_all_inlined(model)))


def _all_inlined(model: ir.Model) -> ir.Model:
    while (found := _next(model)) is not None:
        model = _inlined(model, found)
    return model


def _sums_named(model: ir.Model) -> ir.Model:
    """`model` with names for sums in the equations of such values, which keep them apart."""
    taken, fixed = names_of(model), _fixed(model)
    equations: list[ir.Equation] = []
    for equation in model.equations:
        sums = [n for n in _leaves(equation.expr) if not isinstance(n, ir.Ref)]
        small = all(
            set(n.type.dims) < set(equation.expr.type.dims)
            for n in _leaves(equation.expr)
            if n.type.axes & {BATCH, TIME}
        )
        if equation.name in fixed or not sums or not small:
            equations.append(equation)
            continue
        named = {n: fresh(f"{equation.name}_part", taken) for n in dict.fromkeys(sums)}
        new: dict[ir.Node, ir.Node] = {
            n: build.ref(name, n.type) for n, name in named.items()
        }
        equations += [
            ir.Equation(name=name, expr=n, span=n.span) for n, name in named.items()
        ]
        expr = _replaced(equation.expr, new)
        equations.append(replace(equation, expr=expr))
    return replace(model, equations=tuple(equations))


def _leaves(node: ir.Node) -> Iterator[ir.Node]:
    """What a value is pointwise made of: names, and sums over dims."""
    if isinstance(node, ir.Ref | ir.Contract | ir.Reduce | ir.Along):
        yield node
        return
    for child in children(node):
        yield from _leaves(child)


def _replaced(node: ir.Node, new: Mapping[ir.Node, ir.Node]) -> ir.Node:
    if node in new:
        return new[node]
    old = children(node)
    made = tuple(_replaced(c, new) for c in old)
    return node if made == old else with_children(node, made)


def _next(model: ir.Model) -> ir.Equation | None:
    fixed = _fixed(model)
    return next(
        (e for e in model.equations if e.name not in fixed and spreads(model, e.name)),
        None,
    )


def _fixed(model: ir.Model) -> set[str]:
    """What must keep its name: outputs, states, what is read at another index."""
    found = {*model.state, *(e.name for e in model.equations if e.scope)}
    for root in roots(model):
        for node in subtree(root):
            if isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy):
                found |= {r.name for r in references(node.arg) if isinstance(r, ir.Ref)}
    return found | {
        r.name
        for o in model.outputs
        for r in references(o.expr)
        if isinstance(r, ir.Ref)
    }


def _inlined(model: ir.Model, equation: ir.Equation) -> ir.Model:
    def rule(node: ir.Node) -> ir.Node:
        own = isinstance(node, ir.Ref) and node.name == equation.name
        return equation.expr if own else node

    kept = tuple(e for e in model.equations if e is not equation)
    return map_roots(replace(model, equations=kept), lambda r: transform(r, rule))


def accumulate(model: ir.Model) -> ir.Model:
    """`model` in which sums of such values over all steps are states.

    They run the way of the states that they are made of.
    """
    taken = names_of(model)
    equations: list[ir.Equation] = []
    states = list(model.states)
    for equation in model.equations:
        arg = _summed(equation.expr)
        offset = None if arg is None else _direction(model, arg)
        if arg is None or offset is None:
            equations.append(equation)
            continue
        name = fresh(f"{equation.name}_sum", taken)
        type_ = replace(arg.type, axes=frozenset((BATCH, TIME)))
        total = build.ref(name, type_)
        update = build.map_("add", build.shift(total, TIME, offset), arg)
        end = None if offset < 0 else build.const(0)
        whole = build.reduce("sum", build.at(total, TIME, end), (BATCH,))
        carried = frozenset([TIME])
        first = build.const(0.0)
        states.append(ir.State(name=name, type=type_, initial=first, carried=carried))
        equations.append(ir.Equation(name=name, expr=update, span=equation.span))
        equations.append(replace(equation, expr=whole))
    return replace(model, equations=tuple(equations), states=tuple(states))


def _summed(expr: ir.Node) -> ir.Node | None:
    """What a sum over all steps adds up; None for others, and for products of matrices."""
    if expr.type.dtype != "float":
        return None
    match expr:
        case ir.Reduce(op="sum", arg=arg, over=over, where=None):
            return arg if set(over) == {BATCH, TIME} else None
        case ir.Contract(args=args, over=over):
            whole = any(set(expr.type.dims) <= set(a.type.dims) for a in args)
            return build.map_("mul", *args) if _two(args, over) and whole else None
        case _:
            return None


def _two(args: Sequence[ir.Node], over: Sequence[str]) -> bool:
    return len(args) == 2 and set(over) == {BATCH, TIME}


def _direction(model: ir.Model, arg: ir.Node) -> int | None:
    """The way in which a sum of `arg` runs; None where `arg` is no larger than its parts."""
    reads = [r for r in references(arg) if isinstance(r, ir.Ref)]
    streams = [set(r.type.dims) for r in reads if TIME in r.type.axes]
    if not streams or not all(s < set(arg.type.dims) for s in streams):
        return None
    return _way(model, {r.name for r in reads})


def _way(model: ir.Model, names: set[str]) -> int | None:
    """The offset at which the recurrences that `names` are made of read themselves."""
    states = {n for n in _reached(model, names) if n in model.state}
    moving = {s for s in states if s in _reached(model, _read_by(model, s))}
    nodes = (n for e in model.equations for n in subtree(e.expr))
    offsets = {
        n.offset
        for n in nodes
        if isinstance(n, ir.Shift)
        and n.axis == TIME
        and isinstance(n.arg, ir.Ref)
        and n.arg.name in moving
    }
    return next(iter(offsets)) if len(offsets) == 1 else None


def _read_by(model: ir.Model, name: str) -> set[str]:
    equation = model.equation.get(name)
    read = () if equation is None else references(equation.expr)
    return {r.name for r in read if isinstance(r, ir.Ref)}


def _reached(model: ir.Model, names: set[str]) -> set[str]:
    """`names` and everything that they are computed from."""
    found: set[str] = set()
    left = set(names)
    while left:
        name = left.pop()
        found.add(name)
        left |= _read_by(model, name) - found
    return found
