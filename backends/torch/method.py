"""One method of a generated class while it is being written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from seqdsl.backends.torch.by_segment import by_segment
from seqdsl.backends.torch.exact import Positional
from seqdsl.backends.torch.lines import WIDTH, layout
from seqdsl.backends.torch.names import Names
from seqdsl.backends.torch.python import TIGHT, Atom, Expr, Item, call, one_line
from seqdsl.backends.torch.sizes import size_code
from seqdsl.backends.torch.values import Value, ordered
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Apply, Lit, Opt, Size
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import subtree
from seqdsl.source import NOWHERE, Span

if TYPE_CHECKING:
    from seqdsl.backends.torch.kernels import Kernels

Key = tuple[str | int, ...]
"""What a value is: ("ref", name), ("shift", name, axis, offset), ("position", axis)."""


_WHOLE = frozenset(("conv", "conv_next", "history", "copy", "blank", "past"))
"""Keys of values whose time dimension is a stretch of the past, not the sequence."""

ROWS = "all_t.shape[1]"
"""How many steps a copy of time has."""


@dataclass
class Layer:
    """What all methods of a class share: how `self` holds options and parameters."""

    model: ir.Model
    attributes: dict[str, str]
    paths: dict[str, str]
    linears: set[str]
    helpers: set[str] = field(default_factory=set[str])
    fused: frozenset[str] = frozenset()
    hoisted: dict[str, ir.Node] = field(default_factory=dict[str, ir.Node])
    kernels: Kernels | None = None

    @cached_property
    def by_segment(self) -> frozenset[str]:
        """Values without a time axis that are one for each segment."""
        return by_segment(self.model)

    @cached_property
    def positional(self) -> Positional:
        """Which expressions are made of positions alone."""
        return Positional(self.model)

    @cached_property
    def unrounded(self) -> frozenset[str]:
        """Names of such values that are kept as exact as they are computed."""
        return self.positional.shared()

    @cached_property
    def _shifts(self) -> Counter[tuple[ir.Node, str, int]]:
        exprs = [e.expr for e in (*self.model.equations, *self.model.outputs)]
        nodes = (n for e in exprs for n in subtree(e) if isinstance(n, ir.Shift))
        return Counter((n.arg, n.axis, n.offset) for n in nodes)

    def reads_again(self, node: ir.Shift) -> bool:
        """Whether more than one place of the layer reads what `node` does."""
        return self._shifts[node.arg, node.axis, node.offset] > 1

    def option(self, name: str) -> Expr:
        """An option or dim, inside a method."""
        if name not in self.attributes:
            raise KeyError(name)
        return Atom(f"self.{self.attributes[name]}")

    def extent(self, dim: str) -> Expr:
        """The extent of a dim, inside a method."""
        size = self.model.dims.get(dim)
        if isinstance(size, Opt) and size.name != dim:
            return self.extent(size.name)
        if isinstance(size, Lit):
            return Atom(str(size.value))
        if size is None and dim.isdigit():
            return Atom(dim)
        return self.option(dim)


@dataclass
class Method:
    """Statements of one method, and what the names of the model are in it.

    `in_time` is True where tensors have no time dimension: in `step` and in the body of
    a loop along time. There, `outer` is what was known before the loop, and `seen` how
    many steps a copy of time has so far, where the loop makes copies of its own. What is
    made of positions alone is written while `exact`.
    """

    layer: Layer
    names: Names
    in_time: bool = False
    lines: list[str] = field(default_factory=list[str])
    indent: int = 8
    env: dict[Key, Value] = field(default_factory=dict[Key, Value])
    steps: dict[str, str] = field(default_factory=dict[str, str])
    holders: dict[str, str] = field(default_factory=dict[str, str])
    needed: dict[str, None] = field(default_factory=dict[str, None])
    zipped: dict[str, str] = field(default_factory=dict[str, str])
    bases: dict[str, str] = field(default_factory=dict[str, str])
    next: dict[str, Expr] = field(default_factory=dict[str, Expr])
    current: str = ""
    making: bool = False
    exact: bool = False
    looping: bool = False
    outer: Mapping[Key, Value] = field(default_factory=dict[Key, Value])
    seen: str = ""

    @property
    def model(self) -> ir.Model:
        """The model whose method this is."""
        return self.layer.model

    def size(self, size: Size) -> Expr:
        """Option arithmetic inside this method."""
        if isinstance(size, Opt):
            return (
                self.layer.extent(size.name)
                if (size.name in self.model.dims)
                else self.layer.option(size.name)
            )
        return size_code(size, lambda name: self.size(Opt(name)))

    def whole(self, size: Size) -> Expr:
        """The same where Python needs an int: `/` makes floats, here of whole numbers."""
        code = self.size(size)
        return call("int", code) if _divides(size) else code

    def helper(self, name: str) -> str:
        """The name of a function that the file then has."""
        self.layer.helpers.add(name)
        return name

    def need(self, name: str) -> Expr:
        """A local set up at the top of the method: batch, time, dtype, device."""
        self.needed[name] = None
        return Atom(name)

    def need_position(self) -> Expr:
        """The position of every step in its segment, `[batch, time]`."""
        self.needed["t"] = None
        return Atom("t")

    # ---- Values

    def find(self, *key: str | int) -> Value | None:
        """What `key` stands for; inside a loop along time, its current step."""
        value = self.env.get(key)
        if key == ("position", TIME):
            self.needed["t"] = None
        if value is None or not self.looping:
            return value
        outside = self.seen and self.outer.get(key) is value
        if TIME in value.layout and key[0] not in _WHOLE:
            value = self._stepped(key, value)
        return self._until_now(key, value) if outside else value

    def _until_now(self, key: Key, value: Value) -> Value:
        """Of copies of time made before the loop, what those made in it have as well."""
        copies = (*self.model.copies, *([TIME] if key[0] == "copy" else []))
        places = [i for i, n in enumerate(value.layout) if n in copies]
        if not places:
            return value
        cuts = [f":{self.seen}" if i in places else ":" for i in range(max(places) + 1)]
        cut = value.at(Item(value.code, ", ".join(cuts)))
        self.env[key] = cut
        return cut

    def look(self, *key: str | int) -> Value:
        """The same for what must be known."""
        value = self.find(*key)
        if value is None:
            raise UnsupportedError(f"{key} is not known here")
        return value

    def _stepped(self, key: Key, value: Value) -> Value:
        """One step of a whole sequence: the loop runs over it."""
        source = one_line(value.code, TIGHT)
        if value.even:
            whole = call(self.helper("_expand_time"), value.code, self.need("time"))
            source = one_line(whole)
        if source not in self.zipped:
            base = source if source.isidentifier() else str(key[1])
            self.zipped[source] = self.names.new(f"{base}_t")
        rest = tuple(n for n in value.layout if n != TIME)
        step = Value(Atom(self.zipped[source]), rest, value.dtype)
        self.env[key] = step
        return step

    # ---- Statements

    def write(
        self, head: str, expr: Expr, tail: str = "", span: Span = NOWHERE
    ) -> None:
        """A statement, with the spec's line behind it where there is one."""
        lines = layout(head, expr, tail, self.indent)
        place = where(span)
        if place and len(lines[0]) + len(place) + 4 <= WIDTH:
            lines[0] += f"  # {place}"
        elif place:
            lines.insert(0, f"{' ' * self.indent}# {place}")
        self.lines += lines

    def line(self, text: str) -> None:
        """A line as it stands."""
        self.lines.append(f"{' ' * self.indent}{text}" if text else "")

    def block(self, opening: str) -> Block:
        """Lines under `opening:`."""
        self.line(opening)
        return Block(self)

    def local(self, name: str, varies: bool) -> str:
        """A new local for `name`; one step of what varies along time is `name_t`."""
        return self.names.new(f"{name}_t" if varies and self.in_time else name)

    def bind(self, name: str, value: Value, span: Span = NOWHERE) -> Value:
        """`value` under a local name."""
        self.write(f"{name} = ", value.code, "", span)
        return value.at(Atom(name))

    def lead(self, axes: frozenset[str]) -> tuple[str, ...]:
        """Leading dimensions of a tensor along `axes`, here."""
        kept = axes - {TIME} if self.in_time else axes
        return ordered(kept, (), self.model.copies)

    def extents(self, dims: Sequence[str]) -> list[Expr]:
        """Extents of `dims`; copies of time have all steps seen."""
        return [
            Atom(ROWS) if d in self.model.copies else self.layer.extent(d) for d in dims
        ]


@dataclass
class Block:
    """Indents what is written inside a `with`."""

    method: Method

    def __enter__(self) -> None:
        self.method.indent += 4

    def __exit__(self, *_: object) -> None:
        self.method.indent -= 4


def where(span: Span) -> str:
    """`gru.seq:6`."""
    if span is NOWHERE or not span.source.text:
        return ""
    name = span.source.name.replace("\\", "/").rsplit("/", 1)[-1]
    name = " ".join(name.split())
    return f"{name}:{span.line}"


def _divides(size: Size) -> bool:
    """Whether Python may find a float where the value is a whole number."""
    if not isinstance(size, Apply):
        return False
    return size.op in ("/", "**", "sqrt") or any(map(_divides, size.args))
