"""Expressions seen from where a gradient is wanted.

A gradient is found where a value is read, and wanted where it was made: at the mirrored
step of a `repeat`, which is walked from its end, or at the step of time that a copy of
the time axis ran over. Here what an expression reads is read from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from seqdsl.diagnostics import UnsupportedError
from seqdsl.differentiate.draft import Draft
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME, Type
from seqdsl.ir.walk import children, with_children

Axes = Mapping[str, str]
"""New axes by old ones: mirrors of repeats, copies of time for time and back."""


def mirrors(draft: Draft) -> Axes:
    """Every repeat walked backward."""
    return {r.axis: draft.mirror(r.axis).axis for r in draft.model.repeats}


def swapped(draft: Draft, copy: str) -> Axes:
    """Time takes the place of a copy, and another copy that of time."""
    return {copy: TIME, **from_elsewhere(draft, copy)}


def from_elsewhere(draft: Draft, name: str) -> Axes:
    """A copy, called after `name`, in the place of time: every step, seen from one."""
    key = "copy", name
    if key not in draft.shared:
        copy = draft.name(f"{name}_back")
        draft.copies.append(copy)
        draft.shared[key] = build.ref(copy, Type("int"))
    return {TIME: draft.shared[key].name}


@dataclass(frozen=True)
class Relocation:
    """Expressions of a draft's model with their axes replaced by `axes`."""

    draft: Draft
    axes: Axes

    def types(self, type_: Type) -> Type:
        """A type along the new axes."""
        return replace(type_, axes=self.along(type_.axes))

    def along(self, axes: frozenset[str]) -> frozenset[str]:
        """Old axes as new ones."""
        return frozenset(self.axes.get(a, a) for a in axes)

    def node(self, node: ir.Node) -> ir.Node:
        """`node`, whose value at the old index this has at the new one."""
        if not node.type.axes & self.axes.keys():
            return node
        match node:
            case ir.Ref():
                return self._read(node)
            case ir.Position(along=along):
                return self._index(node, along)
            case ir.Copy(arg=arg, copy=copy):
                inner = Relocation(self.draft, self._without((TIME,)))
                read = inner.node(arg)
                assert isinstance(read, ir.Ref)
                to = self.axes.get(copy, copy)
                return read if to == TIME else build.copy(read, to, node.span)
            case ir.Shift() | ir.At() | ir.Stack() | ir.Sample():
                return self._read(self._named(node))
            case ir.Reduce(over=over) | ir.Contract(over=over) if self._binds(node):
                self._check_capture(node, over)
                inner = Relocation(self.draft, self._without(over))
                return inner._below(node)
            case ir.Along(over=over) if TIME in map(self.axes.get, over):
                return self._along_time(node)
            case ir.Along(over=over):
                turned = tuple(self.axes.get(a, a) for a in over)
                below = self._below(node)
                assert isinstance(below, ir.Along)
                return replace(below, over=turned)
            case _:
                return self._below(node)

    def _along_time(self, node: ir.Along) -> ir.Node:
        """An operator along a copy, at the entry that stands for the current step.

        It runs along one more copy, of which the entry is picked.
        """
        (copy,) = (a for a in node.over if self.axes.get(a) == TIME)
        entry = from_elsewhere(self.draft, f"{copy}_at")[TIME]
        inner = Relocation(self.draft, {**self.axes, copy: entry})
        moved = inner._below(node)
        assert isinstance(moved, ir.Along)
        over = tuple(entry if a == copy else a for a in node.over)
        every = replace(moved, over=over)
        here, there = (build.position(a, axis=True) for a in (TIME, entry))
        chosen = build.map_("float", build.map_("eq", here, there))
        return build.contract((chosen, every), (entry,), node.span)

    def _below(self, node: ir.Node) -> ir.Node:
        old = children(node)
        new = tuple(map(self.node, old))
        if all(a is b for a, b in zip(old, new, strict=True)):
            return node
        return replace(with_children(node, new), type=self.types(node.type))

    def _binds(self, node: ir.Node) -> bool:
        held = isinstance(node, ir.Reduce | ir.Contract)
        return held and any(a in self.axes for a in node.over)

    def _without(self, axes: tuple[str, ...]) -> Axes:
        return {a: b for a, b in self.axes.items() if a not in axes}

    def _check_capture(self, node: ir.Node, over: tuple[str, ...]) -> None:
        inner = {b for a, b in self.axes.items() if a not in over}
        if inner & set(over):
            raise UnsupportedError("a sum over time inside of one over a copy of it")

    def _index(self, node: ir.Node, along: str) -> ir.Node:
        if along not in self.axes:
            return replace(node, type=self.types(node.type))
        if along in self.draft.model.repeat:
            return self.draft.back(along)
        return build.position(self.axes[along], axis=True)

    def _named(self, node: ir.Node) -> ir.Ref:
        """A read of another step, under a name of its own."""
        draft = self.draft
        if node not in draft.shared:
            name = draft.name(_name(node))
            scope = draft.scope_of(node.type.axes)
            draft.shared[node] = draft.define(name, node, node.type, scope, node.span)
        return draft.shared[node]

    def _read(self, ref: ir.Ref) -> ir.Node:
        """A value by name at the new index: first each repeat, then time."""
        draft = self.draft
        for axis in draft.scope_of(ref.type.axes & self.axes.keys()):
            key = ref.name, axis
            if key not in draft.shared:
                ref = build.ref(ref.name, ref.type, ref.span)
                there = build.at(ref, axis, draft.back(axis), ref.span)
                name = draft.name(f"{ref.name}_back")
                scope = draft.scope_of(there.type.axes)
                draft.shared[key] = draft.define(
                    name, there, there.type, scope, ref.span
                )
            ref = draft.shared[key]
        if TIME in ref.type.axes and TIME in self.axes:
            return build.copy(ref, self.axes[TIME], ref.span)
        return ref


def _name(node: ir.Node) -> str:
    match node:
        case ir.Shift(arg=ir.Ref(name=name), offset=offset):
            far = "" if abs(offset) == 1 else str(abs(offset))
            return f"{name}_{'prev' if offset < 0 else 'next'}{far}"
        case ir.At(arg=ir.Ref(name=name)) | ir.Stack(arg=ir.Ref(name=name)):
            return f"{name}_there"
        case _:
            return "value"
