"""A layer at work: its named values as functions of an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from seqdsl.backends.reference.named import DTYPES, cast, spread
from seqdsl.backends.reference.session import Index, Key, Session, remember
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import Bound, bind_instance
from seqdsl.ir.build import shift
from seqdsl.ir.sizes import Apply, Lit, Opt
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.values import type_of


class World(Protocol):
    """Where a frame's numbers come from: evaluation of nodes, parameters, chance."""

    def evaluate(self, frame: Frame, node: ir.Node, index: Index) -> Tensor: ...
    def parameter(self, frame: Frame, param: ir.Param, index: Index) -> Tensor: ...
    def draw(self, frame: Frame, node: ir.Sample, index: Index) -> Tensor: ...


@dataclass(frozen=True)
class Probe:
    """An independent variable for `grad`: what is read as `wrt` at `at` is moved."""

    wrt: ir.Shift | ir.Ref
    at: Index
    moved: Tensor

    def hits(self, node: ir.Node, index: Index) -> bool:
        """Whether reading `node` at `index` reads the variable."""
        here = all(index.get(a) == i for a, i in self.at.items())
        return here and _place(node) is not None and _place(node) == _place(self.wrt)


def _place(node: ir.Node) -> tuple[str, ...] | None:
    """What a reference reads, apart from types."""
    match node:
        case ir.Ref(name=name):
            return (name,)
        case ir.Result(call=call, output=output):
            return (call, output)
        case ir.Shift(arg=arg, axis=axis, offset=offset):
            return (*(_place(arg) or ()), axis, str(offset))
        case _:
            return None


@dataclass
class Frame:
    """One application of a layer: values by name and index, each computed once.

    `calls` and `steps` are the call sites that led here and their repeat steps,
    outermost first. With a `base` this frame evaluates the current step anew, a step
    along the axes `fixed`, while everything at other steps is read from `base`, which
    knows nothing of the `probe`.
    """

    session: Session
    world: World
    model: ir.Model
    bound: Bound
    read_input: Callable[[str, Index], Tensor]
    prefix: str = ""
    calls: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    base: Frame | None = None
    probe: Probe | None = None
    fixed: frozenset[str] = frozenset()
    memo: dict[Key, Tensor] = field(default_factory=dict[Key, Tensor])
    callees: dict[Key, Frame] = field(default_factory=dict[Key, "Frame"])
    taken: dict[Key, tuple[int, bool]] = field(
        default_factory=dict[Key, tuple[int, bool]]
    )

    # ---- Values by name

    def evaluate(self, node: ir.Node, index: Index) -> Tensor:
        """`node` at `index`: `[dims]` in the order of its type."""
        return self.world.evaluate(self, node, index)

    def remember(
        self, name: str, index: Index, axes: frozenset[str], define: Define
    ) -> Tensor:
        """`define` of the part of `index` that matters, computed once for each."""
        at = self.restrict(index, axes)
        key: Key = (name, *sorted(at.items()))
        lasting = self.base is None
        return remember(self.session, self.memo, key, partial(define, at), lasting)

    def restrict(self, index: Index, axes: frozenset[str]) -> Index:
        """`index` along `axes`; with segments every value may depend on the run."""
        keep = axes | {BATCH} if self.session.segmented else axes
        return {a: i for a, i in index.items() if a in keep}

    def type_of(self, name: str) -> Type:
        """The type of what `name` stands for, with all axes it may vary along."""
        return type_of(self.model, name)

    def value(self, name: str, index: Index) -> Tensor:
        """Input, parameter, state or equation `name` at `index`."""
        type_ = self.type_of(name)
        return self.remember(name, index, type_.axes, partial(self._define, name))

    def _define(self, name: str, index: Index) -> Tensor:
        if name in self.model.param:
            return self.world.parameter(self, self.model.param[name], index)
        if name in self.model.input:
            return self.read_input(name, index)
        if name in self.model.state:
            state = self.model.state[name]
            for axis in state.carried & self.model.repeat.keys():
                if index[axis] > self.steps_taken(axis, index, index[axis]):
                    before = shift(ir.Ref(name=name, type=state.type), axis, -1)
                    return self.evaluate(before, index)
        return self.fit(self.model.equation[name].expr, index, self.type_of(name))

    def fit(self, node: ir.Node, index: Index, type_: Type) -> Tensor:
        """`node` at `index` with the dims and dtype of `type_`."""
        value = cast(self.evaluate(node, index), type_.dtype)
        return spread(value, node.type.dims, type_.dims, self.bound.dims)

    # ---- Along axes

    def ends(self, axis: str, index: Index) -> tuple[int, int]:
        """First and last index of `axis`; copies of time run along the same steps."""
        if axis == BATCH:
            return 0, len(self.session.runs) - 1
        if axis in self.model.repeat:
            count = self.model.repeat[axis].count
            if isinstance(count, Lit | Opt | Apply):
                return 1, self.bound.whole(count)
            return 1, int(self.evaluate(count, index))
        return 0, self.session.length(index) - 1

    def value_at(
        self, arg: ir.Ref | ir.Result, axis: str, index: Index, i: int
    ) -> Tensor:
        """`arg` at `i` of `axis`; outside, a state's initial value or else zeros."""
        first, last = self.ends(axis, index)
        if first <= i <= last:
            return self.evaluate(arg, {**index, axis: i})
        if isinstance(arg, ir.Ref) and arg.name in self.model.state:
            elsewhere = {a: i for a, i in index.items() if a != axis}
            state = self.model.state[arg.name]
            value = self.fit(state.initial, elsewhere, state.type)
            return spread(value, state.type.dims, arg.type.dims, self.bound.dims)
        return self.zeros(arg.type)

    def zeros(self, type_: Type) -> Tensor:
        """Zeros (false) of a type."""
        return torch.zeros(self.extents(type_.dims), dtype=DTYPES[type_.dtype])

    def extents(self, dims: Sequence[str]) -> list[int]:
        """Extents of `dims`."""
        return [self.bound.dims[d] for d in dims]

    def steps_taken(self, axis: str, index: Index, most: int) -> int:
        """Steps of the repeat `axis` before a condition was false, up to `most`."""
        if self.base is not None:
            return self.base.steps_taken(axis, index, most)
        condition = self.model.repeat[axis].condition
        if condition is None:
            return most
        at = self.restrict(index, condition.type.axes - {axis})
        key: Key = (axis, *sorted(at.items()))
        taken, over = self.taken.get(key, (0, False))
        while not over and taken < most:
            over = not bool(self.evaluate(condition, {**at, axis: taken + 1}))
            taken += not over
            self.taken[key] = taken, over
        return min(taken, most)

    # ---- Sub-layers

    def result(self, call: str, output: str, index: Index) -> tuple[Tensor, Type]:
        """An output of a call site, and its type in the sub-layer's own terms."""
        site = self.model.call[call]
        callee = self.callee(site, index)
        expr = next(o.expr for o in callee.model.outputs if o.name == output)
        inside = {a: i for a, i in index.items() if a in (BATCH, TIME)}

        def define(at: Index) -> Tensor:
            return callee.evaluate(expr, at)

        name = f"output {output}"
        return callee.remember(name, inside, expr.type.axes, define), expr.type

    def callee(self, site: ir.CallSite, index: Index) -> Frame:
        """The sub-layer at work at `site`: one for each index of our axes there."""
        axes = frozenset(site.scope).union(*(a.type.axes for _, a in site.args))
        outer = {a: i for a, i in index.items() if a in axes - {BATCH, TIME}}
        key: Key = (site.name, *sorted(outer.items()))
        if key not in self.callees:
            self.callees[key] = self._enter(site, outer)
        return self.callees[key]

    def _enter(self, site: ir.CallSite, outer: Index) -> Frame:
        read_input = partial(self._argument, site, outer)
        if self.base is not None:
            base = self.base.callee(site, outer)
            fresh = replace(base, memo={}, callees={}, taken={})
            fixed = frozenset((BATCH, TIME))
            return replace(fresh, base=base, fixed=fixed, read_input=read_input)
        instance = self.model.instance[site.instance]
        return Frame(
            self.session,
            self.world,
            instance.model,
            bind_instance(instance, self.bound),
            read_input,
            prefix=f"{self.prefix}{fill(instance.name, outer)}.",
            calls=(*self.calls, site.name),
            steps=(*self.steps, *(outer[a] for a in site.scope if a in outer)),
        )

    def _argument(
        self, site: ir.CallSite, outer: Index, name: str, inside: Index
    ) -> Tensor:
        """Input `name` of the sub-layer: our argument with its dims in order."""
        node = dict(site.args)[name]
        there = self.model.instance[site.instance].model.input[name].type
        ours = dict(site.dims)
        dims = tuple(ours.get(d, d) for d in there.dims)
        return self.fit(node, {**outer, **inside}, replace(there, dims=dims))

    # ---- Gradients

    def probed(self, probe: Probe, fixed: frozenset[str]) -> Frame:
        """This frame with the current step to be evaluated anew, under `probe`."""
        fresh = replace(self, memo={}, callees={}, taken={})
        return replace(fresh, base=self, probe=probe, fixed=fixed)

    def leaves_step(self, node: ir.Node) -> bool:
        """Whether `node` reads another step than the one that is evaluated anew.

        Steps of a repeat that stands inside the current step belong to it.
        """
        match node:
            case ir.Shift(axis=axis) | ir.At(axis=axis) | ir.Stack(axis=axis):
                return axis in self.fixed
            case ir.Copy():
                return TIME in self.fixed
            case _:
                return False

    def is_probed(self, node: ir.Node, index: Index) -> bool:
        """Whether `node` at `index` is an independent variable here or below."""
        if self.probe is not None and self.probe.hits(node, index):
            return True
        return self.base is not None and self.base.is_probed(node, index)


Define = Callable[[Index], Tensor]


def fill(template: str, index: Index) -> str:
    """A state-dict key with the steps, from 0, in place of `{axis}`."""
    for axis, i in index.items():
        template = template.replace(f"{{{axis}}}", str(i - 1))
    return template
