"""The entry point of the interpreter: a whole call of one layer, output by output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from seqdsl.backends.reference.arguments import check_inputs, cut, lead, read
from seqdsl.backends.reference.evaluate import evaluate
from seqdsl.backends.reference.frame import Frame, fill
from seqdsl.backends.reference.named import DTYPES, cast
from seqdsl.backends.reference.session import (
    Index,
    Run,
    Session,
    deep_recursion,
    settle,
)
from seqdsl.diagnostics import CallError
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sites import site_in
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.types import BATCH, TIME
from seqdsl.runtime.random import random_normal, random_uniform


def interpret(
    model: ir.Model,
    *,
    options: Mapping[str, Scalar],
    params: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    segments: Tensor | None = None,
    training: bool = False,
    seed: int = 0,
    externs: Mapping[str, Callable[..., Tensor]] | None = None,
    batch: int | None = None,
    time: int | None = None,
) -> dict[str, Tensor]:
    """The outputs of `model` by name, straight from the meaning of its equations.

    Inputs and outputs are `[batch, time, dims]` (without the axes along which they do
    not vary), results are float64, complex128, int64 or bool and differentiable in
    `params` and `inputs`. `params` has the keys of the state dict. `batch` and `time`
    are needed where no input tells them. An output that has one value per sequence is,
    with `segments`, that of the last segment of each row.

    Raises `SpecError` for options that do not fit and `CallError` for arguments that
    do not.
    """
    bound = bind_sizes(model, options)
    checked, extents = check_inputs(model, bound, inputs, batch, time)
    if segments is not None and segments.dim() == 2:
        extents.setdefault(BATCH, segments.shape[0])
        extents.setdefault(TIME, segments.shape[1])
    rows, steps = extents.get(BATCH, 1), extents.get(TIME, 0)
    runs = cut(segments, rows, steps)
    session = Session(runs, segments is not None, training, seed, externs or {})
    read_input = partial(_read_input, model, checked, runs)
    frame = Frame(session, _Call(params), model, bound, read_input)
    if TIME not in extents and any(TIME in o.expr.type.axes for o in model.outputs):
        raise CallError(f"{model.name} needs `time`: no input tells its extent")
    with deep_recursion():
        return {o.name: _output(frame, o.expr, rows, steps) for o in model.outputs}


def _read_input(
    model: ir.Model,
    inputs: Mapping[str, Tensor],
    runs: tuple[Run, ...],
    name: str,
    index: Index,
) -> Tensor:
    return read(inputs[name], model.input[name].type, runs, index)


@dataclass(frozen=True)
class _Call:
    """Where the numbers of a call come from: given parameters, counter-based chance."""

    params: Mapping[str, Tensor]

    def evaluate(self, frame: Frame, node: ir.Node, index: Index) -> Tensor:
        return evaluate(frame, node, index)

    def parameter(self, frame: Frame, param: ir.Param, index: Index) -> Tensor:
        key = f"{frame.prefix}{fill(param.key, index)}"
        if key not in self.params:
            raise CallError(f"parameter `{key}` is missing")
        value = self.params[key]
        wanted = frame.extents(param.type.dims)
        if list(value.shape) != wanted:
            came = list(value.shape)
            raise CallError(f"parameter `{key}` is {wanted}, but has shape {came}")
        return cast(value, param.type.dtype)

    def draw(self, frame: Frame, node: ir.Sample, index: Index) -> Tensor:
        """Counters: row, step, repeat steps from the outside in, element."""
        site, axes = node.site, node.type.axes
        for call in reversed(frame.calls):
            site = site_in(call, site)
        runs = frame.session.runs
        row = [runs[index[BATCH]].row] if BATCH in axes else []
        step = [index[TIME]] if TIME in axes else []
        own = [index[r.axis] for r in frame.model.repeats if r.axis in axes]
        outer = frame.steps if axes else ()
        extents = frame.extents(node.type.dims)
        element = torch.arange(torch.Size(extents).numel()).reshape(extents)
        seed = frame.session.seed if node.seed is None else frame.bound.whole(node.seed)
        draw = random_uniform if node.kind == "uniform" else random_normal
        return draw(seed, site, [*row, *step, *outer, *own, element])


def _output(frame: Frame, expr: ir.Node, rows: int, steps: int) -> Tensor:
    """An output at every index, as one tensor."""
    type_ = expr.type
    if not lead(type_):
        return settle(partial(frame.evaluate, expr, {}))
    runs = frame.session.runs
    pieces: list[Tensor] = []
    for number, run in enumerate(runs):
        last = number + 1 == len(runs) or runs[number + 1].row != run.row
        if TIME in type_.axes:
            indices = [{BATCH: number, TIME: t} for t in range(run.length)]
        else:
            indices = [{BATCH: number}] if last else []
        pieces += [settle(partial(frame.evaluate, expr, at)) for at in indices]
    extents = frame.extents(type_.dims)
    shape = [rows, steps] if TIME in type_.axes else [rows]
    if not pieces:
        return torch.zeros([*shape, *extents], dtype=DTYPES[type_.dtype])
    return torch.stack(pieces).reshape([*shape, *extents])
