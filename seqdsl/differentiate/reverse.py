"""Reverse accumulation over a whole layer: an equation for the gradient of every value.

What an equation reads at `[t-1]` hands its gradient to a step earlier. That gradient,
`d_h_prev` for `h[t-1]`, is a state which the gradient of `h` reads at `[t+1]`: outside
the sequence it is the gradient of the final state, and its value at the first step is
the gradient of the initial state. A `repeat` is walked from its end in the same way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from seqdsl.analysis.visibility import reach_in
from seqdsl.diagnostics import UnsupportedError
from seqdsl.differentiate.active import influenced, smooth
from seqdsl.differentiate.broadcast import ZERO, add, fit, select, spread, typed
from seqdsl.differentiate.copies import upstream
from seqdsl.differentiate.draft import Draft
from seqdsl.differentiate.ends import at_last_step, outside, within
from seqdsl.differentiate.gather import Share, gather
from seqdsl.differentiate.readings import Leaf, readings
from seqdsl.differentiate.relocate import Relocation, from_elsewhere, mirrors, swapped
from seqdsl.differentiate.rows import has_rows, running_rows, summed_rows
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME, Type
from seqdsl.ir.walk import references
from seqdsl.source import NOWHERE, Span

Place = tuple[str, str, int]
"""A value read at another step: its name, the axis, and how many steps away."""


@dataclass
class Reverse:
    """The gradients of the inputs and parameters `wanted` of a draft's model.

    `upstream` are the inputs that give the gradients of outputs, by output, and `names`
    the names of the gradients of values; those in `here` are not 0. `first` are inputs
    that are the value of a state before the first step, of which there must be one.
    """

    draft: Draft
    wanted: Collection[str]
    first: Collection[str] = ()
    here: dict[str, list[Share]] = field(default_factory=dict[str, list[Share]])
    away: dict[Place, list[Share]] = field(default_factory=dict[Place, list[Share]])
    ends: dict[Place, list[Share]] = field(default_factory=dict[Place, list[Share]])
    todo: list[str] = field(default_factory=list[str])
    carries: dict[Place, str] = field(default_factory=dict[Place, str])

    def __post_init__(self) -> None:
        model = self.draft.model
        self.active = influenced(model, self.wanted)
        named = (*model.input, *model.param, *model.equation)
        self.names = {n: self.draft.name(f"d_{n}") for n in named if n in self.active}
        self.upstream = {
            o.name: self._given(o) for o in model.outputs if self._hands(o)
        }
        self.moved = Relocation(self.draft, mirrors(self.draft))

    def _hands(self, output: ir.Output) -> bool:
        return smooth(output.expr.type) and self.reads(output.expr)

    def _given(self, output: ir.Output) -> ir.Input:
        type_ = output.expr.type
        type_ = replace(type_, axes=self.draft.behind(type_.axes))
        name = self.draft.name(f"g_{output.name}")
        return ir.Input(name=name, type=type_, span=output.span)

    def reads(self, node: ir.Node) -> bool:
        """Whether something wanted influences `node`."""
        refs = (r for r in references(node) if isinstance(r, ir.Ref))
        return any(r.name in self.active for r in refs)

    def gradient(self, name: str) -> ir.Ref:
        """The gradient of `name`, by reference."""
        return build.ref(self.names[name], self.draft.gradient_type(name))

    # ---- From what is read to its readers' gradients

    def run(self) -> None:
        """Put the equations of all gradients into the draft."""
        model = self.draft.model
        for output in model.outputs:
            if output.name in self.upstream:
                given = self.upstream[output.name]
                ct = build.ref(given.name, given.type, output.span)
                self._hand_down(output.expr, ct, given.type.axes)
        while self.todo:
            name = self.todo.pop(0)
            if name in model.equation:
                ct = self.gradient(name)
                self._hand_down(model.equation[name].expr, ct, ct.type.axes, name)
        for named in (*model.equations[::-1], *model.params, *model.inputs):
            if named.name in self.here:
                self._define(named.name)

    def _hand_down(
        self, expr: ir.Node, ct: ir.Node, around: frozenset[str], reader: str = ""
    ) -> None:
        """Hand the gradient `ct` of `expr` to everything that `expr` reads.

        `reader` is the equation that is `expr`, if one is.
        """
        ct = fit(ct, expr, self.draft.dims)
        around -= self.draft.dims.copies
        try:
            for found in readings(expr, ct, around, self.draft.dims, self.reads):
                name = source(found.leaf)
                if name not in self.here:
                    self.here[name] = []
                    self.todo.append(name)
                ct = self.draft.mentioned(found.ct)
                share = Share(ct, found.around, found.leaf.type.dims)
                self._take(name, found.leaf, share, reader)
        except build.Issue as issue:
            raise UnsupportedError(f"no adjoint: {issue.message}") from None

    def _take(self, name: str, leaf: Leaf, share: Share, reader: str) -> None:
        """Note a share of the gradient of `name`, seen from where it is wanted."""
        match leaf:
            case ir.Ref():
                self.here[name].append(self._seen(share, self.moved))
            case ir.Copy(copy=copy):
                self.here[name].append(self._copied(name, copy, share, reader))
            case ir.Shift(axis=axis, offset=offset):
                place = name, axis, offset
                self.away.setdefault(place, []).append(self._seen(share, self.moved))
                self._carry(place)
            case ir.At(axis=axis, index=index):
                self._at(name, axis, index, share)
            case ir.Stack(axis=axis, dim=dim):
                seen = self._summed(share, axis)
                step = build.map_("sub", self.draft.back(axis), build.const(1))
                one = build.gather(spread(seen.ct, (dim,)), dim, step)
                dims = tuple(d for d in share.dims if d != dim)
                self.here[name].append(Share(one, seen.around, dims))

    def _copied(self, name: str, copy: str, share: Share, reader: str) -> Share:
        """A share of what `reader` reads along a copy of time."""
        model = self.draft.model
        if reader in upstream(model, name):
            reach = reach_in(model, [model.equation[reader].expr], copy)
            if reach is None:
                raise UnsupportedError(
                    f"`{reader}` reads a copy of `{name}`, which it is itself read for, and "
                    f"nothing says that `{copy} <= t`"
                )
            hint, strict = self.names[name], reach.least > 0
            span = self._span(name)
            seen = self._seen(share, self.moved)
            return running_rows(self.draft, seen, copy, hint, strict, span)
        if has_rows(self.draft, share.ct):
            return summed_rows(self._seen(share, self.moved), copy)
        axes = {**self.moved.axes, **swapped(self.draft, copy)}
        return self._seen(share, Relocation(self.draft, axes))

    def _seen(self, share: Share, moved: Relocation) -> Share:
        return replace(share, ct=moved.node(share.ct), around=moved.along(share.around))

    def _carry(self, place: Place) -> None:
        """A name for what is handed to another step, and what the first steps hand on."""
        if place in self.carries:
            return
        name, axis, offset = place
        far = "" if abs(offset) == 1 else str(abs(offset))
        wanted = f"{self.names[name]}_{'prev' if offset < 0 else 'next'}{far}"
        self.carries[place] = self.draft.name(wanted)
        state = self.draft.model.state.get(name)
        if state is not None and self.reads(state.initial):
            type_ = self.draft.gradient_type(name)
            carry = build.ref(self.carries[place], type_)
            some = (
                isinstance(state.initial, ir.Ref) and state.initial.name in self.first
            )
            ct = outside(self.draft, carry, axis, offset, some)
            self._hand_down(state.initial, ct, type_.axes - {self._back(axis)})

    def _back(self, axis: str) -> str:
        return axis if axis == TIME else self.draft.mirror(axis).axis

    def _at(self, name: str, axis: str, index: ir.Node | None, share: Share) -> None:
        """A read at one step of an axis; step 0 of a repeat is the initial value."""
        if index is not None and axis in index.type.axes:
            self._at_varying(name, axis, index, share)
            return
        share = self._summed(share, axis)
        if index is None:
            self.ends.setdefault((name, axis, -1), []).append(share)
        else:
            index = self.moved.node(index)
            self._only(name, within(self.draft, axis, index), share)
        state = self.draft.model.state.get(name)
        if state is None or axis == TIME or not self.reads(state.initial):
            return
        if index is None:
            self._carry((name, axis, -1))
            return
        none = build.map_("eq", index, build.const(0))
        ct = select(none, share.ct, ZERO)
        self._hand_down(state.initial, ct, share.around)

    def _at_varying(self, name: str, axis: str, index: ir.Node, share: Share) -> None:
        """A read at a step that changes along its own axis."""
        if axis != TIME:
            raise UnsupportedError(
                f"a read of `{name}` at a step of `{axis}` that changes along `{axis}` "
                "has no adjoint yet"
            )
        axes = {**self.moved.axes, **from_elsewhere(self.draft, TIME)}
        moved = Relocation(self.draft, axes)
        condition = within(self.draft, axis, moved.node(index))
        self._only(name, condition, self._seen(share, moved))

    def _summed(self, share: Share, axis: str) -> Share:
        """A share from where it is wanted, summed over its reader's steps of `axis`."""
        seen, axis = self._seen(share, self.moved), self._back(axis)
        if axis not in seen.around:
            return seen
        around, ct = seen.around - {axis}, seen.ct
        type_ = Type(ct.type.dtype, ct.type.dims, around)
        whole = gather(self.draft, [replace(seen, dims=())], type_, "read", NOWHERE)
        assert whole is not None
        return replace(seen, ct=whole, around=around)

    def _only(self, name: str, condition: ir.Node, share: Share) -> None:
        ct = select(condition, share.ct, ZERO)
        self.here[name].append(replace(share, ct=ct))

    # ---- Equations

    def _define(self, name: str) -> None:
        """The equation of the gradient of `name`, and of what it gets from other steps."""
        places = [p for p in self.carries if p[0] == name]
        for place in self.ends:
            if place[0] == name and place not in self.carries:
                condition = at_last_step(self.draft, place[1])
                for share in self.ends[place]:
                    self._only(name, condition, share)
        type_, span = self.draft.gradient_type(name), self._span(name)
        hint = self.names[name]
        total = gather(self.draft, self.here[name], type_, hint, span)
        for place in places:
            carry = build.ref(self.carries[place], type_)
            axis, offset = place[1:]
            step = -offset if axis == TIME else offset
            total = add(total, build.shift(carry, self._back(axis), step))
        assert total is not None
        scope = self.draft.scope_of(type_.axes)
        self.draft.define(hint, total, type_, scope, span)
        for place in places:
            self._define_carry(place, type_, span)

    def _define_carry(self, place: Place, type_: Type, span: Span) -> None:
        """What the reads of a value at one other step hand to it."""
        carry, axis = self.carries[place], self._back(place[1])
        here = gather(self.draft, self.away.get(place, []), type_, carry, span)
        scope = self.draft.scope_of(type_.axes)
        self.draft.define(carry, here or ZERO, type_, scope, span)
        last = replace(type_, axes=type_.axes - {axis})
        final = gather(self.draft, self.ends.get(place, []), last, carry, span)
        initial = ZERO if final is None else typed(final, last)
        self.draft.carry(carry, type_, axis, initial, span)

    def _span(self, name: str) -> Span:
        model = self.draft.model
        named = model.equation.get(name) or model.input.get(name) or model.param[name]
        return named.span


def source(leaf: Leaf) -> str:
    """The name of what is read."""
    ref = leaf if isinstance(leaf, ir.Ref) else leaf.arg
    assert isinstance(ref, ir.Ref)
    return ref.name
