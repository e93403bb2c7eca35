"""A fused loop along time as a layer of its own, which a kernel computes.

A region has no parameters, no sub-layers and no loops along depth: whatever it reads is
an input, also the values of its states before the first step. What it means is what the
layer means, so that it can be interpreted, differentiated and planned like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh
from seqdsl.ir.sizes import Size
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.walk import children, subtree, with_children
from seqdsl.schedule.plan import Assign, DepthLoop, Direction, TimeLoop, walk
from seqdsl.schedule.repeats import of_step

_KEPT = frozenset((BATCH, TIME))


@dataclass(frozen=True)
class Lag:
    """The state `name`, which after a step is what `state` was `back` - 1 steps before."""

    name: str
    state: str
    back: int


@dataclass(frozen=True)
class Turns:
    """A repeat within a step: `count` steps along `axis`, of the equations in its scope.

    `states` are carried from step to step of it, `stacked` the inputs of which every step
    has an entry along their first dim.
    """

    axis: str
    count: Size
    states: tuple[ir.State, ...]
    stacked: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Region:
    """`model` computes every step; its equations stand in the order in which they run.

    `steps` are the equations of a step, `replay` those of a step that is run again the
    other way by chunks (states among them: `replayed`, the rest in `states`).

    `reads` are the nodes of the surrounding layer that the first inputs stand for, one
    for each; the input `NAME_0` of every state in `states` comes behind them, and with
    `segmented` the bool input `starts` and `NAME_again`, what a state is where a segment
    begins. `still`: it is one step, and what states were before is among its inputs.

    `lags` are states of the region alone, among `states` behind those of the layer: each
    holds what a state of the layer was one step and more before. `turns` are repeats
    within a step, which `sized.bound` writes out.
    """

    name: str
    model: ir.Model
    direction: Direction
    states: tuple[str, ...]
    steps: tuple[str, ...]
    replay: tuple[str, ...] = ()
    replayed: tuple[str, ...] = ()
    still: bool = False
    lags: tuple[Lag, ...] = ()
    turns: tuple[Turns, ...] = ()
    reads: tuple[ir.Node, ...] = field(default=(), compare=False, repr=False)


def identity(region: Region) -> str:
    """Text that is the same for equal regions, in every process."""
    return _SET.sub(_in_order, repr(region))


_SET = re.compile(r"frozenset\(\{([^{}]*)\}\)")


def _in_order(found: re.Match[str]) -> str:
    return f"{{{', '.join(sorted(found[1].split(', ')))}}}"


def outline(
    model: ir.Model,
    loop: TimeLoop,
    outputs: Iterable[str],
    axes: Callable[[ir.Node], frozenset[str]],
) -> Region:
    """The region of `loop`, all of whose steps are equations.

    `outputs` are names that others read at every step; `axes` says along which of batch
    and time the value of a node really varies.
    """
    steps = tuple(s.equation for s in walk(loop.body) if isinstance(s, Assign))
    replay = tuple(s.equation for s in walk(loop.replay) if isinstance(s, Assign))
    every = {e.name: e for e in (*replay, *steps)}
    repeats = [s for s in (*loop.body, *loop.replay) if isinstance(s, DepthLoop)]
    inner = {s.repeat.axis: s for s in repeats}
    outliner = _Outliner(model, set(every), axes, frozenset(inner))
    equations = tuple(map(outliner.equation, every.values()))
    turns = tuple(map(outliner.turns, inner.values()))
    inputs, lags = outliner.inputs(), tuple(outliner.lags.values())
    later = tuple(map(outliner.kept, lags))
    equations = (*equations, *later)
    made = (
        *(_state(model.state[n]) for n in loop.carried),
        *(_state(replace(model.state[g.state], name=g.name)) for g in lags),
        *(_state(model.state[n]) for n in loop.replayed),
    )
    first = tuple(
        ir.Input(name=f"{s.name}_0", type=replace(s.type, axes=frozenset([BATCH])))
        for s in made
    )
    types = {e.name: e.expr.type for e in equations}
    types |= {s.name: s.type for s in made}
    body = ir.Model(
        name=f"{model.name}_{loop.carried[0]}",
        options=model.options,
        dims=model.dims,
        inputs=(*inputs, *first),
        params=(),
        states=made,
        equations=equations,
        outputs=tuple(ir.Output(name=n, expr=build.ref(n, types[n])) for n in outputs),
    )
    return Region(
        name=body.name,
        model=body,
        direction=loop.direction,
        states=(*loop.carried, *(g.name for g in lags)),
        steps=(*(e.name for e in steps), *(e.name for e in later)),
        lags=lags,
        turns=turns,
        replay=tuple(e.name for e in replay),
        replayed=loop.replayed,
        reads=tuple(outliner.found),
    )


def with_floats(region: Region) -> Region:
    """`region` with a number among its inputs that tells the dtype of floats, if none does."""
    model = region.model
    outputs = (o.expr.type.dtype for o in model.outputs)
    if "float" not in outputs or any(i.type.dtype == "float" for i in model.inputs):
        return region
    taken = {i.name for i in model.inputs} | {e.name for e in model.equations}
    like = ir.Input(name=fresh("like", taken), type=Type("float"))
    at = len(region.reads)
    inputs = (*model.inputs[:at], like, *model.inputs[at:])
    reads = (*region.reads, build.const(0.0))
    return replace(region, model=replace(model, inputs=inputs), reads=reads)


def _state(state: ir.State) -> ir.State:
    type_ = replace(state.type, axes=_KEPT)
    first = build.ref(f"{state.name}_0", replace(state.type, axes=frozenset([BATCH])))
    return replace(state, type=type_, initial=first, carried=frozenset([TIME]))


@dataclass
class _Outliner:
    """Replaces what stands outside by inputs."""

    model: ir.Model
    names: set[str]
    axes: Callable[[ir.Node], frozenset[str]]
    inner: frozenset[str] = frozenset()
    found: dict[ir.Node, ir.Input] = field(default_factory=dict[ir.Node, ir.Input])
    lags: dict[tuple[str, int], Lag] = field(default_factory=dict[tuple[str, int], Lag])
    stacked: dict[str, dict[str, None]] = field(
        default_factory=dict[str, dict[str, None]]
    )

    def inputs(self) -> tuple[ir.Input, ...]:
        return tuple(self.found.values())

    def equation(self, equation: ir.Equation) -> ir.Equation:
        scope = tuple(a for a in equation.scope if a in self.inner)
        return replace(equation, expr=self.take(equation.expr), scope=scope)

    def turns(self, step: DepthLoop) -> Turns:
        """A repeat of the loop, all of whose equations are outlined."""
        axis, count = step.repeat.axis, step.repeat.count
        assert not isinstance(count, ir.Base)
        states = tuple(
            replace(state, initial=self.take(state.initial))
            for state in map(self.model.state.__getitem__, step.carried)
        )
        return Turns(axis, count, states, tuple(self.stacked.get(axis, ())))

    def _of_step(self, node: ir.Node) -> ir.Node:
        """A read of one step of a repeat, along its axis alone."""
        match node:
            case ir.Gather(arg=arg, dim=dim, index=index):
                whole = self.take(arg)
                assert isinstance(whole, ir.Ref)
                (axis,) = index.type.axes
                self.stacked.setdefault(axis, {})[whole.name] = None
                return build.gather(whole, dim, index)
            case ir.Shift(arg=arg) | ir.At(arg=arg):
                type_ = replace(node.type, axes=node.type.axes & _KEPT)
                read = self.take(arg)
                assert isinstance(read, ir.Ref)
                return replace(node, arg=read, type=type_)
            case _:
                return node

    def take(self, node: ir.Node) -> ir.Node:
        if of_step(node, self.inner):
            return self._of_step(node)
        match node:
            case ir.Ref(name=name) if name not in self.names:
                return self._input(node, name)
            case ir.Result(call=call, output=output):
                return self._input(node, f"{call}_{output}")
            case ir.Shift(axis=axis) if axis != TIME:
                return self._input(node, "before")
            case ir.Shift(arg=ir.Ref(name=name)) if name not in self.names:
                return self._earlier(node, name)
            case ir.Shift(arg=ir.Ref(name=name), offset=offset) if abs(offset) > 1:
                lag = self._lag(name, abs(offset))
                return self._one_step(lag.name, node, offset)
            case _:
                new = tuple(map(self.take, children(node)))
                node = with_children(node, new) if new else node
                type_ = replace(node.type, axes=node.type.axes & _KEPT)
                return replace(node, type=type_)

    def _lag(self, state: str, back: int) -> Lag:
        """The state from which `state` is read `back` steps before, and those it needs."""
        if back > 2:
            self._lag(state, back - 1)
        if (state, back) not in self.lags:
            name = self._free(f"{state}_back{back}")
            self.names.add(name)
            self.lags[state, back] = Lag(name, state, back)
        return self.lags[state, back]

    def kept(self, lag: Lag) -> ir.Equation:
        """What a lag keeps: the step before of the state, or of the lag before it."""
        state = self.model.state[lag.state]
        before = lag.state if lag.back == 2 else self.lags[lag.state, lag.back - 1].name
        offset = next(
            n.offset
            for e in self.model.equations
            for n in subtree(e.expr)
            if isinstance(n, ir.Shift) and n.arg == build.ref(lag.state, n.arg.type)
        )
        expr = self._one_step(before, state, offset)
        return ir.Equation(name=lag.name, expr=expr)

    @staticmethod
    def _one_step(name: str, like: ir.Node | ir.State, offset: int) -> ir.Node:
        type_ = replace(like.type, axes=_KEPT)
        return build.shift(build.ref(name, type_), TIME, 1 if offset > 0 else -1)

    def _earlier(self, node: ir.Shift, name: str) -> ir.Node:
        """A step earlier of what stands outside; before the first, its initial value."""
        state = self.model.state.get(name)
        stream = self._input(node.arg, name)
        assert isinstance(stream, ir.Ref)
        outside: ir.Node = build.const(0.0)
        if state is not None:
            outside = self.take(state.initial)
        first = build.map_("eq", build.position(TIME, axis=True), build.const(0))
        shifted = build.shift(stream, TIME, node.offset)
        return build.map_("where", first, outside, shifted)

    def _free(self, base: str) -> str:
        """A name like `base` that nothing has."""
        taken = {i.name for i in self.found.values()} | self.names
        taken |= {*self.model.dims, *(o.name for o in self.model.options), "starts"}
        name, number = base, 1
        while name in taken or f"{name}_0" in taken:
            number += 1
            name = f"{base}_{number}"
        return name

    def _input(self, node: ir.Node, base: str) -> ir.Node:
        if node not in self.found:
            name = self._free(base)
            type_ = replace(node.type, axes=self.axes(node) & _KEPT)
            self.found[node] = ir.Input(name=name, type=type_)
        known = self.found[node]
        return build.ref(known.name, known.type)
