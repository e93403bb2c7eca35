"""States: their types before, their initial values after the equations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from seqdsl.elaborate import (
    calls,
    dims,
    expressions,
    repeats,
)
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.indexing import is_copy_name
from seqdsl.elaborate.order import names_in, parametric_calls
from seqdsl.elaborate.program import Binding, File
from seqdsl.elaborate.scope import Scope, Site, Value
from seqdsl.elaborate.varying import Axes, Reads, axes_of_outputs
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, DTYPES, TIME
from seqdsl.syntax import ast


def state_types(ctx: Context, scope: Scope, body: Sequence[ast.Stmt]) -> None:
    pairs = list(repeats.statements(ctx, scope, body))
    states = [(s, p) for p, s in pairs if isinstance(s, ast.StateStmt)]
    if not states:
        return
    reads = _reads(ctx, pairs)
    for statement, place in states:
        value = place.names.get(statement.name)
        if not isinstance(value, Value) or value.kind != "state":
            continue
        with ctx.recover():
            type_ = dims.type_of(ctx, place, statement.type)
            axes = reads.axes.get(statement.name, Axes()) | set(place.axes)
            value.type = replace(type_, axes=axes)


def _reads(ctx: Context, pairs: Sequence[tuple[Scope, ast.Stmt]]) -> Reads:
    found: dict[str, tuple[ast.Expr, ...]] = {}
    axes: dict[str, Axes] = {}
    for place, statement in pairs:
        match statement:
            case ast.Equation(targets=targets, value=value):
                for target in targets:
                    found[target.id] = (*found.get(target.id, ()), value)
                    axes[target.id] = axes.get(target.id, Axes()) | set(place.axes)
            case ast.StateStmt(name=name, initial=initial) if initial is not None:
                found[name] = (*found.get(name, ()), initial)
            case ast.ParamStmt(name=name):
                axes[name] = frozenset(place.axes)
            case _:
                pass
    for name, value in ctx.inputs.items():
        axes[name] = value.type.axes

    read = {n for exprs in found.values() for n in names_in(exprs)}
    places = {id(p): p for p, _ in pairs}.values()
    copies = Axes(n for n in read if any(is_copy_name(p, n) for p in places))
    own, operator = partial(_own_axes, ctx.file), partial(_operator, ctx.file)
    reads = Reads(found, axes, frozenset(ctx.repeats), own, copies, operator)
    reads.settle()
    return reads


def _operator(file: File, name: str) -> bool:
    return name in calls.BUILTINS and file.lookup(name) is None


def _own_axes(file: File, name: str, calling: frozenset[str] = frozenset()) -> Axes:
    """What `name`, called in `file`, varies along whatever it is given."""
    bound = file.lookup(name)
    if bound is None:
        return Axes() if name in calls.BUILTINS else Axes({BATCH, TIME})
    if not isinstance(bound, Binding):
        return Axes({BATCH, TIME})
    if not isinstance(bound.decl, ast.LayerDecl):
        return Axes()
    if bound.decl.name in calling:
        return Axes({BATCH, TIME})
    own = partial(_own_axes, bound.file, calling=calling | {bound.decl.name})
    return axes_of_outputs(bound.decl, own)


def finish_states(ctx: Context, scope: Scope, body: Sequence[ast.Stmt]) -> None:
    """Initial values and conditions, once every equation is known."""
    found = list(repeats.statements(ctx, scope, body))
    for _, statement in found:
        if isinstance(statement, ast.RepeatStmt) and id(statement) in ctx.bodies:
            with ctx.recover():
                _condition(ctx, ctx.bodies[id(statement)], statement)
    states = [(p, s) for p, s in found if isinstance(s, ast.StateStmt)]
    for place, statement in _readers_first(states):
        with ctx.recover():
            _finish_state(ctx, place, statement)
    written = [p.names.get(s.name) for p, s in states]
    names = [v.name for v in written if isinstance(v, Value)]
    made = {n: s for n, s in ctx.states.items() if n not in names}
    ctx.states = made | {n: ctx.states[n] for n in names if n in ctx.states}


def _readers_first(
    states: Sequence[tuple[Scope, ast.StateStmt]],
) -> Iterator[tuple[Scope, ast.StateStmt]]:
    """States in an order in which those that start from others come before them.

    What reads `y[n-1]` says that `y` is carried along `n`.
    """
    done: set[int] = set()
    readers: dict[str, list[tuple[Scope, ast.StateStmt]]] = {}
    for place, state in states:
        for name in set(() if state.initial is None else names_in(state.initial)):
            readers.setdefault(name, []).append((place, state))

    def visit(
        place: Scope, state: ast.StateStmt
    ) -> Iterator[tuple[Scope, ast.StateStmt]]:
        if id(state) in done:
            return
        done.add(id(state))
        for other_place, other in readers.get(state.name, ()):
            yield from visit(other_place, other)
        yield place, state

    for place, state in states:
        yield from visit(place, state)


def _condition(ctx: Context, scope: Scope, repeat: ast.RepeatStmt) -> None:
    axis, expr = repeat.axis, repeat.condition
    if expr is None:
        return
    site = Site(f"{axis}_while", 0, expr.span)
    node = expressions.value(ctx, scope, site, expr)
    if node.type.dtype != "bool" or node.type.dims:
        raise ctx.fail(
            "E0210",
            f"the condition of a repeat is one bool, not {node.type}",
            expr.span,
            "compare something, such as `q[n-1] < 0.99`, and reduce its dims",
        )
    ctx.repeats[axis] = replace(ctx.repeats[axis], condition=node)


def _finish_state(ctx: Context, scope: Scope, statement: ast.StateStmt) -> None:
    value = scope.names.get(statement.name)
    if not isinstance(value, Value) or value.kind != "state" or value.type is None:
        return
    name = statement.name
    if value.statement is None and value.disputed:
        return
    if value.statement is None:
        raise ctx.fail(
            "E0110",
            f"the state `{name}` has no equation",
            value.span,
            f"add one, such as `{name} = 0.9 * {name}[t-1] + x`",
        )
    if statement.initial is None:
        raise ctx.fail(
            "E0111",
            f"the state `{name}` has no initial value",
            value.span,
            f"write for instance `state {name}: … = 0`, or `= param` to learn it",
        )
    offsets = ctx.shifts.get(value.name, {})
    for axis, steps in offsets.items():
        if min(steps) < 0 < max(steps):
            raise ctx.fail(
                "E0429",
                f"`{name}` is read both earlier and later along `{axis}`",
                value.span,
                "use one state for each direction",
            )
    initial = _initial(ctx, scope, value, statement, frozenset(offsets))
    ctx.states[value.name] = ir.State(
        name=value.name,
        type=value.type,
        initial=initial,
        carried=frozenset(offsets),
        span=statement.span,
    )


def _initial(
    ctx: Context, scope: Scope, value: Value, statement: ast.StateStmt, carried: Axes
) -> ir.Node:
    assert statement.initial is not None and value.type is not None
    free = value.type.axes - carried
    kind = replace(value.type, axes=free)
    site = Site(
        value.name,
        parametric_calls(scope, statement.initial),
        statement.span,
        initial=kind,
    )
    node = expressions.value(ctx, scope, site, statement.initial)
    if set(node.type.dims) - set(value.type.dims):
        raise ctx.fail(
            "E0209",
            f"the initial value is {node.type}, the state {value.type}",
            statement.initial.span,
        )
    if DTYPES.index(node.type.dtype) > DTYPES.index(value.type.dtype):
        raise ctx.fail(
            "E0209",
            f"the initial value is {node.type.dtype}, the state {value.type.dtype}",
            statement.initial.span,
        )
    moving = node.type.axes & carried
    if moving:
        axis = min(moving)
        raise ctx.fail(
            "E0430",
            f"the initial value of `{value.name}` changes along `{axis}`, "
            "along which the state starts",
            statement.initial.span,
            "use something that is the same at every step",
        )
    return node
