"""Statements and headers as text."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.syntax import ast
from seqdsl.syntax.format_expressions import (
    STEP,
    WIDTH,
    dense,
    format_expr,
    format_type,
    level_before_key,
)
from seqdsl.syntax.wrap import Place, wrap

_DISTRIBUTIONS = ("normal", "uniform", "truncated_normal")


def format_statement(stmt: ast.Stmt, indent: int) -> str:
    """A statement, or the header of a `repeat`, without its indentation."""
    match stmt:
        case ast.InputStmt(name=name, type=type_, per=per):
            rate = "" if per == "step" else f" per {per}"
            return f"input {name}: {format_type(type_)}{rate}"
        case ast.OutputStmt(name=name, value=value):
            return _ended(f"output {name} = " if name else "output ", value, indent)
        case ast.StateStmt(name=name, type=type_, initial=initial):
            head = f"state {name}: {format_type(type_)}"
            return _ended(f"{head} = ", initial, indent) if initial else head
        case ast.ParamStmt():
            return _param(stmt, indent)
        case ast.DimStmt(name=name, value=value):
            return _ended(f"dim {name} = ", value, indent)
        case ast.Equation(targets=targets, type=type_, value=value):
            names = ", ".join(target.id for target in targets)
            kind = f": {format_type(type_)}" if type_ else ""
            return _ended(f"{names}{kind} = ", value, indent)
        case ast.RepeatStmt(axis=axis, count=count, condition=condition):
            head = f"repeat {axis} in "
            if condition is None:
                return _ended(head, count, indent, ":")
            return _ended(f"{head}{format_expr(count)} while ", condition, indent, ":")
        case ast.Result(value=value):
            return _ended("", value, indent)


def _ended(head: str, value: ast.Expr, indent: int, tail: str = "") -> str:
    place = Place(indent, indent + len(head), len(tail))
    return head + wrap(value, place) + tail


def _param(stmt: ast.ParamStmt, indent: int) -> str:
    head = f"param {stmt.name}: {format_type(stmt.type)}"
    tail = (" frozen" if stmt.frozen else "") + (f" as {stmt.key}" if stmt.key else "")
    if stmt.initial is None:
        return head + tail
    head += f" {_sign(stmt, stmt.initial)} "
    place = Place(indent, indent + len(head), len(tail))
    return head + wrap(stmt.initial, place, level_before_key(stmt.initial)) + tail


def _sign(stmt: ast.ParamStmt, initial: ast.Expr) -> str:
    """`~` or `=`, as written; for a tree without a text, `~` for distributions."""
    between = stmt.span.source.text[stmt.type.span.end : initial.span.start]
    if between.strip():
        return between.strip()
    match initial:
        case ast.Call(func=ast.Name(id=name)) if name in _DISTRIBUTIONS:
            return "~"
        case _:
            return "="


Header = ast.LayerDecl | ast.DefDecl | ast.MonoidDecl | ast.ExternDecl


def format_header(decl: Header) -> str:
    """The header of a declaration with its `:`, or a whole `extern`."""
    match decl:
        case ast.LayerDecl(name=name, brackets=names, options=options):
            head, tail = f"layer {name}{_dims(names)}", ":"
            parts = [_option(option) for option in options]
        case ast.DefDecl(name=name, brackets=names, args=args):
            head, tail = f"def {name}{_dims(names)}", ":"
            parts = [_argument(arg) for arg in args]
        case ast.MonoidDecl(name=name, brackets=names, args=args):
            head = f"monoid {name}{_dims(names)}"
            tail = " commutes:" if decl.commutes else ":"
            parts = [_argument(arg) for arg in args]
        case ast.ExternDecl(name=name, args=args, result=result):
            head, tail = f"extern {name}", f" -> {format_type(result)}"
            parts = [_argument(arg) for arg in args]
    text = f"{head}({', '.join(parts)}){tail}"
    if len(text) <= WIDTH or not parts:
        return text
    pad = " " * (2 * STEP)
    body = ", ".join(parts)
    if len(pad) + len(body) > WIDTH:
        body = f",\n{pad}".join(parts) + ","
    return f"{head}(\n{pad}{body}\n){tail}"


def format_import(decl: ast.Import) -> str:
    """`import std.gla`, `import std.gla as g` or `import std.gla: GLA`."""
    text = f"import {'.'.join(decl.path)}"
    if decl.alias:
        return f"{text} as {decl.alias}"
    names = ", ".join(name.id for name in decl.names)
    return f"{text}: {names}" if names else text


def _dims(names: Sequence[ast.Name]) -> str:
    return f"[{', '.join(name.id for name in names)}]" if names else ""


def _option(option: ast.OptionDecl) -> str:
    if option.default is None:
        return option.name
    return f"{option.name} = {dense(option.default)}"


def _argument(arg: ast.ArgDecl) -> str:
    text = f"{arg.name}: {format_type(arg.type)}" if arg.type else arg.name
    return f"{text} = {dense(arg.default)}" if arg.default else text
