"""A model and its steps with a recurrence in chunkwise form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from seqdsl.analysis.verdict import Verdict
from seqdsl.differentiate.broadcast import shaped, spread
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, with_children
from seqdsl.schedule.dependence import Edge, edges_to
from seqdsl.schedule.forms import (
    Newton,
    Pieces,
    Products,
    Read,
    dims_of,
    nodes_of,
    with_nodes,
)
from seqdsl.schedule.graph import components
from seqdsl.schedule.plan import (
    Assign,
    Call,
    DepthLoop,
    Parallel,
    Step,
    TimeLoop,
    defined,
)
from seqdsl.schedule.products import AnyChunked


def with_reads(model: ir.Model, verdict: Verdict, chunked: AnyChunked) -> ir.Model:
    """`model` whose reads of the states are equations, and all others over them."""
    table, forms = chunked.replaced, chunked.products()
    kept = [e for e in model.equations if e.name not in chunked.dropped]
    own = {s for form in forms for s in form.states}
    scope = model.equation[forms[0].states[0]].scope
    equations = [
        e if e.name in own else replace(e, expr=substituted(e.expr, table))
        for e in kept
    ]
    for form, read in ((f, r) for f in forms for r in f.reads):
        expr = read_node(model, verdict, form, read)
        equations.append(
            ir.Equation(name=read.name, expr=expr, scope=scope, written=False)
        )
    outputs = (replace(o, expr=substituted(o.expr, table)) for o in model.outputs)
    states = (replace(s, initial=substituted(s.initial, table)) for s in model.states)
    return replace(
        model,
        equations=tuple(equations),
        outputs=tuple(outputs),
        states=tuple(states),
        calls=tuple(_call(c, table) for c in model.calls),
        repeats=tuple(_repeat(r, table) for r in model.repeats),
        dims={**model.dims, **dims_of(chunked.form)},
    )


def read_node(model: ir.Model, verdict: Verdict, form: Products, read: Read) -> ir.Node:
    """What a read is, of a state that is there whole."""
    type_ = model.equation[read.source].expr.type
    whole = build.ref(read.source, type_)
    back = -1 if verdict.recurrence.direction == "forward" else 1
    state = build.shift(whole, TIME, back) if read.lag else whole
    kept = [d for d in type_.dims if d not in form.rows]
    query = spread(read.query, (*form.rows, *read.extra))
    return shaped(build.contract([query, state], form.rows), (*read.extra, *kept))


def rewritten(
    steps: tuple[Step, ...], table: Mapping[ir.Node, ir.Node], dropped: frozenset[str]
) -> tuple[Step, ...]:
    """Steps over reads, without those that only passed the states on."""
    return tuple(
        _step(s, table, dropped)
        for s in steps
        if not (isinstance(s, Assign) and s.equation.name in dropped)
    )


def in_order(
    model: ir.Model, steps: tuple[Step, ...], depth: tuple[str, ...] = ()
) -> tuple[Step, ...]:
    """Steps so that each stands behind what it needs: queries before the states."""
    steps = tuple(
        replace(s, body=in_order(model, s.body, (*depth, s.repeat.axis)))
        if isinstance(s, DepthLoop)
        else s
        for s in steps
    )
    makes = {n: i for i, s in enumerate(steps) for n in _made(s)}
    after: dict[int, list[int]] = {i: [] for i in range(len(steps))}
    for i, step in enumerate(steps):
        for edge in _needs(model, step):
            source = makes.get(edge.source, i)
            if source != i and not any(edge.along(axis) for axis in depth):
                after[source].append(i)
    return tuple(steps[i] for c in components(list(after), after) for i in c)


def _made(step: Step) -> Iterator[str]:
    if isinstance(step, Parallel) and isinstance(step.form, Products):
        for form in (step.form, *step.form.beside):
            yield from form.states
    if isinstance(step, Parallel) and isinstance(step.form, Pieces):
        yield from step.form.states
    yield from defined((step,))


def _needs(model: ir.Model, step: Step) -> Iterator[Edge]:
    """What a step reads."""
    match step:
        case Assign(equation=equation):
            yield from edges_to(model, equation.name, equation.expr)
        case Call(call=call):
            for _, arg in call.args:
                yield from edges_to(model, call.name, arg)
        case Parallel(form=form, loop=loop):
            own = form.between if isinstance(form, Pieces) else ()
            for node in nodes_of(form):
                found = edges_to(model, "", node)
                yield from (e for e in found if e.source not in {o.name for o in own})
            if isinstance(form, Newton | Pieces):
                yield from _needs(model, loop)
            for name in _made(step):
                if name in model.state:
                    yield from edges_to(model, name, model.state[name].initial)
        case TimeLoop(body=body) | DepthLoop(body=body):
            for inner in body:
                yield from _needs(model, inner)
            if isinstance(step, DepthLoop):
                yield from _counted(model, step.repeat)


def _counted(model: ir.Model, repeat: ir.Repeat) -> Iterator[Edge]:
    if repeat.condition is not None:
        yield from edges_to(model, "", repeat.condition)
    if isinstance(repeat.count, ir.Base):
        yield from edges_to(model, "", repeat.count)


def _step(
    step: Step, table: Mapping[ir.Node, ir.Node], dropped: frozenset[str]
) -> Step:
    match step:
        case Assign(equation=equation):
            expr = substituted(equation.expr, table)
            return Assign(equation=replace(equation, expr=expr))
        case Call(call=call):
            return Call(call=_call(call, table))
        case TimeLoop(body=body):
            return replace(step, body=rewritten(body, table, dropped))
        case DepthLoop(body=body, repeat=repeat):
            body = rewritten(body, table, dropped)
            return replace(step, body=body, repeat=_repeat(repeat, table))
        case Parallel(form=form, loop=loop):
            changed = with_nodes(form, lambda node: substituted(node, table))
            if isinstance(form, Newton | Pieces):  # they take steps of the loop
                loop = replace(loop, body=rewritten(loop.body, table, dropped))
            return replace(step, form=changed, loop=loop)


def _call(call: ir.CallSite, table: Mapping[ir.Node, ir.Node]) -> ir.CallSite:
    args = tuple((name, substituted(arg, table)) for name, arg in call.args)
    return replace(call, args=args)


def _repeat(repeat: ir.Repeat, table: Mapping[ir.Node, ir.Node]) -> ir.Repeat:
    condition, count = repeat.condition, repeat.count
    if condition is not None:
        condition = substituted(condition, table)
    if isinstance(count, ir.Base):
        count = substituted(count, table)
    return replace(repeat, condition=condition, count=count)


def substituted(node: ir.Node, table: Mapping[ir.Node, ir.Node]) -> ir.Node:
    """`node` with what `table` names replaced, larger expressions first."""
    if node in table:
        return table[node]
    old = children(node)
    new = tuple(substituted(c, table) for c in old)
    same = all(a is b for a, b in zip(old, new, strict=True))
    return node if same else with_children(node, new)
