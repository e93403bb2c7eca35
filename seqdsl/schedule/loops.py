"""Which loop carries which cycle of reads (after Allen and Kennedy).

Equations that read each other in a circle need a loop around them, along an axis on
which every read of the circle goes the same way. Depth is tried first: its body then
stays parallel along time. Reads that a loop carries are dropped and its body is solved
again. R. Allen and K. Kennedy, Automatic translation of FORTRAN programs to vector
form, TOPLAS 9(4), 1987.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqdsl.diagnostics import Diagnostic, Label, SpecError
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.schedule.dependence import SAME, Distance, Edge, Graph, carried
from seqdsl.schedule.graph import components, shortest_cycle
from seqdsl.schedule.plan import Assign, Call, DepthLoop, Direction, Step, TimeLoop
from seqdsl.source import Span

_ONE_WAY = (
    "along one axis all of these reads must go the same way: "
    "to earlier steps only, or to later ones only"
)


@dataclass(frozen=True)
class Problem:
    """What remains to be put in order: names, the reads among them, loops around."""

    names: tuple[str, ...]
    edges: tuple[Edge, ...]
    depth: tuple[str, ...] = ()
    in_time: bool = False


def order(
    model: ir.Model,
    graph: Graph,
    *,
    in_time: bool = False,
    refused: list[Problem] | None = None,
) -> tuple[Step, ...]:
    """All equations and calls of `model` as steps; E0310 names a circle with no loop.

    With `in_time`, a loop along time stands around everything: one step of a stream.
    What has no order is added to `refused`, the innermost first.
    """
    edges = graph.edges
    if in_time:
        edges = _inside_time(edges)
    problem = Problem(tuple(graph.scope), edges, (), in_time)
    return _Solver(model, graph, [] if refused is None else refused).solve(problem)


def _inside_time(edges: Sequence[Edge]) -> tuple[Edge, ...]:
    """Reads of the same step of time."""
    return tuple(e for e in edges if e.along(TIME) in SAME)


@dataclass(frozen=True)
class _Solver:
    model: ir.Model
    graph: Graph
    refused: list[Problem]

    def solve(self, problem: Problem) -> tuple[Step, ...]:
        """Steps that compute the names of `problem`, in order."""
        group = {n: self._group(n, problem.depth) for n in problem.names}
        keys = list(dict.fromkeys(group.values()))
        after: dict[str, list[str]] = {key: [] for key in keys}
        looped: set[str] = set()
        for edge in problem.edges:
            source, reader = group.get(edge.source), group.get(edge.reader)
            if source is None or reader is None:
                continue
            after[source].append(reader)
            if source == reader:
                looped.add(source)
        steps: list[Step] = []
        for found in components(keys, after):
            names = tuple(n for n in problem.names if group[n] in found)
            part = Problem(names, problem.edges, problem.depth, problem.in_time)
            cyclic = len(found) > 1 or found[0] in looped
            steps.extend(self._component(part, found, cyclic))
        return tuple(steps)

    def _group(self, name: str, depth: tuple[str, ...]) -> str:
        """Names of one `repeat` move together: the key of theirs, or the name's own."""
        scope = self.graph.scope[name]
        return f"repeat {scope[len(depth)]}" if len(scope) > len(depth) else name

    def _component(
        self, part: Problem, found: list[str], cyclic: bool
    ) -> tuple[Step, ...]:
        axes = {self.graph.scope[n][len(part.depth) :][:1] for n in part.names}
        if len(found) == 1 and axes != {()}:
            try:
                return (self._depth_loop(part),)
            except SpecError:
                if part.in_time:
                    raise
        elif not cyclic:
            return (self._single(part.names[0]),)
        if part.in_time:
            raise self._refusal(part)
        return (self._time_loop(part),)

    def _single(self, name: str) -> Step:
        if name in self.model.call:
            return Call(call=self.model.call[name])
        return Assign(equation=self.model.equation[name])

    def _depth_loop(self, part: Problem) -> DepthLoop:
        axis = self.graph.scope[part.names[0]][len(part.depth)]
        names = set(part.names)
        inside = [e for e in part.edges if e.source in names and e.reader in names]
        # a read of a later step, or of a step that is not known, fits no depth loop
        if any(not _goes_back(e, axis) for e in inside):
            raise self._refusal(part)
        body = Problem(
            part.names,
            tuple(e for e in inside if e.along(axis) == 0),
            (*part.depth, axis),
            part.in_time,
        )
        return DepthLoop(
            repeat=self.model.repeat[axis],
            carried=carried(inside, axis, part.names),
            body=self.solve(body),
        )

    def _time_loop(self, part: Problem) -> TimeLoop:
        names = set(part.names)
        inside = [e for e in part.edges if e.source in names and e.reader in names]
        direction = self._direction(part, inside)
        body = Problem(part.names, _inside_time(inside), part.depth, in_time=True)
        return TimeLoop(
            direction=direction,
            carried=carried(inside, TIME, part.names),
            hoisted=(),
            body=self.solve(body),
        )

    def _direction(self, part: Problem, inside: Sequence[Edge]) -> Direction:
        distances = [e.along(TIME) for e in inside]
        # what a window holds comes from the loop itself, also where it is of an input
        windows = {w for n in part.names if (w := self._window(n)) is not None}
        past = all(d == "past" or (isinstance(d, int) and d <= 0) for d in distances)
        if past and "ahead" not in windows:
            return "forward"
        ahead = all(d == "ahead" or (isinstance(d, int) and d >= 0) for d in distances)
        if ahead and "past" not in windows:
            return "backward"
        raise self._refusal(part)

    def _window(self, name: str) -> Distance | None:
        """Where a convolution along time looks; None for everything else."""
        equation = self.model.equation.get(name)
        match equation and equation.expr:
            case ir.Conv(axes=axes, ahead=ahead) if TIME in axes:
                return "ahead" if ahead else "past"
            case _:
                return None

    def _refusal(self, part: Problem) -> SpecError:
        """No loop order computes these names: name a circle of reads among them."""
        self.refused.append(part)
        names = set(part.names)
        inside = [e for e in part.edges if e.source in names and e.reader in names]
        reads: dict[str, list[str]] = {}
        for edge in inside:
            reads.setdefault(edge.reader, []).append(edge.source)
        cycle = shortest_cycle(part.names, reads) or list(part.names)
        shown = " → ".join(f"`{n}`" for n in (*cycle, cycle[0]))
        spans = [self._span(n) for n in cycle]
        diagnostic = Diagnostic(
            "E0310",
            f"no order of steps computes {shown}",
            spans[0],
            tuple(
                Label(span, f"`{name}` reads `{read}`")
                for span, name, read in zip(
                    spans, cycle, (*cycle[1:], cycle[0]), strict=True
                )
            ),
            (_ONE_WAY,),
        )
        return SpecError([diagnostic])

    def _span(self, name: str) -> Span:
        named = self.model.equation.get(name) or self.model.call[name]
        return named.span


def _goes_back(edge: Edge, axis: str) -> bool:
    distance = edge.along(axis)
    return isinstance(distance, int) and distance <= 0
