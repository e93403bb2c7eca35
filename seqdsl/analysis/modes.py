"""What a recurrence that is no scan still allows: in chunks, under a condition, in a wavefront."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from seqdsl.analysis.fixed import fixed
from seqdsl.analysis.graph import Edge, behind, circles, edges_in, within
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.verdict import (
    Forced,
    PerChunk,
    Recurrence,
    Verdict,
    Wavefront,
)
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Size
from seqdsl.ir.text import node_text
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import subtree

Judge = Callable[[ir.Model, Recurrence, tuple[Edge, ...]], Verdict]
"""The verdict of one recurrence of a model, given the edges inside it."""

MOST = 4
"""No more conditions than this are tried."""


# ---- Gradients frozen at chunk starts


def per_chunk(
    model: ir.Model, recurrence: Recurrence, inside: tuple[Edge, ...], judge: Judge
) -> PerChunk | None:
    """What the other states allow while some keep what they were at the last border.

    A state that is held, `w0 = where(t % C == 0, w[t-1], w0[t-1])`, is a constant within a
    chunk, so that what is not linear in it does not matter there.
    """
    held = held_states(model, recurrence, inside)
    if not held:
        return None
    free = tuple(e for e in inside if e.source not in held and e.reader not in held)
    found = circles(model, free, recurrence.axis)
    verdicts = tuple(judge(model, r, edges) for r, edges in found)
    if any(v.verdict in ("sequential", "opaque") for v in verdicts):
        return None
    borders = tuple(dict.fromkeys(held.values()))
    return PerChunk(tuple(held), borders, _chunk_size(borders), verdicts)


def runs_per_chunk(verdict: Verdict, found: PerChunk, inside: tuple[Edge, ...]) -> bool:
    """Whether all that moves in a chunk is scanned entry by entry, one step back."""
    near = all(e.kind == "same" or e.offset == -1 for e in inside)
    alone = all(
        v.monoid is None
        and v.semiring is not None
        and len(v.updates) == 1
        and all(t.kind == "diagonal" and t.lag == 1 for t in v.updates[0].terms)
        for v in found.verdicts
    )
    moved = {s for v in found.verdicts for s in v.recurrence.states}
    states = set(verdict.recurrence.states)
    return near and alone and moved | set(found.held) == states and bool(moved)


def held_states(
    model: ir.Model, recurrence: Recurrence, inside: tuple[Edge, ...]
) -> dict[str, ir.Node]:
    """States that are held while others move, each with the condition at its borders."""
    normal = Normal(model, recurrence.axis, recurrence.members, inside)
    found: dict[str, ir.Node] = {}
    for state in recurrence.states:
        match behind(model, model.equation[state].expr):
            case ir.Map(op="where", args=(c, a, b)) if not normal.active(c):
                if _is_own(normal, b, state):
                    found[state] = behind(model, c)
                elif _is_own(normal, a, state):
                    found[state] = build.map_("not", behind(model, c))
            case _:
                pass
    return found if len(found) < len(recurrence.states) else {}


def _is_own(normal: Normal, node: ir.Node, state: str) -> bool:
    match node:
        case ir.Shift(arg=ir.Ref(name=name), offset=1 | -1):
            return name == state and normal.is_read(node)
        case _:
            return False


def _chunk_size(borders: tuple[ir.Node, ...]) -> Size | None:
    """C where the borders are at `t % C == …`, the same for all."""
    match borders:
        case (
            ir.Map(
                op="eq",
                args=(
                    ir.Map(
                        op="mod", args=(ir.Position(along="t"), ir.Const(value=size))
                    ),
                    ir.Const(),
                ),
            ),
        ):
            return size
        case _:
            return None


# ---- Open loop


def forced(
    model: ir.Model, recurrence: Recurrence, inside: tuple[Edge, ...], judge: Judge
) -> tuple[Forced, ...]:
    """Conditions on inputs under which nothing sequential is left, each one tried.

    Such are the flags that choose between a given value and what the recurrence made
    itself: parallel in training, a loop when it runs by itself.
    """
    normal = Normal(model, recurrence.axis, recurrence.members, inside)
    found: list[Forced] = []
    members = frozenset(recurrence.members)
    for text, rule in _assumptions(model, recurrence, normal):
        equations = tuple(
            replace(e, expr=fixed(e.expr, rule)) if e.name in members else e
            for e in model.equations
        )
        edited = replace(model, equations=equations)
        own = (e for e in equations if e.name in members)
        edges = within(edges_in(own), members)
        verdicts = tuple(
            judge(edited, r, e) for r, e in circles(edited, edges, recurrence.axis)
        )
        if all(v.verdict in ("none", "scannable") for v in verdicts):
            found.append(Forced(text, verdicts))
    return tuple(found)


Rule = Callable[[ir.Node], ir.Node | None]


def _assumptions(
    model: ir.Model, recurrence: Recurrence, normal: Normal
) -> Iterator[tuple[str, Rule]]:
    exprs = [model.equation[m].expr for m in recurrence.members if m in model.equation]
    nodes = [n for e in exprs for n in subtree(e)]
    choices: dict[tuple[ir.Node, bool], None] = {}
    amounts: dict[ir.Node, None] = {}
    for node in nodes:
        match node:
            case ir.Map(op="where", args=(c, a, b)) if not normal.active(c):
                # A constant instead of the state is a reset, not something given.
                given = b if normal.active(a) else a
                one = normal.active(a) != normal.active(b)
                if one and TIME in given.type.axes:
                    choices[behind(model, c), normal.active(b)] = None
            case ir.Ref(name=name) if name in model.input:
                type_ = model.input[name].type
                if type_.dtype == "float" and not type_.dims and TIME not in type_.axes:
                    amounts[node] = None
            case _:
                pass
    for condition, holds in list(choices)[:MOST]:
        text = _text(condition)
        yield (
            f"`{text}` {'holds' if holds else 'does not hold'}",
            _chosen(model, condition, holds),
        )
    for node in list(amounts)[:MOST]:
        for value in (1.0, 0.0):
            yield f"`{_text(node)}` is {value:g}", _replaced(node, value)


def _text(node: ir.Node) -> str:
    return " ".join(node.span.text.split()) or node_text(node)


def _chosen(model: ir.Model, condition: ir.Node, holds: bool) -> Rule:
    def rule(node: ir.Node) -> ir.Node | None:
        match node:
            case ir.Map(op="where", args=(c, a, b)) if behind(model, c) == condition:
                return a if holds else b
            case _:
                return None

    return rule


def _replaced(old: ir.Node, value: float) -> Rule:
    return lambda node: build.const(value) if node == old else None


# ---- Two axes


def wavefront(
    model: ir.Model, around: Iterable[Edge], recurrence: Recurrence
) -> Wavefront | None:
    """Whether the steps along two axes can be taken diagonal by diagonal.

    `around` are the edges of the whole circle that the recurrence lies on, along any axis.
    Where a step reads the last one of a whole repeat it cannot; it may then only start
    from a guess, and is taken again until nothing changes.
    """
    repeats = {r.axis for r in model.repeats}
    along = {e.axis for e in around if e.kind == "shift"} & {TIME, *repeats}
    whole = {e.axis for e in around if e.kind == "many"}
    others = sorted(along - {recurrence.axis})
    if {recurrence.axis, TIME} <= along and others and TIME not in whole:
        second = others[0] if recurrence.axis == TIME else recurrence.axis
        return Wavefront((TIME, second), speculative=second in whole)
    return None
