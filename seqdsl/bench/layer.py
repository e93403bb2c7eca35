"""One layer in every form and on every backend that this machine has, on the same input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor, nn

from seqdsl import driver
from seqdsl.analysis import analyze
from seqdsl.bench.measure import (
    CLOCKS,
    Run,
    forward,
    median_times,
    outputs_of,
    peak_bytes,
)
from seqdsl.bench.measure import with_backward as backward_of
from seqdsl.bench.peers import PEERS
from seqdsl.diagnostics import CallError, SpecError, UnsupportedError
from seqdsl.elaborate import Elaborated, Program, elaborate
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.choose import STRATEGIES
from seqdsl.testing.layers import stand_ins
from seqdsl.testing.ranges import int_range

_HUGE = 1e10
"""Outputs from which on forms are not compared: they are on their way to infinity."""

EXTENTS: tuple[int, ...] = (64, 16, 4, 2, 1)
"""Extents of options without a default, as they are tried."""


@dataclass(frozen=True)
class Setting:
    """How much is run: sequences, steps, and measurements of each call."""

    batch: int = 2
    time: int = 1024
    rounds: int = 5
    clock: str = "wall"


@dataclass
class Row:
    """What one way to run a layer costs; `refused` says why it does not run.

    Times are medians in milliseconds: `first_ms` from the spec to the end of the first
    call, `backward_ms` of a forward with its backward, `step_ms` of a step of a stream.
    `peak_mb` are megabytes of tensors held by forward and backward at most.
    """

    way: str
    first_ms: float | None = None
    forward_ms: float | None = None
    backward_ms: float | None = None
    step_ms: float | None = None
    peak_mb: float | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Workload:
    """A layer with all its options set, and input for it."""

    name: str
    elaborated: Elaborated
    options: Mapping[str, Scalar]
    setting: Setting
    inputs: list[Tensor]
    sizes: dict[str, int]


@dataclass
class _Way:
    """A module that is measured, and its row."""

    row: Row
    module: nn.Module
    ours: bool
    runs: dict[str, Run] = field(default_factory=dict[str, Run])


def workload(
    program: Program, layer: str, given: Mapping[str, Scalar], setting: Setting
) -> Workload:
    """The layer under `given`, its other options at their defaults or at small sizes.

    Raises `SpecError` where no sizes fit.
    """
    options = _fitting(program, layer, given)
    elaborated = elaborate(program, layer, options)
    inputs, sizes = _inputs(elaborated.model, options, setting)
    key = program.main.key
    name = f"{key}:{layer}" if key.startswith("std.") else layer
    return Workload(name, elaborated, options, setting, inputs, sizes)


def _fitting(
    program: Program, layer: str, given: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    model = elaborate(program, layer, given).model
    open_ = [o.name for o in model.options if o.default is None and o.name not in given]
    problem: SpecError | None = None
    for extents in product(EXTENTS, repeat=len(open_)):
        options = {**given, **dict(zip(open_, extents, strict=True))}
        try:
            bind_sizes(elaborate(program, layer, options).model, options)
        except SpecError as error:
            problem = problem or error
            continue
        return options
    assert problem is not None
    raise problem


def _inputs(
    model: ir.Model, options: Mapping[str, Scalar], setting: Setting
) -> tuple[list[Tensor], dict[str, int]]:
    """Numbers between 0 and 1, which gates and keys may be; and the axes no input tells."""
    bound = bind_sizes(model, options)
    make = torch.Generator().manual_seed(0)
    found: list[Tensor] = []
    for declared in model.inputs:
        extents = {BATCH: setting.batch, TIME: setting.time}
        lead = [extents[axis] for axis in (BATCH, TIME) if axis in declared.type.axes]
        shape = [*lead, *(bound.dims[d] for d in declared.type.dims)]
        x = torch.rand(shape, generator=make)
        match declared.type.dtype:
            case "int":
                low, high = int_range(model, bound, declared.name)
                x = (low + x * (high - low)).long()
            case "bool":
                x = x < 0.5
            case "complex":
                x = torch.complex(x, torch.rand(shape, generator=make))
            case "float":
                pass
        found.append(x)
    told = frozenset[str]().union(*(i.type.axes for i in model.inputs))
    sizes = {"batch": (BATCH, setting.batch), "time": (TIME, setting.time)}
    return found, {n: size for n, (axis, size) in sizes.items() if axis not in told}


def rows(work: Workload) -> list[Row]:
    """Every way to run the layer, the torch loop first.

    Raises `CallError` where two of them do not compute the same.
    """
    ways: list[_Way] = []
    refused: list[Row] = []
    for target, strategy in _requests(work.elaborated.model):
        name = f"{target} {strategy}" if target == "torch" else target
        found = _made(work, name, target, strategy)
        if isinstance(found, Row):
            refused.append(found)
        else:
            ways.append(found)
    ways += _peers(work)
    if ways:
        _share_parameters(ways)
        _measure(work, ways)
    return [*(way.row for way in ways), *refused]


def _requests(model: ir.Model) -> Iterator[tuple[str, str]]:
    """Targets with their strategies; Newton's iteration only runs where it is asked for."""
    over_time = [v for v in analyze(model).verdicts if v.recurrence.axis == TIME]
    legal = {s for v in over_time for s in v.strategies} - {"newton"} or {"auto"}
    for strategy in ("auto", *STRATEGIES):
        if strategy in legal:
            yield "torch", strategy
    yield "mlir", "loop"
    if torch.cuda.is_available():
        yield "triton", "auto"


def _made(work: Workload, name: str, target: str, strategy: str) -> _Way | Row:
    start = time.perf_counter()
    model = work.elaborated.model
    try:
        make = driver.module_class(work.elaborated, target, strategy)
        bound = {"externs": stand_ins(model)} if model.externs else {}
        module = cast("Callable[..., nn.Module]", make)(**work.options, **bound)
        forward(_caller(work, module), work.inputs)()
    except (UnsupportedError, SpecError) as error:
        return Row(name, refused=str(error).splitlines()[0])
    return _Way(Row(name, 1e3 * (time.perf_counter() - start)), module, ours=True)


def _caller(work: Workload, module: nn.Module) -> Callable[..., object]:
    return lambda *inputs: module(*inputs, **work.sizes)


def _peers(work: Workload) -> Iterator[_Way]:
    if work.name in PEERS:
        name, make = PEERS[work.name]
        bound = bind_sizes(work.elaborated.model, work.options)
        yield _Way(Row(name), make({**bound.options}), ours=False)


def _share_parameters(ways: list[_Way]) -> None:
    """All of ours get the same parameters; a peer's have the same shapes, which is enough."""
    first = ways[0].module.state_dict()
    for way in ways:
        if way.ours:
            way.module.load_state_dict(first)


def _measure(work: Workload, ways: list[_Way]) -> None:
    _check_agreement(work, ways)
    setting = work.setting
    for way in ways:
        call = _caller(work, way.module) if way.ours else way.module
        way.runs["forward_ms"] = forward(call, work.inputs)
        params = [p for p in way.module.parameters() if p.requires_grad]
        backward = backward_of(call, work.inputs, params)
        if backward is not None:
            way.runs["backward_ms"] = backward
        step = _step(work, way.module) if way.ours else None
        if step is not None:
            way.runs["step_ms"] = step
    for kind in ("forward_ms", "backward_ms", "step_ms"):
        runs = {way.row.way: way.runs[kind] for way in ways if kind in way.runs}
        rounds = setting.rounds * (20 if kind == "step_ms" else 1)
        times = median_times(runs, rounds, CLOCKS[setting.clock])
        for way in ways:
            setattr(way.row, kind, times.get(way.row.way))
    for way in ways:
        run = way.runs.get("backward_ms", way.runs["forward_ms"])
        way.row.peak_mb = peak_bytes(run) / 1e6


def _step(work: Workload, module: Any) -> Run | None:
    """A step in the middle of a stream; None where the layer does not stream."""
    moving = [TIME in i.type.axes for i in work.elaborated.model.inputs]
    pairs = zip(work.inputs, moving, strict=True)
    last = [x.select(1, -1) if moves else x for x, moves in pairs]
    try:
        state = module.initial_state(work.setting.batch)
        return _checked(forward(lambda *xs: module.step(*xs, state), last))
    except UnsupportedError:
        return None


def _checked(run: Run) -> Run:
    run()
    return run


def _check_agreement(work: Workload, ways: list[_Way]) -> None:
    ours = [way for way in ways if way.ours]
    wanted = _values(forward(_caller(work, ours[0].module), work.inputs)())
    if all(bool(a.isnan().all()) for a in wanted):
        raise CallError(
            f"{work.name}: {ours[0].row.way} gives nothing but NaN on random input, so "
            f"there is nothing to compare other ways with"
        )
    for way in ours[1:]:
        found = _values(forward(_caller(work, way.module), work.inputs)())
        for a, b in zip(wanted, found, strict=True):
            # what grows out of all bounds may do so a step earlier in another order
            known = a.abs() < _HUGE
            a, b = a[known], b[known]
            scale = max(float(a.abs().max()) if a.numel() else 0.0, 1.0)
            if not torch.allclose(a, b, rtol=1e-3, atol=1e-4 * scale):
                raise CallError(
                    f"{work.name}: {way.row.way} and {ours[0].row.way} differ by "
                    f"{float((a - b).abs().max()):.1e} on random input; "
                    f"`seqdsl test` finds the smallest case"
                )


def _values(outputs: object) -> list[Tensor]:
    """What is compared: of whole numbers and bools rounding may decide, as in an argmax.

    They are left to the other outputs where there are any.
    """
    found = [y for y in outputs_of(outputs) if isinstance(y, Tensor)]
    smooth = [y for y in found if y.is_floating_point() or y.is_complex()]
    return [y if y.is_complex() else y.double() for y in smooth or found]
