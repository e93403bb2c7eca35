"""What is plain to see in a model, found without the compiler's own analyses.

The property kit asks here which properties can hold: a layer with a mean over the batch
mixes rows, one with `argmax` jumps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from seqdsl.analysis.visibility import reach_of_copies
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import roots, subtree
from seqdsl.schedule.rows import copies_of, still_initial


@dataclass(frozen=True)
class Traits:
    """Facts about a model and its sub-layers.

    `must_stream`: nothing in it can read a later step. `whole_sequence`: some value is
    taken over all of time. `mixes_rows`: over the batch. `numbers_rows`: rows draw
    numbers of their own. `jumps`: it is not continuous.
    `stops`: gradients are held back somewhere. `draws`: it needs random numbers that
    differ between calls; `trains`: it differs in training.
    """

    must_stream: bool
    whole_sequence: bool
    mixes_rows: bool
    jumps: bool
    numbers_rows: bool
    stops: bool
    draws: bool
    trains: bool
    externs: bool


_COMPARE = ("lt", "le", "gt", "ge", "eq", "ne")
_ROUND = ("floordiv", "mod", "sign", "floor", "ceil", "round", "int", "bool")
_JUMPS = frozenset((*_COMPARE, *_ROUND))


def traits(model: ir.Model) -> Traits:
    """The facts about `model`."""
    nodes, copies = tuple(all_nodes(model)), frozenset(_copies(model))
    over = {(a, n.type.dtype) for n in nodes for a in _collapsed(n)}
    return Traits(
        must_stream=not any(map(_looks_ahead, nodes)) and _copies_look_back(model),
        whole_sequence=any(axis == TIME for axis, _ in over)
        or any(_over_a_copy(n, copies) for n in nodes),
        mixes_rows=any(axis == BATCH for axis, _ in over),
        jumps=any(map(_jumps, nodes)) or any(r.condition for r in _repeats(model)),
        numbers_rows=any(
            isinstance(n, ir.Sample) and BATCH in n.type.axes for n in nodes
        ),
        stops=any(isinstance(n, ir.Map) and n.op == "stopgrad" for n in nodes),
        draws=any(isinstance(n, ir.Sample) and n.seed is None for n in nodes),
        trains=any(isinstance(n, ir.Training) for n in nodes),
        externs=any(isinstance(n, ir.ExternCall) for n in nodes),
    )


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node that a call of the layer evaluates, sub-layers included."""
    for root in roots(model):
        yield from subtree(root)
    for instance in model.instances:
        yield from all_nodes(instance.model)


def _repeats(model: ir.Model) -> Iterator[ir.Repeat]:
    yield from model.repeats
    for instance in model.instances:
        yield from _repeats(instance.model)


def _collapsed(node: ir.Node) -> tuple[str, ...]:
    """Axes of the call that a node takes all of."""
    match node:
        case ir.Reduce(over=over) | ir.Along(over=over) | ir.Contract(over=over):
            return tuple(a for a in over if a in (BATCH, TIME))
        case ir.At(axis=axis) if axis == TIME:
            return (TIME,)
        case _:
            return ()


def _copies(model: ir.Model) -> Iterator[str]:
    yield from model.copies
    for instance in model.instances:
        yield from _copies(instance.model)


def _over_a_copy(node: ir.Node, copies: frozenset[str]) -> bool:
    """Whether it takes all of a copy of time, the same for every step."""
    match node:
        case ir.Reduce(over=over) | ir.Along(over=over) | ir.Contract(over=over):
            return bool(copies & set(over)) and TIME not in node.type.axes
        case _:
            return False


def _looks_ahead(node: ir.Node) -> bool:
    match node:
        case ir.Shift(axis=axis, offset=offset):
            return axis == TIME and offset > 0
        case _:
            return TIME in _collapsed(node)


def _copies_look_back(model: ir.Model) -> bool:
    known = reach_of_copies(model)
    inner = all(_copies_look_back(i.model) for i in model.instances)
    rows = all(
        still_initial(model, state.name, copy)
        for state in model.states
        if TIME in state.carried
        for copy in copies_of(model, state.name)
    )
    return inner and rows and all(copy in known for copy in model.copies)


def _jumps(node: ir.Node) -> bool:
    match node:
        case ir.Map(op=op, args=args):
            # comparing whole numbers, as in `s <= t`, moves with no input
            return op in _JUMPS and any(a.type.dtype == "float" for a in args)
        case ir.Reduce(op=op):
            return op in ("argmax", "argmin")
        case ir.Along(op=op):
            return op == "top"
        case _:
            return False
