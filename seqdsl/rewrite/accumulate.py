"""Sums over all steps that are kept while the steps run, as states of a loop along time.

The gradient of what is the same at every step is such a sum. What it adds up would have
to be stored for all steps otherwise, which for a matrix state is most of the memory that
a backward pass touches. Products of vectors that become matrices by the sum stay sums: all
steps at once are one product of matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import children, references, subtree, with_children

_ALL = frozenset((BATCH, TIME))


def accumulate(model: ir.Model, again: frozenset[str] = frozenset()) -> ir.Model:
    """`model` with states for sums over all steps of what no step has to store.

    `again` are states that are run again by the loop that goes the other way, so that
    sums of their values go that way too.
    """
    sums = _Sums(model, again)
    equations = [
        e if e.scope else replace(e, expr=sums.take(e.expr, e.name))
        for e in model.equations
    ]
    return replace(
        model,
        equations=(*sums.equations, *equations),
        states=(*model.states, *sums.states),
    )


@dataclass
class _Sums:
    model: ir.Model
    again: frozenset[str]
    equations: list[ir.Equation] = field(default_factory=list[ir.Equation])
    states: list[ir.State] = field(default_factory=list[ir.State])

    def __post_init__(self) -> None:
        self.taken = names_of(self.model)
        self.stored = {
            o.expr.name for o in self.model.outputs if isinstance(o.expr, ir.Ref)
        }

    def take(self, node: ir.Node, base: str) -> ir.Node:
        """`node` with its sums over all steps as the last values of states."""
        if isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy):
            return node
        arg = _summed(node)
        offset = None if arg is None else self._direction(arg)
        if arg is not None and offset is not None:
            return self._last(arg, offset, base)
        old = children(node)
        new = tuple(self.take(c, base) for c in old)
        same = all(a is b for a, b in zip(old, new, strict=True))
        return node if same else with_children(node, new)

    def _last(self, arg: ir.Node, offset: int, base: str) -> ir.Node:
        name = fresh(f"{base}_sum", self.taken)
        type_ = replace(arg.type, axes=_ALL)
        total = build.ref(name, type_)
        update = build.map_("add", build.shift(total, TIME, offset), arg)
        first, carried = build.const(0.0), frozenset([TIME])
        state = ir.State(name=name, type=type_, initial=first, carried=carried)
        self.states.append(state)
        self.equations.append(ir.Equation(name=name, expr=update, span=arg.span))
        end = None if offset < 0 else build.const(0)
        return build.reduce("sum", build.at(total, TIME, end), (BATCH,))

    # ---- Which way a sum runs, if it is worth a state

    def _direction(self, arg: ir.Node) -> int | None:
        """The offset at which its state reads itself; None for what stays a sum."""
        reads = [r for r in references(arg) if isinstance(r, ir.Ref)]
        streams = [r for r in reads if TIME in r.type.axes]
        if any(n.type.axes - _ALL for n in subtree(arg)):
            return None
        if not _wider(arg, streams) and (
            isinstance(arg, ir.Ref) or all(self._at_hand(r.name) for r in streams)
        ):
            return None
        return self._way({r.name for r in reads})

    def _at_hand(self, name: str) -> bool:
        """Whether a value is stored for all steps whether or not a sum reads it."""
        return name not in self.model.equation or name in self.stored

    def _way(self, names: set[str]) -> int | None:
        """The way of the recurrences that `names` are made of."""
        reached = self._reached(names)
        states = [n for n in reached if n in self.model.state]
        moving = {s for s in states if s in self._reached(self._read_by(s))}
        own = self._offsets(moving - self.again)
        if not own:
            own = {-offset for offset in self._offsets(moving & self.again)}
        return next(iter(own)) if len(own) == 1 else None

    def _offsets(self, states: set[str]) -> set[int]:
        nodes = (n for e in self.model.equations for n in subtree(e.expr))
        return {
            1 if n.offset > 0 else -1
            for n in nodes
            if isinstance(n, ir.Shift)
            and n.axis == TIME
            and isinstance(n.arg, ir.Ref)
            and n.arg.name in states
        }

    def _read_by(self, name: str) -> set[str]:
        equation = self.model.equation.get(name)
        read = () if equation is None else references(equation.expr)
        return {r.name for r in read if isinstance(r, ir.Ref)}

    def _reached(self, names: Iterable[str]) -> set[str]:
        """`names` and everything that they are computed from."""
        found: set[str] = set()
        left = set(names)
        while left:
            name = left.pop()
            found.add(name)
            left |= self._read_by(name) - found
        return found


def _wider(arg: ir.Node, streams: Sequence[ir.Ref]) -> bool:
    """Whether what is summed has more dims than each value that it is made of."""
    return bool(streams) and all(set(s.type.dims) < set(arg.type.dims) for s in streams)


def _summed(node: ir.Node) -> ir.Node | None:
    """What a sum over all steps adds up at each; None for others.

    Sums of such sums are one, and products of matrices none.
    """
    if node.type.dtype != "float":
        return None
    match node:
        case ir.Reduce(op="sum", arg=arg, over=over, where=None) if _ALL <= set(over):
            inner = tuple(d for d in over if d not in _ALL)
            return build.reduce("sum", arg, inner) if inner else arg
        case ir.Contract(args=args, over=over) if _ALL <= set(over):
            whole = any(set(node.type.dims) <= set(a.type.dims) for a in args)
            inner = tuple(d for d in over if d not in _ALL)
            return _product(args, inner) if whole else None
        case ir.Map(op="add" | "sub" | "neg" as op, args=args):
            parts = [_summed(a) for a in args]
            found = [p for p in parts if p is not None]
            alike = len({frozenset(p.type.dims) for p in found}) == 1
            return build.map_(op, *found) if len(found) == len(args) and alike else None
        case _:
            return None


def _product(args: tuple[ir.Node, ...], over: tuple[str, ...]) -> ir.Node:
    if over:
        return build.contract(args, over)
    result = args[0]
    for arg in args[1:]:
        result = build.map_("mul", result, arg)
    return result
