"""What the tests of the elaborator share: a layer's text to its model or its findings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent, indent

from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.elaborate import elaborate, load_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar

CORPUS = Path(__file__).parent.parent / "language" / "ok"


def layer(body: str, options: str = "D, H = 2", *more: str) -> str:
    """A file with the layer `A` made of the lines in `body`, behind the texts `more`."""
    lines = indent(dedent(body).strip("\n"), "    ")
    return "\n".join([*map(dedent, more), f"layer A({options}):\n{lines}\n"])


def model(
    text: str, given: Mapping[str, Scalar] | None = None, folder: Path | None = None
) -> ir.Model:
    """The model of the last layer."""
    program = load_text(text, folder=folder)
    return elaborate(program, program.layers[-1], given).model


def warnings(text: str) -> list[Diagnostic]:
    """Warnings about the last layer."""
    program = load_text(text)
    return list(elaborate(program, program.layers[-1]).warnings)


def errors(
    text: str, given: Mapping[str, Scalar] | None = None, folder: Path | None = None
) -> list[Diagnostic]:
    """What is wrong with the last layer; fails where nothing is."""
    try:
        found = model(text, given, folder)
    except SpecError as error:
        return list(error.diagnostics)
    raise AssertionError(f"nothing is wrong with {found.name}")


def only_error(
    text: str, given: Mapping[str, Scalar] | None = None, folder: Path | None = None
) -> Diagnostic:
    """The one thing that is wrong with the last layer."""
    found = errors(text, given, folder)
    assert len(found) == 1, "\n".join(d.short for d in found)
    return found[0]


def codes(found: list[Diagnostic]) -> list[str]:
    """Codes in the order of their places."""
    return [d.code for d in found]


def marked(diagnostic: Diagnostic) -> str:
    """The text under the carets."""
    assert diagnostic.span is not None
    return diagnostic.span.text


def shape(found: ir.Model, name: str) -> tuple[str, ...]:
    """Dims of the equation, state, parameter or output `name`."""
    outputs = {o.name: o.expr.type for o in found.outputs}
    equations = {e.name: e.expr.type for e in found.equations}
    params = {p.name: p.type for p in found.params}
    return {**outputs, **equations, **params}[name].dims


def dtype(found: ir.Model, name: str) -> str:
    """Dtype of the equation or output `name`."""
    outputs = {o.name: o.expr.type.dtype for o in found.outputs}
    return {**{e.name: e.expr.type.dtype for e in found.equations}, **outputs}[name]


def keys(found: ir.Model) -> set[str]:
    """State-dict keys of a model and its sub-layers, steps of repeats as placeholders."""
    own = {p.key for p in found.params}
    for instance in found.instances:
        own |= {f"{instance.name}.{key}" for key in keys(instance.model)}
    return own
