"""What elaboration knows while it works on one layer."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from seqdsl.diagnostics import Diagnostic, Label
from seqdsl.elaborate.program import File, suggest
from seqdsl.elaborate.scope import Scope, Value
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import (
    Constraint,
    Lit,
    Opt,
    Scalar,
    Size,
    SizeError,
    evaluate,
    options_of,
)
from seqdsl.ir.types import Type
from seqdsl.source import Span

_DEEPEST = 50
_LARGEST = 20_000


class Poisoned(Exception):
    """A mistake has been reported; what depends on it stays silent."""


@dataclass(frozen=True)
class MonoidUse:
    """A call of a monoid that has not yet been met as the update of some states.

    `before` are the states that it was given; `claim` lacks their names and the axis.
    """

    before: tuple[ir.Node, ...]
    claim: ir.Monoid
    span: Span


@dataclass(frozen=True)
class Entry:
    """A sub-layer elaborated under the options `known`, of which `settled` decided its form.

    `written` counts the layers and defs that it is made of.
    """

    known: Mapping[str, Scalar]
    settled: Mapping[str, Scalar]
    result: ir.Model | tuple[Diagnostic, ...]
    written: int

    def serves(self, known: Mapping[str, Scalar]) -> bool:
        """Whether the result is right under other options too."""
        if self.known == known:
            return True
        # a default that decided the form may come out differently, and so may a mistake
        if isinstance(self.result, tuple) or self.settled.keys() - self.known.keys():
            return False
        return all(known.get(name) == value for name, value in self.settled.items())


Models = dict[object, list[Entry]]
"""Elaborated sub-layers by request."""


@dataclass
class Context:
    """The layer under construction.

    `scopes` are those of repeats by axis, `bodies` the same by the statement's id: a second
    repeat of an axis is refused and has none. `made` are equations that initial values of
    parameters have taken in.
    """

    name: str
    file: File
    known: Mapping[str, Scalar]
    models: Models
    chain: tuple[str, ...]
    options: dict[str, ir.Option] = field(default_factory=dict[str, ir.Option])
    dims: dict[str, Size] = field(default_factory=dict[str, Size])
    inputs: dict[str, ir.Input] = field(default_factory=dict[str, ir.Input])
    params: dict[str, ir.Param] = field(default_factory=dict[str, ir.Param])
    states: dict[str, ir.State] = field(default_factory=dict[str, ir.State])
    equations: dict[str, ir.Equation] = field(default_factory=dict[str, ir.Equation])
    outputs: list[ir.Output] = field(default_factory=list[ir.Output])
    repeats: dict[str, ir.Repeat] = field(default_factory=dict[str, ir.Repeat])
    instances: dict[str, ir.Instance] = field(default_factory=dict[str, ir.Instance])
    calls: dict[str, ir.CallSite] = field(default_factory=dict[str, ir.CallSite])
    externs: dict[str, ir.Extern] = field(default_factory=dict[str, ir.Extern])
    monoids: list[ir.Monoid] = field(default_factory=list[ir.Monoid])
    uses: dict[int, MonoidUse] = field(default_factory=dict[int, "MonoidUse"])
    links: dict[tuple[str, str, str, int], ir.State] = field(
        default_factory=dict[tuple[str, str, str, int], ir.State]
    )
    copies: dict[str, None] = field(default_factory=dict[str, None])
    constraints: list[Constraint] = field(default_factory=list[Constraint])
    taken_keys: dict[str, str] = field(default_factory=dict[str, str])
    settled: dict[str, Scalar] = field(default_factory=dict[str, Scalar])
    integral: set[str] = field(default_factory=set[str])
    counts: set[str] = field(default_factory=set[str])
    whole: frozenset[str] = frozenset()
    shifts: dict[str, dict[str, set[int]]] = field(
        default_factory=dict[str, dict[str, set[int]]]
    )
    copied: set[str] = field(default_factory=set[str])
    made: set[str] = field(default_factory=set[str])
    diagnostics: list[Diagnostic] = field(default_factory=list[Diagnostic])
    stack: list[Value] = field(default_factory=list[Value])
    scopes: dict[str, Scope] = field(default_factory=dict[str, Scope])
    bodies: dict[int, Scope] = field(default_factory=dict[int, Scope])
    inner: dict[str, Value] = field(default_factory=dict[str, Value])
    names: set[str] = field(default_factory=set[str])
    sites: int = 0
    written: int = 0
    used_dims: set[str] = field(default_factory=set[str])

    # ---- errors

    def fail(
        self,
        code: str,
        message: str,
        span: Span,
        *help_: str,
        labels: tuple[Label, ...] = (),
    ) -> Poisoned:
        """Report a mistake; `raise` what this returns."""
        self.report(code, message, span, *help_, labels=labels)
        return Poisoned()

    def report(
        self,
        code: str,
        message: str,
        span: Span,
        *help_: str,
        labels: tuple[Label, ...] = (),
    ) -> None:
        """Report a finding and go on."""
        lines = tuple(h for h in help_ if h)
        found = Diagnostic(code, message, span, labels, lines)
        if found not in self.diagnostics:
            self.diagnostics.append(found)

    @contextmanager
    def recover(self) -> Generator[None]:
        """Go on with the next statement after a reported mistake."""
        try:
            yield
        except Poisoned:
            # what was left out must have been reported, or the model would be wrong
            assert any(d.is_error for d in self.diagnostics)

    def unknown(
        self, name: str, span: Span, known: list[str], what: str, code: str = "E0101"
    ) -> Poisoned:
        """Report an unknown name with the nearest known one."""
        return self.fail(code, f"unknown {what} `{name}`", span, suggest(name, known))

    def hold(self, scope: Scope, about: str, node: ir.Node) -> ir.Ref:
        """A new equation that holds `node`, called about `about`, and a reference to it.

        It stands in as few repeats as it can: a value that is the same for every step
        must not wait for the steps.
        """
        axes = scope.axes
        while axes and axes[-1] not in node.type.axes:
            axes = axes[:-1]
        name = self.fresh(about)
        self.equations[name] = ir.Equation(
            name=name, expr=node, scope=axes, written=False, span=node.span
        )
        return build.ref(name, node.type, node.span)

    # ---- limits, against specs that would never come to an end

    def enter(self, span: Span) -> None:
        """E0115 where one more layer or def in a layer or def would be too deep."""
        if len(self.chain) > _DEEPEST:
            message = f"layers and defs are nested more than {_DEEPEST} deep here"
            help_ = "repeat a layer with `repeat n in N:`, or write one out"
            raise self.fail("E0115", message, span, help_)

    def grow(self, by: int, span: Span) -> None:
        """Count layers and defs that this layer is made of; E0115 where it is too many."""
        self.written += by
        if self.written > _LARGEST:
            message = f"this layer is made of more than {_LARGEST} layers and defs"
            help_ = "repeat one with `repeat n in N:`"
            raise self.fail("E0115", message, span, help_)

    # ---- names and sizes

    def fresh(self, name: str) -> str:
        """`name`, or with a number where it is taken."""
        candidate, n = name, 2
        while candidate in self.names:
            candidate, n = f"{name}_{n}", n + 1
        self.names.add(candidate)
        return candidate

    def fresh_dim(self, name: str, size: Size) -> str:
        """A new dim called about `name`; an old one of that name and size is reused."""
        candidate, n = name, 2
        while candidate in self.dims and self.dims[candidate] != size:
            candidate, n = f"{name}_{n}", n + 1
        self.dims[candidate] = size
        return candidate

    def value_of(self, size: Size) -> Scalar | None:
        """The value of `size` if the options known now settle it."""
        if isinstance(size, Lit):
            return size.value
        try:
            return evaluate(size, self.known)
        except (KeyError, SizeError):
            return None

    def settle(self, size: Size, span: Span) -> Scalar:
        """The value of `size` where the model's form depends on it.

        Options that decide it are fixed from here on by a constraint. Reports E0406
        where one has no value yet.
        """
        value = self.value_of(size)
        if value is None:
            missing = ", ".join(
                sorted(o for o in options_of(size) if o not in self.known)
            )
            raise self.fail(
                "E0406",
                f"the form of the layer depends on `{missing}`, which has no value",
                span,
                f"give it a default, or a value: `--set {missing}=…`",
            )
        for option in options_of(size):
            self.settled[option] = self.known[option]
            message = f"the layer was compiled for one value of `{option}`"
            self.require_equal(Opt(option), Lit(self.known[option]), span, message)
        return value

    def require_equal(self, left: Size, right: Size, span: Span, message: str) -> None:
        """Note that two sizes must agree, unless they are the same expression."""
        if left == right:
            return
        constraint = Constraint(left, right, span, message)
        if constraint not in self.constraints:
            self.constraints.append(constraint)

    def type_of(self, value: Value) -> Type:
        """The type of a value that has been elaborated."""
        if value.type is None:
            raise Poisoned
        return value.type
