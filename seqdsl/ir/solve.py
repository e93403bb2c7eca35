"""Options and dims solved by name: each value after everything its definition reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seqdsl.diagnostics import Diagnostic
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import (
    Apply,
    Lit,
    Opt,
    Scalar,
    Size,
    SizeError,
    evaluate,
    options_of,
)
from seqdsl.source import NOWHERE, Span


def problem(code: str, message: str, span: Span, *help: str) -> Diagnostic:
    """A diagnostic whose place may be unknown."""
    return Diagnostic(code, message, None if span is NOWHERE else span, help=help)


class Refused(Exception):
    """Something has no value; the solver has noted why."""


@dataclass
class Solver:
    """Values of a layer's names so far, and what was found wrong."""

    model: ir.Model
    options: dict[str, Scalar] = field(default_factory=dict[str, Scalar])
    dims: dict[str, int] = field(default_factory=dict[str, int])
    found: list[Diagnostic] = field(default_factory=list[Diagnostic])
    failed: set[str] = field(default_factory=set[str])
    path: list[str] = field(default_factory=list[str])

    def refuse(self, code: str, message: str, span: Span, *help: str) -> Refused:
        """Note a problem; the caller raises what is returned."""
        self.found.append(problem(code, message, span, *help))
        return Refused()

    def solve(self, name: str) -> Scalar:
        """The value of an option or dim, after everything it reads."""
        if name in self.options:
            return self.options[name]
        if name in self.dims:
            return self.dims[name]
        if name in self.failed:
            raise Refused
        self.failed.add(name)
        self.path.append(name)
        try:
            value = self._define(name)
        finally:
            self.path.pop()
        self.failed.discard(name)
        return value

    def solve_dim(self, name: str) -> None:
        """The extent of a dim, which often is an option of the same name."""
        value = self.solve(name)
        if name not in self.dims:
            self.dims[name] = self.whole(name, Opt(name), value, self.model.span)

    def _define(self, name: str) -> Scalar:
        for option in self.model.options:
            if option.name == name:
                return self._default(option)
        if name in self.model.dims:
            self.dims[name] = self.extent(name, self.model.dims[name], self.model.span)
            return self.dims[name]
        reader = f", which {self.path[-2]} reads" if len(self.path) > 1 else ""
        message = f"layer {self.model.name} has no option `{name}`{reader}"
        raise self.refuse("E0502", message, self.model.span)

    def _default(self, option: ir.Option) -> Scalar:
        if option.default is None:
            raise self.refuse(
                "E0501",
                f"layer {self.model.name} needs the option `{option.name}`",
                option.span,
                f"give it a value: `{option.name}=…`, or a default in the layer",
            )
        name, size = option.name, option.default
        value = (
            self.extent(name, size, option.span, option.least)
            if option.integral
            else self.value(name, size, option.span)
        )
        self.options[name] = value
        return value

    def value(self, name: str, size: Size, span: Span) -> Scalar:
        """The value of `size`, which defines `name`."""
        for read in options_of(size):
            if read in self.path:
                cycle = " → ".join((*self.path[self.path.index(read) :], read))
                help = "give one of them a value"
                raise self.refuse("E0501", f"defaults in a circle: {cycle}", span, help)
            self.solve(read)
        try:
            return evaluate(size, {**self.dims, **self.options})
        except SizeError as error:
            message = f"`{name}` has no value: {error}"
            raise self.refuse("E0503", message, span) from None

    def extent(self, name: str, size: Size, span: Span, least: int = 1) -> int:
        """The value of `size` as a whole number ≥ `least`."""
        return self.whole(name, size, self.value(name, size, span), span, least)

    def whole(
        self, name: str, size: Size, value: Scalar, span: Span, least: int = 1
    ) -> int:
        """`value`, which is that of `size`, as a whole number ≥ `least`."""
        whole = whole_or_none(value)
        shown = _derivation(name, size, value, {**self.dims, **self.options})
        if isinstance(value, bool | str):
            raise self.refuse("E0505", f"{shown}, where a size is needed", span)
        if whole is None:
            raise self.refuse("E0503", f"{shown} is not a whole number", span)
        if whole < least:
            message = f"{shown}, but a size is at least {least}"
            raise self.refuse("E0505", message, span)
        return whole


# ---- Numbers and how they are shown


def whole_or_none(value: Scalar) -> int | None:
    """`value` as an int where it is a whole number."""
    match value:
        case bool() | str():
            return None
        case int():
            return value
        case float():
            return int(value) if value.is_integer() else None


def show(value: Scalar) -> str:
    """A value as it stands in a message."""
    return f"{value:.4g}" if isinstance(value, float) else f"{Lit(value)}"


def _derivation(
    name: str, size: Size, value: Scalar, values: Mapping[str, Scalar]
) -> str:
    """`K = D / heads = 64 / 6 = 10.67`, without what would be said twice."""
    parts = [name, str(size), str(_filled(size, values)), show(value)]
    return " = ".join(dict.fromkeys(parts))


def _filled(size: Size, values: Mapping[str, Scalar]) -> Size:
    """`size` with numbers for names, not folded, to be read by people."""
    match size:
        case Lit():
            return size
        case Opt(name):
            return Lit(values[name])
        case Apply(op, args):
            return Apply(op, tuple(_filled(a, values) for a in args))
