"""Equations, elaborated when something needs their type."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.diagnostics import Label
from seqdsl.elaborate import (
    claims,
    dims,
    expressions,
    keys,
    layers,
)
from seqdsl.elaborate.context import Context, Poisoned
from seqdsl.elaborate.order import parametric_calls
from seqdsl.elaborate.scope import CallValue, Scope, Site, Value
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import DTYPES, DType
from seqdsl.source import Span
from seqdsl.syntax import ast


def elaborate_equation(ctx: Context, value: Value, span: Span) -> None:
    """Elaborate the equation of `value` unless that has been done.

    Raises `Poisoned` after reporting what is wrong with it.
    """
    if value.status == "failed":
        raise Poisoned
    if value.status == "done" or value.statement is None:
        return
    if value.status == "running":
        if value.kind == "state":
            return
        raise _cycle(ctx, value, span)
    value.status = "running"
    ctx.stack.append(value)
    try:
        _elaborate(ctx, value, value.statement)
        value.status = "done"
    except Poisoned:
        value.status = "failed"
        raise
    finally:
        ctx.stack.pop()


def _cycle(ctx: Context, value: Value, span: Span) -> Poisoned:
    circle = ctx.stack[ctx.stack.index(value) :]
    names = [v.name for v in (*circle, value)]
    shown = " → ".join(f"`{n}`" for n in names)
    labels = tuple(
        Label(v.statement.span, f"`{v.name}` is defined here")
        for v in circle
        if v.statement
    )
    text = span.source.text[span.end : span.end + 1]
    for other in circle:
        other.status = "failed"
    if text == "[":
        name = value.name
        return ctx.fail(
            "E0109",
            f"`{name}` reads its own past but is not a state",
            span,
            f"declare it: `state {name}: [H] = 0`",
            labels=labels[:1],
        )
    return ctx.fail(
        "E0108",
        f"these depend on each other within one step: {shown}",
        span,
        "read one of them a step earlier, as in `h[t-1]`",
        labels=labels,
    )


def _elaborate(ctx: Context, value: Value, statement: ast.Equation) -> None:
    scope = value.place
    assert scope is not None
    if len(statement.targets) > 1:
        _several(ctx, scope, statement)
        return
    plain = next(iter(statement.targets)).id
    if (
        value.kind == "equation"
        and layers.is_instance(scope, statement.value) is not None
    ):
        assert isinstance(statement.value, ast.Call)
        site = Site(value.name, 1, statement.span)
        made = layers.instance(ctx, scope, site, statement.value, keys.safe(value.name))
        made.used = value.used
        scope.names[plain] = made
        return
    calls = parametric_calls(scope, statement.value)
    site = Site(value.name, calls, statement.span, learned=value.learned)
    result = _result(ctx, scope, site, statement)
    if isinstance(result, dict):
        scope.names[plain] = CallValue(result, statement.span, value.used)
        return
    claims.claim(ctx, statement, [value])
    if statement.type is not None and value.kind != "state":
        _check_annotation(ctx, scope, statement, result)
    _store(ctx, scope, value, result, statement.span)


def _result(
    ctx: Context, scope: Scope, site: Site, statement: ast.Equation
) -> ir.Node | dict[str, ir.Node]:
    """What an equation defines; the outputs by name where there are several."""
    if layers.calls_layer(ctx, scope, statement.value):
        try:
            results = expressions.call_results(ctx, scope, site, statement.value)
        except build.Issue as issue:
            raise ctx.fail(
                issue.code, issue.message, statement.value.span, *issue.help
            ) from None
        assert results is not None
        return next(iter(results.values())) if len(results) == 1 else results
    return expressions.value(ctx, scope, site, statement.value)


def _several(ctx: Context, scope: Scope, statement: ast.Equation) -> None:
    """`a, b = Layer(x)`: the outputs in declared order."""
    first = scope.names[statement.targets[0].id]
    name = first.name if isinstance(first, Value) else "out"
    calls = parametric_calls(scope, statement.value)
    learned = isinstance(first, Value) and first.learned
    site = Site(name, calls, statement.span, learned=learned)
    results = expressions.call_results(ctx, scope, site, statement.value)
    if results is None or len(results) != len(statement.targets):
        count = 1 if results is None else len(results)
        raise ctx.fail(
            "E0409",
            f"{len(statement.targets)} names for {count} outputs",
            statement.span,
            "write one name for each output of the layer",
        )
    found = [scope.names[target.id] for target in statement.targets]
    claims.claim(ctx, statement, [v for v in found if isinstance(v, Value)])
    for target, node in zip(statement.targets, results.values(), strict=True):
        value = scope.names[target.id]
        if isinstance(value, Value):
            value.status = "done"
            _store(ctx, scope, value, node, statement.span)


def _check_annotation(
    ctx: Context, scope: Scope, statement: ast.Equation, node: ir.Node
) -> None:
    assert statement.type is not None
    declared = dims.type_of(ctx, scope, statement.type)
    same = set(declared.dims) == set(node.type.dims)
    fits = DTYPES.index(node.type.dtype) <= DTYPES.index(declared.dtype)
    if not same or not fits:
        raise ctx.fail(
            "E0205",
            f"declared {declared}, but the value is {node.type}",
            statement.type.span,
            "correct one of the two",
        )


def _store(ctx: Context, scope: Scope, value: Value, node: ir.Node, span: Span) -> None:
    if value.kind == "state":
        _check_update(ctx, value, node, span)
    else:
        axes = node.type.axes
        value.type = node.type
        if set(scope.axes) - axes:
            value.type = replace(node.type, axes=axes | set(scope.axes))
    ctx.equations[value.name] = ir.Equation(
        name=value.name, expr=node, scope=scope.axes, written=True, span=span
    )


def _to_fit(declared: DType, update: DType) -> tuple[str, ...]:
    """What to do about an update of a larger dtype than its state."""
    wider = f"declare the state as {update}"
    match declared, update:
        case "int", "float":
            cause = "`/`, `**` and options that are no extents are float"
            return wider, f"or make the value whole with `int(…)`: {cause}"
        case "bool", "int" | "float":
            return wider, "or compare the value with something, such as `… > 0`"
        case _, "complex":
            return wider, "or take `real(…)` of the value"
        case _:
            return (wider,)


def _check_update(ctx: Context, value: Value, node: ir.Node, span: Span) -> None:
    declared = ctx.type_of(value)
    where = value.statement.value.span if value.statement else span
    if set(node.type.dims) != set(declared.dims):
        raise ctx.fail(
            "E0206",
            f"the state `{value.name}` is {declared}, its update is {node.type}",
            where,
            "project or rename the update so that it has the state's dims",
            labels=(Label(value.span, "declared here"),),
        )
    if DTYPES.index(node.type.dtype) > DTYPES.index(declared.dtype):
        raise ctx.fail(
            "E0206",
            f"the state `{value.name}` is {declared.dtype}, its update is "
            f"{node.type.dtype}",
            where,
            *_to_fit(declared.dtype, node.type.dtype),
            labels=(Label(value.span, "declared here"),),
        )
    extra = node.type.axes - declared.axes
    copies = [c for c in ctx.copies if c in extra]
    if copies:
        raise ctx.fail(
            "E0424",
            f"the update of `{value.name}` has one value for every `{copies[0]}`",
            where,
            f"sum it away, for instance `sum[{copies[0]} <= t](…)`",
        )
    if extra:
        value.type = replace(declared, axes=declared.axes | extra)
