"""The meaning of every node: its value at an index."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor

from seqdsl.backends.reference import collective, pointwise, reindex
from seqdsl.backends.reference.frame import Frame, Probe
from seqdsl.backends.reference.named import DTYPES, align, cast, flatten, spread
from seqdsl.backends.reference.session import Index
from seqdsl.diagnostics import CallError, Diagnostic, SpecError
from seqdsl.ir import nodes as ir
from seqdsl.ir import ops
from seqdsl.ir.types import TIME, DType, promote


def evaluate(frame: Frame, node: ir.Node, index: Index) -> Tensor:
    """`node` at `index`: `[dims]` in the order of its type, in double precision."""
    if frame.base is not None:
        if frame.probe is not None and frame.probe.hits(node, index):
            return frame.probe.moved
        if frame.leaves_step(node) or frame.base.is_probed(node, index):
            return frame.base.evaluate(node, index)
    match node:
        case ir.Const() | ir.Position() | ir.Training() | ir.Sample():
            return _leaf(frame, node, index)
        case ir.Ref(name=name):
            value = frame.value(name, index)
            dims = frame.type_of(name).dims
            return spread(value, dims, node.type.dims, frame.bound.dims)
        case ir.Result(call=call, output=output):
            return _result(frame, node, call, output, index)
        case ir.Map() | ir.Contract() | ir.ExternCall():
            return _pointwise(frame, node, index)
        case ir.Reduce():
            return collective.reduce(frame, node, index)
        case ir.Along():
            return collective.along(frame, node, index)
        case ir.Shift() | ir.At() | ir.Stack() | ir.Copy():
            return _elsewhere(frame, node, index)
        case ir.Rename() | ir.Split() | ir.Merge() | ir.SliceDim() | ir.Roll():
            return _rearranged(frame, node, index)
        case ir.Concat() | ir.Gather() | ir.OneHot():
            return _looked_up(frame, node, index)
        case ir.Conv():
            return collective.conv(frame, node, index)
        case ir.Grad():
            return _grad(frame, node, index)
    assert_never(node)


# ---- Leaves


def _leaf(
    frame: Frame, node: ir.Const | ir.Position | ir.Training | ir.Sample, index: Index
) -> Tensor:
    match node:
        case ir.Const(value=size):
            return torch.tensor(frame.bound.size(size), dtype=DTYPES[node.type.dtype])
        case ir.Training():
            return torch.tensor(frame.session.training)
        case ir.Position(along=along) if node.type.dims:
            return torch.arange(frame.bound.dims[along])
        case ir.Position(along=along):
            return torch.tensor(index[along])
        case ir.Sample():
            return frame.world.draw(frame, node, index)


def _result(
    frame: Frame, node: ir.Result, call: str, output: str, index: Index
) -> Tensor:
    value, type_ = frame.result(call, output, index)
    ours = dict(frame.model.call[call].dims)
    dims = [ours.get(d, d) for d in type_.dims]
    return spread(value, dims, node.type.dims, frame.bound.dims)


# ---- Pointwise


def _pointwise(
    frame: Frame, node: ir.Map | ir.Contract | ir.ExternCall, index: Index
) -> Tensor:
    match node:
        case ir.Map():
            return _map(frame, node, index)
        case ir.Contract():
            return collective.contract(frame, node, index)
        case ir.ExternCall():
            return _extern(frame, node, index)


def _map(frame: Frame, node: ir.Map, index: Index) -> Tensor:
    row = ops.MAPS[node.op]
    branches = 1 if row.result == "branches" else 0
    dtypes: list[DType] = [a.type.dtype for a in node.args[branches:]]
    dtype = promote(row.least, *dtypes)
    args: list[Tensor] = []
    for i, value in enumerate(_operands(frame, node, index)):
        value = align(value, node.args[i].type.dims, node.type.dims)
        args.append(value if i < branches else cast(value, dtype))
    return cast(pointwise.MAPS[node.op](*args), node.type.dtype)


def _operands(frame: Frame, node: ir.Map, index: Index) -> list[Tensor]:
    """The arguments of a pointwise operator.

    Along a copy of time a branch that is not taken, or is weighed with 0, may lie at a
    step that is not known yet: it is not asked for.
    """
    copies = node.type.axes & frozenset(frame.model.copies)
    match node:
        case ir.Map(op="where", args=(condition, yes, no)) if copies:
            chosen = frame.evaluate(condition, index)
            taken = (bool(chosen.any()), not bool(chosen.all()))
            branches = [
                frame.evaluate(n, index) if needed else frame.zeros(n.type)
                for n, needed in zip((yes, no), taken, strict=True)
            ]
            return [chosen, *branches]
        case ir.Map(op="mul", args=args) if collective.unsettled(frame, copies, index):
            factors = collective.factors(frame, args, index, True)
            found = {id(a): v for a, v in factors}
            return [found.get(id(a), frame.zeros(a.type)) for a in args]
        case _:
            pass
    return [frame.evaluate(a, index) for a in node.args]


def _extern(frame: Frame, node: ir.ExternCall, index: Index) -> Tensor:
    if node.name not in frame.session.externs:
        raise CallError(f"extern `{node.name}` is not bound to a function")
    args = [frame.evaluate(a, index) for a in node.args]
    result = frame.session.externs[node.name](*args)
    wanted = frame.extents(node.type.dims)
    if list(result.shape) != wanted:
        raise CallError(
            f"extern `{node.name}` returned {list(result.shape)}, declared {wanted}"
        )
    return cast(result, node.type.dtype)


# ---- Other indices


def _elsewhere(
    frame: Frame, node: ir.Shift | ir.At | ir.Stack | ir.Copy, index: Index
) -> Tensor:
    match node:
        case ir.Shift(arg=arg, axis=axis, offset=offset):
            return frame.value_at(arg, axis, index, index[axis] + offset)
        case ir.At(arg=arg, axis=axis):
            return frame.value_at(arg, axis, index, _at(frame, node, index))
        case ir.Stack(arg=arg, axis=axis, dim=dim):
            steps = [
                frame.evaluate(arg, at)
                for at in collective.indices(frame, [axis], index)
            ]
            if len(steps) != frame.bound.dims[dim]:
                raise CallError(
                    f"`{axis}` takes {len(steps)} steps, "
                    f"but `{dim}` has {frame.bound.dims[dim]} entries"
                )
            dims = (dim, *arg.type.dims)
            return align(torch.stack(steps), dims, node.type.dims)
        case ir.Copy(arg=arg, copy=copy):
            there = {a: i for a, i in index.items() if a != TIME}
            return frame.evaluate(arg, {**there, TIME: index[copy]})


def _at(frame: Frame, node: ir.At, index: Index) -> int:
    first, last = frame.ends(node.axis, index)
    if node.index is None:
        repeated = node.axis in frame.model.repeat
        if last < first and not repeated:
            raise CallError(f"a sequence without steps has no last `{node.axis}`")
        return frame.steps_taken(node.axis, index, last) if repeated else last
    i = int(frame.evaluate(node.index, index))
    least = 0 if node.axis in frame.model.repeat else first
    if not least <= i <= last:
        raise CallError(f"index {i} of `{node.axis}` is outside {least} … {last}")
    return i


# ---- Dims


def _rearranged(
    frame: Frame,
    node: ir.Rename | ir.Split | ir.Merge | ir.SliceDim | ir.Roll,
    index: Index,
) -> Tensor:
    value, dims = frame.evaluate(node.arg, index), node.arg.type.dims
    match node:
        case ir.Rename():
            return value
        case ir.Split():
            return value.reshape(frame.extents(node.type.dims))
        case ir.Merge(dims=merged, into=into):
            kept = [d for d in dims if d not in merged]
            return align(flatten(value, dims, merged), [*kept, into], node.type.dims)
        case ir.SliceDim(dim=dim):
            count = frame.bound.dims[node.into]
            start, step = frame.bound.whole(node.start), frame.bound.whole(node.step)
            entries = start + step * torch.arange(count)
            _check_slice(node, entries, frame.bound.dims[dim])
            return value.index_select(dims.index(dim), entries)
        case ir.Roll(dim=dim, wrap=wrap):
            offset = frame.bound.whole(node.offset)
            return reindex.roll(value, dims.index(dim), offset, wrap)


def _check_slice(node: ir.SliceDim, entries: Tensor, extent: int) -> None:
    if int(entries.min()) < 0 or int(entries.max()) >= extent:
        message = (
            f"entries {int(entries[0])} … {int(entries[-1])} of `{node.dim}`, "
            f"which has {extent}"
        )
        raise SpecError([Diagnostic("E0504", message, node.span)])


def _looked_up(
    frame: Frame, node: ir.Concat | ir.Gather | ir.OneHot, index: Index
) -> Tensor:
    match node:
        case ir.Concat():
            return _concat(frame, node, index)
        case ir.Gather(arg=arg, dim=dim, index=entry):
            value, where = frame.evaluate(arg, index), frame.evaluate(entry, index)
            dims, own = arg.type.dims, entry.type.dims
            return reindex.gather(value, dims, dim, where, own, node.type.dims)
        case ir.OneHot(index=entry, dim=dim):
            where = frame.evaluate(entry, index).unsqueeze(-1)
            return cast(where == torch.arange(frame.bound.dims[dim]), "float")


def _concat(frame: Frame, node: ir.Concat, index: Index) -> Tensor:
    parts: list[Tensor] = []
    for arg, dim in zip(node.args, node.dims, strict=True):
        dims = [node.into if d == dim else d for d in arg.type.dims]
        extent = frame.bound.dims[dim] if dim else 1
        sizes = {**frame.bound.dims, node.into: extent}
        value = cast(frame.evaluate(arg, index), node.type.dtype)
        parts.append(spread(value, dims, node.type.dims, sizes))
    return torch.cat(parts, node.type.dims.index(node.into))


# ---- Gradients


def _grad(frame: Frame, node: ir.Grad, index: Index) -> Tensor:
    """d `of` / d `wrt`, itself differentiable in everything.

    `of` is evaluated with a copy of `wrt`'s value in its place. As a copy is no leaf,
    autograd looks no further back in time.
    """
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        moved = frame.evaluate(node.wrt, index).clone()
        if not moved.requires_grad:
            moved.requires_grad_()
        at = {a: i for a, i in index.items() if a in node.wrt.type.axes}
        probed = frame.probed(Probe(node.wrt, at, moved), frozenset(index))
        total = probed.evaluate(node.of, index).sum()
        if not total.requires_grad:
            return torch.zeros_like(moved)
        (gradient,) = torch.autograd.grad(
            total, moved, create_graph=differentiable, materialize_grads=True
        )
    return gradient
