"""Inputs and their types."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.elaborate import (
    dims,
    layer,
)
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.scope import Scope, Value
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.syntax import ast


def input_types(ctx: Context, scope: Scope, request: layer.Request) -> None:
    axes = {
        "step": frozenset({BATCH, TIME}),
        "batch": frozenset({BATCH}),
        "call": frozenset[str](),
    }
    for statement in request.decl.body:
        if not isinstance(statement, ast.InputStmt):
            continue
        with ctx.recover():
            if statement.per not in axes:
                raise ctx.fail(
                    "E0411",
                    f"`per {statement.per}` is not known",
                    statement.span,
                    "an input is `per step` (the default), `per batch` or `per call`",
                )
            type_ = _input_type(ctx, scope, statement, request)
            full = replace(type_, axes=axes[statement.per])
            value = scope.names.get(statement.name)
            if isinstance(value, Value) and value.kind == "input":
                value.type, value.status = full, "done"
                ctx.inputs[value.name] = ir.Input(
                    name=value.name, type=full, span=statement.span
                )


def _input_type(
    ctx: Context, scope: Scope, statement: ast.InputStmt, request: layer.Request
) -> Type:
    written = statement.type
    given = request.shapes.get(statement.name)
    items = tuple(i for i in written.shape or () if i.expr is not None)
    base = dims.type_of(ctx, scope, replace(written, shape=items))
    if given is None:
        return base
    # written out by the caller: declared dims by our names, extra ones by theirs
    names = {dims_name: dims_name for dims_name in base.dims}
    return replace(base, dims=tuple(names.get(d, d) for d in given))
