"""Names of a layer and what they are, entered before anything is elaborated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seqdsl.diagnostics import Label
from seqdsl.elaborate import (
    dims,
    equations,
    initial,
    keys,
    parametric,
    repeats,
    statics,
)
from seqdsl.elaborate.context import Context, Poisoned
from seqdsl.elaborate.order import (
    dependency_order,
    names_in,
    parametric_calls,
    read_order,
)
from seqdsl.elaborate.program import File
from seqdsl.elaborate.scope import Scope, Static, Value
from seqdsl.ir.sizes import Opt
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.source import Span
from seqdsl.syntax import ast

_RESERVED = (TIME, BATCH)


def collect_copies(body: Sequence[ast.Stmt], file: File) -> frozenset[str]:
    """Names that stand alone in brackets behind a value, as `s` in `k[s]`."""
    found: set[str] = set()
    stack: list[object] = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Index):
            for item in node.items:
                if isinstance(item.expr, ast.Name) and item.axis is None:
                    found.add(item.expr.id)
        if isinstance(node, ast.Ast):
            stack.extend(getattr(node, f) for f in node.__dataclass_fields__)
        elif isinstance(node, tuple):
            stack.extend(node)  # pyright: ignore[reportUnknownArgumentType]
    return frozenset(found - {TIME})


def declare_all(ctx: Context, scope: Scope, body: Sequence[ast.Stmt]) -> None:
    """Enter the names of all statements, dims first, since order does not matter."""
    for statement in _dims_in_order(body):
        with ctx.recover():
            _declare_dim(ctx, scope, statement)
    # A state's equation may stand above the state.
    for statement in sorted(body, key=lambda s: not isinstance(s, _EARLY)):
        with ctx.recover():
            _declare_one(ctx, scope, statement)


def _dims_in_order(body: Sequence[ast.Stmt]) -> list[ast.DimStmt]:
    """The `dim` lines, each after those that it reads; a second one of a name last."""
    lines = [s for s in body if isinstance(s, ast.DimStmt)]
    first = {s.name: s for s in reversed(lines)}
    order = read_order({name: names_in(s.value) for name, s in first.items()})
    return [first[n] for n in order] + [s for s in lines if first[s.name] is not s]


_EARLY = (ast.InputStmt, ast.StateStmt)


def _declare_dim(ctx: Context, scope: Scope, statement: ast.DimStmt) -> None:
    check_free(ctx, scope, statement.name, statement.span)
    try:
        size = statics.require_static(
            ctx, scope, statement.value, "the extent of a dim"
        )
        dims.check_extent(ctx, size, statement.value.span)
    except Poisoned:
        # the name is known from here on, so that its uses are no further mistakes
        size = Opt(statement.name)
    dim = ctx.fresh_dim(statement.name, size)
    scope.names[statement.name] = Static(size, statement.span, dim)


def _declare_one(ctx: Context, scope: Scope, statement: ast.Stmt) -> None:
    match statement:
        case ast.InputStmt(name=name) if scope.axes:
            raise ctx.fail(
                "E0117",
                "inputs are declared outside `repeat`",
                statement.span,
                "move the line to the top of the layer",
            )
        case ast.InputStmt(name=name) if name in keys.CALL_WORDS:
            failed = Value(name, "input", statement.span, (), status="failed")
            scope.names.setdefault(name, failed)
            raise ctx.fail(
                "E0116",
                f"an input cannot be called `{name}`: the call of a layer uses the word",
                statement.span,
                f"choose another name, such as `{name}s` or `{name}_in`",
            )
        case ast.InputStmt(name=name) if name.startswith("__"):
            failed = Value(name, "input", statement.span, (), status="failed")
            scope.names.setdefault(name, failed)
            raise ctx.fail(
                "E0116",
                f"an input cannot be called `{name}`: Python keeps such names to itself",
                statement.span,
                "begin the name with a letter",
            )
        case ast.InputStmt(name=name):
            _enter(ctx, scope, name, "input", name_span(statement, name))
        case ast.ParamStmt(name=name):
            _declare_param(ctx, scope, statement)
        case ast.StateStmt(name=name):
            state = _enter(ctx, scope, name, "state", name_span(statement, name))
            if statement.initial is not None:
                state.learned = parametric_calls(scope, statement.initial) > 0
        case ast.Equation():
            _declare_equation(ctx, scope, statement, "")
        case ast.RepeatStmt():
            repeats.declare_repeat(ctx, scope, statement)
        case ast.OutputStmt() if scope.axes:
            raise ctx.fail(
                "E0117",
                "outputs stand outside `repeat`",
                statement.span,
                "after the repeat write for instance `output h[n = N]`",
            )
        case ast.Result():
            raise ctx.fail(
                "E0117",
                "this line is a value without a name",
                statement.span,
                "write `name = …`, or `output …` for a result of the layer",
            )
        case ast.OutputStmt() | ast.DimStmt():
            pass


def name_span(statement: ast.Stmt, name: str) -> Span:
    """Where the declared name stands in its statement."""
    span = statement.span
    text = span.source.text
    start = text.find(" ", span.start)
    found = text.find(name, start if start >= 0 else span.start)
    if found < 0 or found >= span.end:
        return span
    return Span(span.source, found, found + len(name))


def check_free(ctx: Context, scope: Scope, name: str, span: Span) -> None:
    if name in _RESERVED:
        failed = Value(name, "equation", span, scope.axes, status="failed")
        scope.names.setdefault(name, failed)
        raise ctx.fail(
            "E0116", f"`{name}` is the name of an axis", span, "choose another name"
        )
    old = scope.find(name) or ctx.inner.get(name)
    if isinstance(old, Value):
        old.disputed = True
    if old is not None:
        raise ctx.fail(
            "E0105",
            f"`{name}` is already defined",
            span,
            "rename one of the two",
            labels=(Label(old.span, "first defined here"),),
        )


def _enter(
    ctx: Context,
    scope: Scope,
    name: str,
    kind: str,
    span: Span,
    statement: ast.Equation | None = None,
    prefix: str = "",
) -> Value:
    check_free(ctx, scope, name, span)
    unique = ctx.fresh(f"{prefix}{name}")
    value = Value(unique, kind, span, scope.axes, None, statement, scope)
    scope.names[name] = value
    if scope.axes and not prefix:
        ctx.inner[name] = value
    return value


def _declare_param(ctx: Context, scope: Scope, statement: ast.ParamStmt) -> None:
    span = name_span(statement, statement.name)
    check_free(ctx, scope, statement.name, span)
    try:
        type_ = _param_type(ctx, scope, statement)
    except Poisoned:
        name = statement.name
        scope.names[name] = Value(name, "param", span, scope.axes, status="failed")
        raise
    value = Value(statement.name, "param", span, scope.axes, type_, None, scope, "done")
    scope.names[statement.name] = value
    if scope.axes:
        ctx.inner[statement.name] = value
    key = statement.key or statement.name
    init = initial.default_init(ctx, type_.dims)
    ref = parametric.add(
        ctx, scope, statement.name, key, type_, init, statement.span, statement.frozen
    )
    value.name, value.type = ref.name, ref.type


def _param_type(ctx: Context, scope: Scope, statement: ast.ParamStmt) -> Type:
    type_ = dims.type_of(ctx, scope, statement.type)
    if type_.dtype in ("int", "bool") and not statement.frozen:
        raise ctx.fail(
            "E0205",
            f"a learned parameter cannot be {type_.dtype}",
            statement.type.span,
            "make it `frozen`, or leave the dtype away",
        )
    return type_


def param_initials(ctx: Context, scope: Scope, body: Sequence[ast.Stmt]) -> None:
    """Initial values of declared parameters, which may read parameters further down."""
    for place, statement in repeats.statements(ctx, scope, body):
        if not isinstance(statement, ast.ParamStmt) or statement.initial is None:
            continue
        value = place.names.get(statement.name)
        if not isinstance(value, Value) or value.name not in ctx.params:
            continue
        with ctx.recover():
            param = ctx.params[value.name]
            init = initial.written(
                ctx, place, value.name, param.type, statement.initial
            )
            ctx.params[value.name] = replace(param, init=init)


def _declare_equation(
    ctx: Context, scope: Scope, statement: ast.Equation, prefix: str
) -> None:
    for target in statement.targets:
        old = scope.names.get(target.id)
        if isinstance(old, Value) and old.kind == "state" and old.statement is None:
            old.statement = statement
            continue
        if isinstance(old, Value) and old.kind in ("input", "param"):
            raise ctx.fail(
                "E0119",
                f"`{target.id}` is an {old.kind} and cannot be redefined"
                if old.kind == "input"
                else f"`{target.id}` is a parameter and cannot be redefined",
                target.span,
                "choose another name",
                labels=(Label(old.span, "declared here"),),
            )
        outer = scope.find(target.id)
        if (
            isinstance(outer, Value)
            and outer.kind == "state"
            and outer.scope != scope.axes
        ):
            raise ctx.fail(
                "E0117",
                f"the state `{target.id}` belongs to another repeat",
                target.span,
                "declare a state where it is updated",
                labels=(Label(outer.span, "declared here"),),
            )
        _enter(ctx, scope, target.id, "equation", target.span, statement, prefix)


def declare_equations(
    ctx: Context, scope: Scope, body: Sequence[ast.Stmt], prefix: str, span: Span
) -> None:
    """Enter and elaborate the equations of a def that is written out in place."""
    for statement in body:
        match statement:
            case ast.DimStmt():
                with ctx.recover():
                    _declare_dim(ctx, scope, statement)
            case ast.Equation():
                with ctx.recover():
                    _declare_equation(ctx, scope, statement, prefix)
            case ast.Result():
                pass
            case _:
                raise ctx.fail(
                    "E0117",
                    "a def holds equations and its result only",
                    statement.span,
                    "parameters, states and repeats belong in a layer",
                )
    for value in dependency_order(scope.values()):
        with ctx.recover():
            equations.elaborate_equation(ctx, value, value.span)
