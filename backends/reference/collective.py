"""What runs over several indices at once: reductions, contractions, convolutions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import torch
from torch import Tensor

from seqdsl.backends.reference import reductions, reindex
from seqdsl.backends.reference.frame import Frame
from seqdsl.backends.reference.named import align, cast, flatten, spread
from seqdsl.backends.reference.session import Index
from seqdsl.ir import nodes as ir
from seqdsl.ir import ops
from seqdsl.ir.types import BATCH, TIME, DType, promote
from seqdsl.ir.walk import subtree


def indices(frame: Frame, axes: Sequence[str], index: Index) -> list[Index]:
    """`index` with every combination of indices of `axes`, the batch's outermost."""
    if BATCH in axes:
        first, last = frame.ends(BATCH, index)
        rest = [a for a in axes if a != BATCH]
        runs = [{**index, BATCH: i} for i in range(first, last + 1)]
        return [at for run in runs for at in indices(frame, rest, run)]
    ends = [frame.ends(a, index) for a in axes]
    ranges = [range(first, last + 1) for first, last in ends]
    return [{**index, **dict(zip(axes, at, strict=True))} for at in product(*ranges)]


def contract(frame: Frame, node: ir.Contract, index: Index) -> Tensor:
    """Products by name, summed over dims and over all indices of axes."""
    every = dict.fromkeys(d for a in node.args for d in a.type.dims)
    number = {d: i for i, d in enumerate(every)}
    axes = [a for a in node.over if a not in number]
    total = frame.zeros(node.type)
    for at in indices(frame, axes, index):
        operands: list[Tensor | list[int]] = []
        for arg, value in factors(frame, node.args, at, unsettled(frame, axes, at)):
            operands.append(cast(value, node.type.dtype))
            operands.append([number[d] for d in arg.type.dims])
        if operands:
            result = [number[d] for d in node.type.dims]
            total = total + torch.einsum(*operands, result)
    return total


def factors(
    frame: Frame, args: Sequence[ir.Node], index: Index, lazy: bool
) -> list[tuple[ir.Node, Tensor]]:
    """What a product is made of; nothing where a factor is 0, if it is `lazy`.

    What is weighed with 0 is then not asked for: it may be, or depend on, what is
    wanted. Weights come first, values at other steps last.
    """
    found: list[tuple[ir.Node, Tensor]] = []
    for arg in sorted(args, key=_reads_copies) if lazy else args:
        value = frame.evaluate(arg, index)
        if lazy and not bool(value.any()):
            return []
        found.append((arg, value))
    return found


def unsettled(frame: Frame, axes: Iterable[str], at: Index) -> bool:
    """Whether a copy of time is at the step that is wanted, or at a later one."""
    return any(a in frame.model.copies and at[a] >= at.get(TIME, at[a]) for a in axes)


def _reads_copies(node: ir.Node) -> int:
    """0 for what stays at this step, 1 for what is made from other steps, 2 for those."""
    if isinstance(node, ir.Copy):
        return 2
    return int(any(isinstance(n, ir.Copy) for n in subtree(node)))


def _entries(
    frame: Frame, node: ir.Reduce | ir.Along, index: Index
) -> tuple[Tensor, Tensor, list[str]]:
    """What `node` runs over, as the last dim, with its mask, and the other dims."""
    where = node.where
    masked = where.type.dims if where is not None else ()
    dims = [*dict.fromkeys((*node.type.dims, *node.arg.type.dims, *masked))]
    kept = [d for d in dims if d not in node.over]
    over = [d for d in node.over if d in dims]
    dtype = promote(_least(node), node.arg.type.dtype)
    empty = torch.zeros([*frame.extents(kept), 0])
    values, masks = [cast(empty, dtype)], [cast(empty, "bool")]
    for at in indices(frame, [a for a in node.over if a not in dims], index):
        mask = torch.tensor(True) if where is None else frame.evaluate(where, at)
        # what takes no part is not asked for: it may lie at a step not known yet
        seen = bool(mask.any())
        value = frame.evaluate(node.arg, at) if seen else frame.zeros(node.arg.type)
        value = spread(cast(value, dtype), node.arg.type.dims, dims, frame.bound.dims)
        values.append(flatten(value, dims, over))
        mask = spread(mask, masked, dims, frame.bound.dims)
        masks.append(flatten(mask, dims, over))
    return torch.cat(values, -1), torch.cat(masks, -1), kept


def _least(node: ir.Reduce | ir.Along) -> DType:
    match node:
        case ir.Reduce(op=op):
            return ops.REDUCTIONS[op].least
        case ir.Along(op=op):
            return ops.ALONGS[op].least


def reduce(frame: Frame, node: ir.Reduce, index: Index) -> Tensor:
    """A reduction over dims and over all indices of axes."""
    values, mask, kept = _entries(frame, node, index)
    result = reductions.reduce(node.op, values, mask)
    if node.op in ("argmax", "argmin") and node.over[0] in frame.model.repeat:
        result = result + 1
    return cast(align(result, kept, node.type.dims), node.type.dtype)


def along(frame: Frame, node: ir.Along, index: Index) -> Tensor:
    """Over axes, the values at all their indices are had at once and one is picked."""
    axes = [a for a in node.over if a not in node.type.dims]
    over = [d for d in node.over if d in node.type.dims]
    inner = frozenset(index) - set(axes)

    def define(at: Index) -> Tensor:
        values, mask, kept = _entries(frame, node, at)
        count = 0 if node.count is None else frame.bound.whole(node.count)
        result = reductions.along(node.op, values, mask, count)
        places = len(indices(frame, axes, at))
        shape = [*frame.extents(kept), places, *frame.extents(over)]
        result = result.reshape(shape).movedim(len(kept), 0)
        dims = ["", *kept, *over]
        return align(result, dims, ["", *node.type.dims])

    if not axes:
        return define(index)[0]
    every = frame.remember(f"along {id(node)}", index, inner, define)
    return every[_number(frame, axes, index)]


def _number(frame: Frame, axes: Sequence[str], index: Index) -> int:
    """The place of `index` among all indices of `axes`."""
    number = 0
    for axis in axes:
        first, last = frame.ends(axis, index)
        number = number * (last - first + 1) + index[axis] - first
    return number


def conv(frame: Frame, node: ir.Conv, index: Index) -> Tensor:
    """The sum over all taps of weight times what the tap reads."""
    weight, dims = frame.evaluate(node.weight, index), node.weight.type.dims
    widths = [frame.bound.dims[tap] for tap in node.taps]
    every = dict.fromkeys((*dims, *node.arg.type.dims))
    number = {d: i for i, d in enumerate(every)}
    rest = [d for d in dims if d not in node.taps]
    weight = align(weight, dims, [*node.taps, *rest])
    total = frame.zeros(node.type)
    for tap in product(*map(range, widths)):
        value = cast(_tapped(frame, node, index, widths, tap), node.type.dtype)
        factor = cast(weight[tap], node.type.dtype)
        total = total + torch.einsum(
            *(value, [number[d] for d in node.arg.type.dims]),
            *(factor, [number[d] for d in rest]),
            [number[d] for d in node.type.dims],
        )
    return total


def _tapped(
    frame: Frame, node: ir.Conv, index: Index, widths: list[int], tap: tuple[int, ...]
) -> Tensor:
    """`arg` where one tap reads it: earlier (later) along time, beside along dims."""
    dilation = frame.bound.whole(node.dilation)
    at = index
    moves: list[tuple[str, int]] = []
    for axis, width, i in zip(node.axes, widths, tap, strict=True):
        if axis == TIME:
            away = (width - 1 - i) * (dilation if node.ahead else -dilation)
            at = {**index, TIME: index[TIME] + away}
        else:
            moves.append((axis, (i - (width - 1) // 2) * dilation))
    if TIME in node.axes and not 0 <= at[TIME] < frame.session.length(index):
        return frame.zeros(node.arg.type)
    value = frame.evaluate(node.arg, at)
    for axis, offset in moves:
        value = reindex.window(value, node.arg.type.dims.index(axis), offset, node.pad)
    return value
