"""Repeats: their axes, counts and bodies."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from seqdsl.diagnostics import Label
from seqdsl.elaborate import declare, expressions, statics
from seqdsl.elaborate.context import Context, Poisoned
from seqdsl.elaborate.order import nodes_in
from seqdsl.elaborate.scope import Axis, Scope, Site, Value
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Opt, Size
from seqdsl.ir.types import Type
from seqdsl.syntax import ast


def declare_repeat(ctx: Context, scope: Scope, statement: ast.RepeatStmt) -> None:
    """Enter a repeat: its axis, its count, and the names of its body."""
    with _poison_on_failure(ctx, scope, statement):
        inner = _enter_axis(ctx, scope, statement)
    # Counts decide whether parameters may stand inside, so they come first.
    with ctx.recover():
        _count(ctx, scope, statement)
    declare.declare_all(ctx, inner, statement.body)


@contextmanager
def _poison_on_failure(
    ctx: Context, scope: Scope, statement: ast.RepeatStmt
) -> Generator[None]:
    """Where a repeat is refused, its names stay known, so that no use is one more mistake."""
    try:
        yield
    except Poisoned:
        axes = (*scope.axes, statement.axis)
        for node in nodes_in(statement.body):
            for name in _defined(node):
                failed = Value(name, "equation", node.span, axes, status="failed")
                ctx.inner.setdefault(name, failed)
        raise


def _defined(node: ast.Ast) -> tuple[str, ...]:
    match node:
        case ast.Equation(targets=targets):
            return tuple(t.id for t in targets)
        case ast.StateStmt(name=name) | ast.ParamStmt(name=name):
            return (name,)
        case _:
            return ()


def _enter_axis(ctx: Context, scope: Scope, statement: ast.RepeatStmt) -> Scope:
    span = declare.name_span(statement, statement.axis)
    declare.check_free(ctx, scope, statement.axis, span)
    if statement.axis in ctx.repeats:
        raise ctx.fail(
            "E0105",
            f"the axis `{statement.axis}` is already used by another repeat",
            span,
            "choose another letter",
            labels=(Label(ctx.repeats[statement.axis].span, "first used here"),),
        )
    ctx.repeats[statement.axis] = ir.Repeat(
        axis=statement.axis, count=Lit(1), condition=None, scope=scope.axes, span=span
    )
    inner = Scope(
        scope.file,
        parent=scope,
        axes=(*scope.axes, statement.axis),
        copies=scope.copies,
    )
    inner.names[statement.axis] = Axis(statement.axis, span)
    ctx.scopes[statement.axis] = inner
    ctx.bodies[id(statement)] = inner
    return inner


def _count(ctx: Context, scope: Scope, statement: ast.RepeatStmt) -> None:
    old = ctx.repeats[statement.axis]
    size = statics.static(ctx, scope, statement.count)
    if size is not None:
        value = ctx.value_of(size)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < 0
        ):
            raise ctx.fail(
                "E0426",
                f"the count of a repeat is a whole number, not {value}",
                statement.count.span,
            )
        ctx.counts.update(_options_of(size))
        ctx.repeats[statement.axis] = replace(old, count=size)
        return
    # a run-time count; its type is checked once inputs have types
    ctx.repeats[statement.axis] = replace(
        old,
        count=build.ref(expr_name(statement.count), Type("int"), statement.count.span),
    )


def expr_name(expr: ast.Expr) -> str:
    """The name that an expression is, or an empty text."""
    return expr.id if isinstance(expr, ast.Name) else ""


def _options_of(size: Size) -> Iterator[str]:
    if isinstance(size, Opt):
        yield size.name


def repeat_counts(ctx: Context, scope: Scope, body: Sequence[ast.Stmt]) -> None:
    """Check counts that are layer.values: whole numbers that are the same for the whole call."""
    for statement in body:
        if not isinstance(statement, ast.RepeatStmt):
            continue
        repeat = ctx.repeats.get(statement.axis)
        inner = ctx.bodies.get(id(statement))
        if repeat is None or inner is None:
            continue
        with ctx.recover():
            if isinstance(repeat.count, ir.Base):
                site = Site(statement.axis, 0, statement.count.span)
                node = expressions.value(ctx, scope, site, statement.count)
                if node.type.dtype != "int" or node.type.dims or node.type.axes:
                    raise ctx.fail(
                        "E0426",
                        "the count of a repeat is one whole number for the whole call",
                        statement.count.span,
                        "use an option, or `input steps: int per call`",
                    )
                ctx.repeats[statement.axis] = replace(repeat, count=node)
        repeat_counts(ctx, inner, statement.body)


def statements(
    ctx: Context, scope: Scope, body: Sequence[ast.Stmt]
) -> Iterator[tuple[Scope, ast.Stmt]]:
    """Every statement with its scope, repeats entered."""
    for statement in body:
        yield scope, statement
        if isinstance(statement, ast.RepeatStmt) and id(statement) in ctx.bodies:
            yield from statements(ctx, ctx.bodies[id(statement)], statement.body)
