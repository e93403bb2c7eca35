"""`ast.Spec` to `ir.Model`: names resolved, axes, dims and dtypes solved."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.elaborate.layer import Request, elaborate_layer, finish
from seqdsl.elaborate.program import (
    Binding,
    Program,
    load_file,
    load_std,
    load_text,
    suggest,
)
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar
from seqdsl.source import Span
from seqdsl.syntax import ast

__all__ = [
    "Elaborated",
    "Program",
    "elaborate",
    "elaborate_text",
    "load_file",
    "load_std",
    "load_text",
    "unused_imports",
]


@dataclass(frozen=True)
class Elaborated:
    """A layer's model and what there is to warn about."""

    model: ir.Model
    warnings: tuple[Diagnostic, ...]


def elaborate(
    program: Program, layer: str, given: Mapping[str, Scalar] | None = None
) -> Elaborated:
    """The model of `layer`, with the options in `given` where its form depends on them.

    Raises `SpecError` with every independent mistake; `KeyError` for an unknown layer.
    """
    found = program.main.scope.get(layer)
    if not isinstance(found, Binding) or not isinstance(found.decl, ast.LayerDecl):
        raise KeyError(suggest(layer, list(program.layers)) or layer)
    request = Request(found.file, found.decl, dict(given or {}))
    with _deep_recursion():
        ctx = elaborate_layer(request, {})
    errors = [d for d in ctx.diagnostics if d.is_error]
    if errors:
        raise SpecError(sorted(errors, key=_place))
    warnings = tuple(sorted(ctx.diagnostics, key=_place))
    return Elaborated(finish(ctx, request), warnings)


@contextmanager
def _deep_recursion() -> Generator[None]:
    """Room for expressions as deep as the parser allows, in calls as deep as we allow."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 50_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _place(diagnostic: Diagnostic) -> tuple[str, int]:
    span: Span | None = diagnostic.span
    return (span.source.name, span.start) if span else ("", 0)


def elaborate_text(
    text: str,
    layer: str | None = None,
    given: Mapping[str, Scalar] | None = None,
    folder: Path | None = None,
) -> ir.Model:
    """The model of a layer (the last one by default) of a spec given as text.

    Raises what `elaborate` does; `KeyError` also where there is no layer at all.
    """
    program = load_text(text, folder=folder)
    if layer is None and not program.layers:
        raise KeyError("the text has no layer")
    return elaborate(program, layer or program.layers[-1], given).model


def unused_imports(program: Program) -> tuple[Diagnostic, ...]:
    """Warnings (W0103) about imports of which no name was looked up.

    Ask after every layer of the program has been elaborated.
    """
    file = program.main
    used = {id(d) for name, d in file.imported.items() if name in file.uses}
    unused = {id(d): d for d in file.imported.values() if id(d) not in used}
    return tuple(
        Diagnostic(
            "W0103",
            f"nothing of `{'.'.join(d.path)}` is used",
            d.span,
            (),
            ("remove the import",),
        )
        for d in unused.values()
    )
