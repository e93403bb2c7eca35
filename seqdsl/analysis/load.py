"""How large a recurrence is: its state, what a step reads and does."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from seqdsl.analysis.formula import Formula, number, product, symbol, total
from seqdsl.analysis.graph import name_of
from seqdsl.analysis.parts import Parts
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import children, subtree

_FREE = ir.Ref | ir.Shift | ir.At | ir.Stack | ir.Copy | ir.Rename | ir.Split | ir.Merge


class Load:
    """Sizes of one recurrence as formulas."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.verdict = parts.verdict

    @property
    def item(self) -> Formula:
        return number(8 if self.verdict.complex else 4)

    @cached_property
    def every(self) -> Formula:
        """All steps of all independent copies."""
        axes = {a for e in self.parts.equations for a in (*e.expr.type.axes, *e.scope)}
        return self.parts.times({*axes, BATCH}) * self.parts.steps

    @cached_property
    def state(self) -> Formula:
        """Numbers kept between steps, per sequence."""
        if self.verdict.verdict == "none":
            return Formula()
        return total(map(self._kept, self.verdict.recurrence.states))

    @cached_property
    def kept(self) -> Formula:
        """The same with a row for every step of a copy of time."""
        axes = {a for e in self.parts.equations for a in e.expr.type.axes}
        rows = self.parts.times(axes & set(self.parts.model.copies))
        return self.state * rows + self._history

    @cached_property
    def _history(self) -> Formula:
        """What reads of many steps keep besides: all of the past, or a window of it."""
        if self.verdict.verdict == "fir" or self.parts.recurrence.axis != TIME:
            return Formula()
        nodes = dict.fromkeys(n for _, n in self.parts.active)
        past = dict.fromkeys(name_of(n.arg) for n in nodes if isinstance(n, ir.Copy))
        whole = (symbol("T") * self.parts.numel(self.parts.dims_of(n)) for n in past)
        return total((*whole, *(self._window(n) for n in nodes if _over_time(n))))

    def _kept(self, name: str) -> Formula:
        equation = self.parts.model.equation.get(name)
        if equation is not None and self.verdict.verdict == "fir":
            convs = [n for n in subtree(equation.expr) if _over_time(n)]
            if convs and self.parts.recurrence.axis == TIME:
                return total(map(self._window, convs))
        lag = number(self.parts.lag(name))
        return lag * self.parts.numel(self.parts.dims_of(name))

    def _window(self, node: ir.Node) -> Formula:
        assert isinstance(node, ir.Conv)
        tap = node.taps[node.axes.index(TIME)]
        before = self.parts.extent(tap) + number(-1)
        gap = self.parts.size(node.dilation, str(node.dilation))
        return before * gap * self.parts.numel(node.arg.type.dims)

    @cached_property
    def once(self) -> Formula:
        """The state without its history."""
        states = self.verdict.recurrence.states
        return total(self.parts.numel(self.parts.dims_of(s)) for s in states)

    @cached_property
    def inputs(self) -> Formula:
        """What a step reads of values that change, the state left out."""
        nodes = [n for _, n in self.parts.free if self.parts.normal.axis in n.type.axes]
        return total(self.parts.numel(n.type.dims) for n in nodes)

    @cached_property
    def weights(self) -> Formula:
        """What every step reads again of values that are the same for all."""
        return total(
            self.parts.numel(n.type.dims)
            for _, n in self.parts.free
            if not n.type.axes & {BATCH, TIME} and n.type.dims
        )

    @cached_property
    def step(self) -> Formula:
        """Operations of one step."""
        if self.verdict.verdict == "fir":
            states = self.verdict.recurrence.states
            names = (s for s in states if s in self.parts.model.equation)
            exprs = (self.parts.model.equation[s].expr for s in names)
            nodes = [n for e in exprs for n in subtree(e) if _over_time(n)]
            return total(map(self._operations, nodes))
        return total(self._operations(n) for _, n in self.parts.active) + self.readout

    def operations(self, node: ir.Node) -> Formula:
        """Multiplications and additions of a whole expression."""
        return total(map(self._operations, subtree(node)))

    def _operations(self, node: ir.Node) -> Formula:
        """Multiplications and additions of one node."""
        here = self.parts.numel(node.type.dims)
        match node:
            case _ if isinstance(node, _FREE):
                return Formula()
            case ir.Contract(args=args, over=over):
                each = len(args) if over else len(args) - 1
                return number(each) * self._wide(node, over)
            case ir.Conv(taps=taps, reduce=reduce):
                return number(2) * here * self.parts.numel((*taps, *reduce))
            case ir.Reduce(over=over) | ir.Along(over=over):
                return self._wide(node, over)
            case ir.Gather() | ir.Concat() | ir.SliceDim() | ir.Roll():
                return Formula()
            case _:
                return here

    def _wide(self, node: ir.Node, over: Iterable[str]) -> Formula:
        dims = dict.fromkeys(
            d for c in children(node) for d in c.type.dims if d not in node.type.dims
        )
        summed = [d for d in dict.fromkeys((*dims, *over)) if self._is_dim(d)]
        steps = [number(1) if self._is_dim(d) else symbol("T") for d in over]
        return self.parts.numel((*node.type.dims, *summed)) * product(steps)

    def _is_dim(self, name: str) -> bool:
        model = self.parts.model
        axes = {TIME, *model.copies, *model.repeat}
        return name not in axes

    @cached_property
    def readers(self) -> tuple[ir.Contract, ...]:
        """Contractions with the new state outside of the recurrence."""
        states = set(self.verdict.recurrence.states)
        members = set(self.verdict.recurrence.members)
        model = self.parts.model
        exprs = [e.expr for e in model.equations if e.name not in members]
        exprs += [o.expr for o in model.outputs]
        exprs += [arg for c in model.calls for _, arg in c.args]
        return tuple(
            n
            for e in exprs
            for n in subtree(e)
            if isinstance(n, ir.Contract) and any(_is(a, states) for a in n.args)
        )

    @cached_property
    def readout(self) -> Formula:
        """Operations to read the state, where chunks do them with the update."""
        if not self.by_products:
            return Formula()
        return total(map(self._operations, self.readers))

    @cached_property
    def by_products(self) -> bool:
        """Whether a chunk is a few matrix products, in which no state is made."""
        if "chunk" not in self.verdict.strategies:
            return False
        shapes = map(self.parts.dims_of, self.verdict.recurrence.states)
        if max(map(len, shapes)) < 2:
            return False  # of a vector either rows or columns are one
        return bool(self.readers) and number(1) not in self.sides()[:2]

    def sides(self) -> tuple[Formula, Formula, Formula]:
        """The state as copies of a matrix: what is read by contraction, and the rest."""
        states = set(self.verdict.recurrence.states)
        args = [a for r in self.readers for a in r.args]
        dims = next(a.type.dims for a in args if _is(a, states))
        over = {d for r in self.readers for d in r.over} & set(dims)
        rows = [d for d in dims if d in over]
        others = {d for a in args if not _is(a, states) for d in a.type.dims}
        copies = [d for d in dims if d not in over and d in others]
        columns = [d for d in dims if d not in over and d not in others]
        numel = self.parts.numel
        return numel(rows), numel(columns), numel(copies)


def _is(node: ir.Node, names: set[str]) -> bool:
    return isinstance(node, ir.Ref) and node.name in names


def _over_time(node: ir.Node) -> bool:
    return isinstance(node, ir.Conv) and TIME in node.axes
