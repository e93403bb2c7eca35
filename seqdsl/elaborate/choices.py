"""Options that are layers: `layer LM(D, mixer = GLA(heads = 4)):`.

An option whose default names a layer takes a layer, with any of its options: in a spec as
`GLA(heads = 8)`, from outside as the text `std.gla:GLA(heads = 8)`. The choice is part of
the model's form, as a text that is compared while compiling is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import layers
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.program import Binding, File, load_std, std_source
from seqdsl.elaborate.scope import Choice, LayerOption, Scope
from seqdsl.ir.sizes import Lit, Scalar, Size
from seqdsl.source import Span
from seqdsl.syntax import ast
from seqdsl.syntax.format import format_expr
from seqdsl.syntax.parse import parse_expression


def names_layer(file: File, default: ast.Expr | None) -> bool:
    """Whether an option with this default takes a layer."""
    if default is None:
        return False
    func = default.func if isinstance(default, ast.Call) else default
    found = layers.callee_of(Scope(file), func)
    return found is not None and isinstance(found.decl, ast.LayerDecl)


def choice(ctx: Context, scope: Scope, expr: ast.Expr) -> Choice:
    """The layer that `GLA` or `GLA(heads = 8)` chooses; E0408 for anything else."""
    func = _call(expr).func
    found = layers.callee_of(scope, func)
    if found is None or not isinstance(found.decl, ast.LayerDecl):
        raise ctx.fail(
            "E0408",
            f"`{format_expr(expr)}` is no layer, and this option takes one",
            expr.span,
            "name a layer, with options if you like: `GLA(heads = 8)`",
        )
    made = layers.made_with(ctx, scope, _call(expr), found, found.decl)
    handed_on = scope.find(func.id) if isinstance(func, ast.Name) else None
    name = format_expr(func)
    if isinstance(handed_on, LayerOption):
        name = handed_on.choice.text.partition("(")[0]
    return _choice(found, made.options, made.layers, name)


def without_options(scope: Scope, default: ast.Expr) -> Choice:
    """The layer that a default names, for where its options are wrong."""
    func = _call(default).func
    found = layers.callee_of(scope, func)
    assert found is not None
    return _choice(found, {}, {}, format_expr(func))


def settled(ctx: Context, chosen: Choice, span: Span) -> Choice:
    """`chosen` with numbers for its options, which hold in any layer."""
    values = {n: Lit(ctx.settle(size, span)) for n, size in chosen.options.items()}
    name = chosen.text.partition("(")[0]
    return _choice(chosen.binding, values, chosen.layers, name)


def _choice(
    binding: Binding,
    options: Mapping[str, Size],
    inner: Mapping[str, Choice],
    name: str,
) -> Choice:
    shown = {n: inner[n].text if n in inner else size for n, size in options.items()}
    given = ", ".join(f"{n} = {value}" for n, value in shown.items())
    text = f"{name}({given})" if given else name
    return Choice(binding, options, inner, text)


def spelled(
    ctx: Context, scope: Scope, option: ast.OptionDecl, value: Scalar
) -> Choice:
    """The layer that a text from outside names: `GLA`, `std.gla:GLA(heads = 8)`.

    Reports E0505 for a text that names none.
    """
    text = str(value)
    home, _, _layer = text.partition("(")[0].rpartition(":")
    file = _file(home) if home else scope.file
    inside = Scope(file) if file else scope
    expr = _parsed(text[len(home) + bool(home) :], inside, option.span)
    func = expr.func if isinstance(expr, ast.Call) else expr
    found = layers.callee_of(inside, func) if isinstance(func, ast.Name) else None
    if not file or found is None or not isinstance(found.decl, ast.LayerDecl):
        raise ctx.fail(
            "E0505",
            f"option `{option.name}` is a layer, and `{text}` names none",
            option.span,
            "a layer that the spec knows, or one of the library: `std.gla:GLA`",
        )
    assert expr is not None
    made = layers.made_with(ctx, inside, _call(expr), found, found.decl)
    return Choice(found, made.options, made.layers, text)


def _call(expr: ast.Expr) -> ast.Call:
    """`GLA` as `GLA()`."""
    if isinstance(expr, ast.Call):
        return expr
    return ast.Call(func=expr, brackets=None, args=(), keywords=(), span=expr.span)


_OF_LIBRARY = re.compile(r"(std\.\w+):(\w+)")


def _parsed(text: str, inside: Scope, span: Span) -> ast.Expr | None:
    """What a text spells; layers of the library in it become names that `inside` knows."""

    def known(match: re.Match[str]) -> str:
        file, name = _file(match[1]), f"std_{len(inside.names)}"
        found = file.lookup(match[2]) if file else None
        if not isinstance(found, Binding):
            return match[0]
        inside.names[name] = LayerOption(Choice(found, {}, {}, match[0]), span)
        return name

    try:
        return parse_expression(_OF_LIBRARY.sub(known, text))
    except SpecError:
        return None


def _file(home: str) -> File | None:
    """The file that `std.gla` names; None where there is none."""
    short = home.removeprefix("std.")
    if short == home or std_source(short) is None:
        return None
    return load_std(short).main
