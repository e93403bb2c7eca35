"""What a name can mean inside a layer, and where it can be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seqdsl.elaborate.program import Binding, File
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Size
from seqdsl.ir.types import Type
from seqdsl.source import Span
from seqdsl.syntax import ast


@dataclass
class Value:
    """An input, parameter, state or equation; `type` is None until it is known.

    `disputed` when another line defines the name as well, `learned` for a state whose
    initial value has parameters.
    """

    name: str
    kind: str
    span: Span
    scope: tuple[str, ...]
    type: Type | None = None
    statement: ast.Equation | None = None
    place: Scope | None = None
    status: str = "waiting"
    used: bool = False
    disputed: bool = False
    learned: bool = False


@dataclass
class Static:
    """Something known when the layer is made: an option, a dim, a default."""

    size: Size
    span: Span
    dim: str | None = None
    used: bool = False


@dataclass
class Axis:
    """`t` or the axis of a `repeat`."""

    name: str
    span: Span
    used: bool = True


@dataclass
class Bound:
    """An argument of a def: the node that stands for it."""

    node: ir.Node
    span: Span
    used: bool = False


@dataclass
class LayerValue:
    """A layer with its options given, ready to be called: `block = Block(D)`."""

    name: str
    binding: Binding
    options: dict[str, Size]
    dims: dict[str, str]
    scope: tuple[str, ...]
    span: Span
    layers: dict[str, Choice] = field(default_factory=dict[str, "Choice"])
    used: bool = False


@dataclass
class CallValue:
    """The outputs of a layer call, by name."""

    results: dict[str, ir.Node]
    span: Span
    used: bool = False


@dataclass(frozen=True)
class Choice:
    """A layer, with some of its options, as the value of an option; `text` spells it.

    `layers` are those of the options that are layers themselves.
    """

    binding: Binding
    options: Mapping[str, Size]
    layers: Mapping[str, Choice]
    text: str


@dataclass
class LayerOption:
    """An option that is a layer: `mixer` in `layer LM(D, mixer = GLA):`."""

    choice: Choice
    span: Span
    used: bool = False


Entity = Value | Static | Axis | Bound | LayerValue | LayerOption | CallValue


@dataclass
class Scope:
    """Names visible at a place; `axes` are the repeats around it, outermost first.

    `late` holds, at the top of a layer or def, the nodes that name dims in passing, and
    `pending` those that have been looked at.
    """

    file: File
    names: dict[str, Entity] = field(default_factory=dict[str, Entity])
    parent: Scope | None = None
    axes: tuple[str, ...] = ()
    copies: frozenset[str] = frozenset()
    late: dict[str, ast.Ast] = field(default_factory=dict[str, ast.Ast])
    pending: set[str] = field(default_factory=set[str])

    def find(self, name: str) -> Entity | None:
        """The entity that `name` means here."""
        place: Scope | None = self
        while place is not None:
            found = place.names.get(name)
            if found is not None:
                return found
            place = place.parent
        return None

    def is_copy(self, name: str) -> bool:
        """Whether `name` is a copy of the time axis here."""
        place: Scope | None = self
        while place is not None:
            if name in place.copies:
                return True
            place = place.parent
        return False

    def values(self) -> list[Value]:
        """Values declared in this very scope."""
        return [e for e in self.names.values() if isinstance(e, Value)]

    def known(self) -> list[str]:
        """Every name that `find` knows."""
        above = self.parent.known() if self.parent else []
        return [*self.names, *above]


@dataclass
class Site:
    """The equation being elaborated: names what it creates, and where errors go.

    `parametric` is how many calls in it create parameters; `initial` is the type whose initial value
    this is, when it is one; `learned` when the value defined here has parameters of its
    own: those of its initial value.
    """

    name: str
    parametric: int
    span: Span
    taken: dict[str, int] = field(default_factory=dict[str, int])
    initial: Type | None = None
    learned: bool = False
