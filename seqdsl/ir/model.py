"""Models of the IR: a layer as equations over named axes, with what it declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from seqdsl.ir.expressions import Node
from seqdsl.ir.sizes import Constraint, Size
from seqdsl.ir.types import Type
from seqdsl.source import NOWHERE, Span


@dataclass(frozen=True, kw_only=True)
class Option:
    """A compile-time choice of a layer; required when `default` is None.

    `integral` when it is (part of) a dim's extent or counts the steps of a repeat, and so
    must be a whole number, of at least `least`: a repeat may take no step.
    """

    name: str
    default: Size | None
    integral: bool
    least: int = 1
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Input:
    """An argument at run time; its type's axes say per step, batch or call."""

    name: str
    type: Type
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Init:
    """Initial values of a parameter.

    `expr` is evaluated once when the module is made; it may use `Sample` (drawn from torch's
    generator), `Position` of dims, options and other parameters. `kind` names a distribution
    that needs the whole shape (`orthogonal`, of a matrix whose rows are the first `rows`
    dims), else `expr`.
    """

    kind: Literal["expr", "orthogonal"]
    expr: Node | None
    gain: Size | None = None
    rows: int = 1


@dataclass(frozen=True, kw_only=True)
class Param:
    """A learned (or `frozen`: stored but not learned) tensor.

    `name` is how equations refer to it and unique in the model; `key` is its state-dict key
    (dotted). Its type's axes are the `repeat` axes along which it is untied.
    """

    name: str
    key: str
    type: Type
    init: Init
    frozen: bool = False
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class State:
    """A value that some equation reads at an earlier (or later) step.

    Its update is the equation of the same name. `initial` is what a shift outside
    reads. `carried` are the axes along which it is shifted anywhere in the model.
    """

    name: str
    type: Type
    initial: Node
    carried: frozenset[str]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Equation:
    """`name = expr`; `scope` are the `repeat` axes it stands in, outermost first.

    `written` is False for one that the compiler introduced (a shared argument of a
    def, an inlined sub-layer).
    """

    name: str
    expr: Node
    scope: tuple[str, ...] = ()
    written: bool = True
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """An axis made by `repeat axis in count while condition:`.

    `count` is a size, or an int per-call value (run time). With a condition, a position whose
    `condition` is false before a step keeps all its states from then on; condition is evaluated
    at the index of the step about to run and reads states at `[n-1]`. The loop ends
    when no position goes on, or after `count` steps.
    """

    axis: str
    count: Size | Node
    condition: Node | None
    scope: tuple[str, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A sub-layer with its own parameters; `name` is its path in the state dict.

    `options` gives the callee's options in terms of ours; `scope` are the `repeat` axes along
    which it is untied.
    """

    name: str
    model: Model
    options: tuple[tuple[str, Size], ...]
    scope: tuple[str, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class CallSite:
    """One application of an instance, with time state of its own.

    `args` maps the callee's input names to values whose dims are *ours*; `dims` maps the callee's
    dim names to ours, for inputs and results.
    """

    name: str
    instance: str
    args: tuple[tuple[str, Node], ...]
    dims: tuple[tuple[str, str], ...]
    scope: tuple[str, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a user gets back, in declared order."""

    name: str
    expr: Node
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Extern:
    """Signature of an extern op: argument types and result type."""

    name: str
    args: tuple[tuple[str, Type], ...]
    result: Type
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Monoid:
    """A claim: a step of `states` along `axis` is an element of a declared monoid.

    Each state is read at `offset` only. An element has `fields` (name and type); that of
    the step is `leaf`, the one that changes nothing `identity`. `combine` gives the
    fields of two elements in a row over `Ref`s called `first.0`, `second.0` and so on,
    `read` the states after an element over `before.0`, … and `element.0`, …. Where the
    states are themselves an element, `read` is `combine`, and `free` says so.
    """

    name: str
    states: tuple[str, ...]
    axis: str
    offset: int
    fields: tuple[tuple[str, Type], ...]
    leaf: tuple[Node, ...]
    identity: tuple[Node, ...]
    combine: tuple[Node, ...]
    read: tuple[Node, ...]
    free: bool
    commutes: bool
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Model:
    """One layer, names resolved, axes, dims and dtypes solved.

    `dims` gives every dim's extent over the options. `copies` are the copies of time.
    `doc` is the comment block above the layer.
    """

    name: str
    options: tuple[Option, ...]
    dims: Mapping[str, Size]
    inputs: tuple[Input, ...]
    params: tuple[Param, ...]
    states: tuple[State, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Output, ...]
    repeats: tuple[Repeat, ...] = ()
    instances: tuple[Instance, ...] = ()
    calls: tuple[CallSite, ...] = ()
    externs: tuple[Extern, ...] = ()
    monoids: tuple[Monoid, ...] = ()
    copies: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    doc: str = ""
    span: Span = field(default=NOWHERE, compare=False, repr=False)

    @cached_property
    def equation(self) -> Mapping[str, Equation]:
        """Equations by name."""
        return {e.name: e for e in self.equations}

    @cached_property
    def state(self) -> Mapping[str, State]:
        """States by name."""
        return {s.name: s for s in self.states}

    @cached_property
    def param(self) -> Mapping[str, Param]:
        """Parameters by name."""
        return {p.name: p for p in self.params}

    @cached_property
    def input(self) -> Mapping[str, Input]:
        """Inputs by name."""
        return {i.name: i for i in self.inputs}

    @cached_property
    def repeat(self) -> Mapping[str, Repeat]:
        """Repeats by axis."""
        return {r.axis: r for r in self.repeats}

    @cached_property
    def instance(self) -> Mapping[str, Instance]:
        """Sub-layers by name."""
        return {i.name: i for i in self.instances}

    @cached_property
    def call(self) -> Mapping[str, CallSite]:
        """Call sites by name."""
        return {c.name: c for c in self.calls}
