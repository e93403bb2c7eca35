"""Equations of one step of a stream as a region: what states were before is read.

A block has no loops along time or depth: whatever its equations read of elsewhere, such
as earlier steps, is an input under a key of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Scalar, evaluate
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.walk import children, subtree, with_children
from seqdsl.schedule.cut import Allowed
from seqdsl.schedule.halves import in_reals
from seqdsl.schedule.region import Region
from seqdsl.schedule.sized import bound

Key = tuple[str | int, ...]
"""What an input of a block stands for: `(kind, …)` with one of these kinds.

`ref NAME`, `result CALL OUTPUT`: a value of this step. `lag STEPS ref NAME …`: of an
earlier one. `before AXIS ref NAME …`, `at AXIS PLACE ref NAME …`: of another step of a
repeat (PLACE -1: the last). `position AXIS`: the index along an axis.
"""


@dataclass(frozen=True)
class Block:
    """A region, and what each of its inputs stands for; complex ones are two inputs."""

    region: Region
    reads: tuple[Key, ...]


def key_of(arg: ir.Ref | ir.Result) -> Key:
    """The key of a value at this step."""
    if isinstance(arg, ir.Ref):
        return ("ref", arg.name)
    return ("result", arg.call, arg.output)


def in_block(expr: ir.Node, allowed: Allowed) -> bool:
    """Whether a block can hold an equation: `allowed` says what kernels have."""
    return all(_fits(node, allowed) for node in subtree(expr))


def _fits(node: ir.Node, allowed: Allowed) -> bool:
    match node:
        case ir.Ref() | ir.Result() | ir.Const():
            return True
        case ir.Shift(axis=axis, offset=offset):
            return offset < 0 if axis == TIME else offset == -1
        case ir.At(axis=axis, index=index):
            return axis != TIME and (index is None or isinstance(index, ir.Const))
        case _ if node.type.dtype == "complex":
            return allowed(node)
        case ir.Position() | ir.Merge() | ir.SliceDim():
            return True
        case ir.Gather(index=index):
            return not index.type.dims and isinstance(index, ir.Ref | ir.Const)
        case ir.Conv(axes=axes, ahead=ahead):
            return axes == (TIME,) and not ahead
        case _:
            return allowed(node)


def make_block(
    name: str,
    equations: Iterable[tuple[str, ir.Node, tuple[str, ...]]],
    outputs: Iterable[str],
    axes: Mapping[Key, bool],
    sizes: Mapping[str, Scalar],
) -> Block:
    """The block of `equations` (name, value, dims in memory); `outputs` are read outside.

    `axes` says of keys that are the same for all sequences that they are (False).
    """
    found = list(equations)
    outliner = _Outliner({n for n, _, _ in found}, axes, sizes)
    made: list[ir.Equation] = []
    for name_, expr, dims in found:
        expr = outliner.take(expr)
        expr = replace(expr, type=replace(expr.type, dims=dims))
        made.append(ir.Equation(name=name_, expr=expr))
    types = {e.name: e.expr.type for e in made}
    dims = {d: s for e in made for n in subtree(e.expr) for d, s in _dims(n, sizes)}
    model = ir.Model(
        name=name,
        options=(),
        dims=dims,
        inputs=tuple(outliner.inputs.values()),
        params=(),
        states=(),
        equations=tuple(made),
        outputs=tuple(ir.Output(name=n, expr=build.ref(n, types[n])) for n in outputs),
    )
    region = Region(
        name=name,
        model=model,
        direction="forward",
        states=(),
        steps=tuple(e.name for e in made),
        still=True,
    )
    return Block(in_reals(bound(region, sizes)), tuple(outliner.inputs))


def _dims(node: ir.Node, sizes: Mapping[str, Scalar]) -> Iterable[tuple[str, Lit]]:
    """Dims of a node with their extents; those of its operands are found there."""
    return ((d, Lit(sizes[d])) for d in node.type.dims if d in sizes)


@dataclass
class _Outliner:
    names: set[str]
    axes: Mapping[Key, bool]
    sizes: Mapping[str, Scalar]
    inputs: dict[Key, ir.Input] = field(default_factory=dict[Key, ir.Input])

    def take(self, node: ir.Node) -> ir.Node:
        """`node` with everything outside of the block as an input."""
        match node:
            case ir.Ref(name=name) if name in self.names:
                return replace(node, type=_kept(node.type))
            case ir.Ref() | ir.Result():
                return self._input(key_of(node), node.type)
            case ir.Shift(arg=arg, axis=axis, offset=offset):
                kind: Key = ("lag", -offset) if axis == TIME else ("before", axis)
                return self._input((*kind, *key_of(arg)), node.type)
            case ir.At(arg=arg, axis=axis, index=index):
                place = -1
                if isinstance(index, ir.Const):
                    place = int(self._number(index))
                return self._input(("at", axis, place, *key_of(arg)), node.type)
            case ir.Position(along=along) if not node.type.dims:
                return self._input(("position", along), node.type)
            case ir.OneHot(index=index, dim=dim):
                place = build.position(dim, axis=False)
                same = build.map_("eq", self.take(index), place)
                return build.map_("float", same)
            case _:
                new = tuple(map(self.take, children(node)))
                node = with_children(node, new) if new else node
                return replace(node, type=_kept(node.type))

    def _number(self, node: ir.Const) -> float:
        value = evaluate(node.value, self.sizes)
        assert not isinstance(value, str)
        return value

    def _input(self, key: Key, type_: Type) -> ir.Node:
        if key not in self.inputs:
            shared = not self.axes.get(key, True)
            axes = frozenset[str]() if shared else frozenset([BATCH])
            name = "in." + ".".join(map(str, key))
            self.inputs[key] = ir.Input(name=name, type=replace(type_, axes=axes))
        known = self.inputs[key]
        return build.ref(known.name, known.type)


def _kept(type_: Type) -> Type:
    return replace(type_, axes=type_.axes & {BATCH, TIME})


def tapped(equation: ir.Equation, sizes: Mapping[str, Scalar]) -> ir.Node:
    """The value of a convolution along time as a sum over its taps.

    The equation `NAME.taken` is what it is taken of; earlier steps are `lag`s of that.
    """
    conv = equation.expr
    assert isinstance(conv, ir.Conv)
    (tap,) = conv.taps
    count, dilation = int(sizes[tap]), int(_scalar(conv.dilation, sizes))
    source = build.ref(f"{equation.name}.taken", conv.arg.type)
    terms: list[ir.Node] = []
    for i in range(count):
        back = (count - 1 - i) * dilation
        value = source if back == 0 else build.shift(source, TIME, -back)
        weight = build.gather(conv.weight, tap, build.const(i))
        terms.append(build.contract((value, weight), conv.reduce))
    total = terms[0]
    for term in terms[1:]:
        total = build.map_("add", total, term)
    return total


def _scalar(size: object, sizes: Mapping[str, Scalar]) -> float:
    value = evaluate(size, sizes)  # pyright: ignore[reportArgumentType]
    assert not isinstance(value, str)
    return value
