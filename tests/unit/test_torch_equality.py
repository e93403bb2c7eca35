"""Generated torch modules against the interpreter: values, gradients, pieces, steps.

Every file in `torch_specs/` is a case. Its comments give the options, whether the layer
streams, and inputs that must not be random.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqdsl.backends.reference import interpret
from seqdsl.backends.torch import compile_model
from seqdsl.backends.torch.load import load
from seqdsl.diagnostics import UnsupportedError
from seqdsl.elaborate import elaborate_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import Bound, bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.types import BATCH, TIME

SPECS = sorted(Path(__file__).with_name("torch_specs").glob("*.seq"))


@dataclass
class Case:
    """A layer, its sizes, and a module with random parameters."""

    model: ir.Model
    options: dict[str, Scalar]
    streams: bool
    fixed: dict[str, int]
    bound: Bound
    module: Any
    generator: torch.Generator

    def inputs(self, batch: int, time: int) -> dict[str, Tensor]:
        """Random inputs."""
        return {i.name: self._input(i, batch, time) for i in self.model.inputs}

    def _input(self, item: ir.Input, batch: int, time: int) -> Tensor:
        if item.name in self.fixed:
            return torch.tensor(self.fixed[item.name])
        extents = {BATCH: batch, TIME: time}
        lead = [extents[a] for a in (BATCH, TIME) if a in item.type.axes]
        shape = [*lead, *(self.bound.dims[d] for d in item.type.dims)]
        match item.type.dtype:
            case "int":
                return torch.randint(0, 2, shape, generator=self.generator)
            case "bool":
                return torch.rand(shape, generator=self.generator) < 0.5
            case _:
                x = torch.randn(shape, generator=self.generator, dtype=torch.float64)
                return x.requires_grad_()

    def extents(self, batch: int, time: int) -> dict[str, int]:
        """Keywords for what no input tells."""
        axes = {a for i in self.model.inputs for a in i.type.axes}
        given = {"batch": batch} if BATCH not in axes else {}
        return given | ({"time": time} if TIME not in axes else {})

    def start(self, batch: int) -> Any:
        """A state in double precision whose random numbers are the interpreter's."""
        return _seeded(self.module.initial_state(batch, dtype=torch.float64))


def _seeded(state: Any) -> Any:
    if hasattr(state, "keys"):
        fresh: dict[str, Any] = {}
        for key in state:
            value = state[key]
            fresh[key] = torch.tensor(0) if key == "seed" else _seeded(value)
        return fresh
    if hasattr(state, "append"):
        return [_seeded(one) for one in state]
    return state


def read_case(path: Path) -> Case:
    """The case in a file."""
    text = path.read_text(encoding="utf-8")
    listed = re.search(r"^# options: (.*)$", text, re.MULTILINE)
    pairs = re.findall(r"(\w+) = ([\w.]+)", listed[1] if listed else "")
    options: dict[str, Scalar] = {k: float(v) if "." in v else int(v) for k, v in pairs}
    fixed = {
        k: int(v) for k, v in re.findall(r"^# input (\w+): (\d+)$", text, re.MULTILINE)
    }
    model = elaborate_text(text)
    generator = torch.Generator().manual_seed(1)
    module: Any = load(compile_model(model))(**options).double().eval()
    with torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=generator).to(p.dtype))
    streams = "# streams: no" not in text
    bound = bind_sizes(model, options)
    return Case(model, options, streams, fixed, bound, module, generator)


def listed(result: Any) -> list[Tensor]:
    """The outputs of a call."""
    return [result] if isinstance(result, Tensor) else list(result)


def same(ours: Tensor, theirs: Tensor, what: str, slack: float = 1e-10) -> None:
    """Equal up to rounding, and equal in shape."""
    torch.testing.assert_close(
        ours.to(theirs.dtype),
        theirs,
        atol=slack,
        rtol=slack,
        msg=lambda text: f"{what}: {text}",
    )


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
@pytest.mark.parametrize(
    ("batch", "time", "packed"),
    [(2, 5, False), (2, 6, True), (1, 1, False), (2, 0, False), (0, 3, False)],
)
def test_module_means_its_spec(path: Path, batch: int, time: int, packed: bool) -> None:
    case = read_case(path)
    inputs = case.inputs(batch, time)
    segments = None
    if packed:
        ids = torch.randint(0, 3, (batch, time), generator=case.generator)
        segments = torch.sort(ids, 1).values
    given: dict[str, Any] = case.extents(batch, time)
    theirs = interpret(
        case.model,
        options=case.options,
        params=case.module.state_dict(keep_vars=True),
        inputs=inputs,
        segments=segments,
        **given,
    )
    if case.streams:
        given["state"] = case.start(batch)
    ours = listed(case.module(*inputs.values(), segments=segments, **given))
    for (name, value), found in zip(theirs.items(), ours, strict=True):
        same(found, value, name)
    if batch * time:
        _same_gradients(case, inputs, ours, list(theirs.values()))
    if case.streams:
        _same_in_pieces(case, inputs, segments, ours, batch, time)
    if case.streams and segments is None:
        _same_step_by_step(case, inputs, ours, batch, time)


def _same_gradients(
    case: Case, inputs: dict[str, Tensor], ours: list[Tensor], theirs: list[Tensor]
) -> None:
    leaves = [*case.module.parameters(), *inputs.values()]
    leaves = [x for x in leaves if x.requires_grad]

    def gradients(outputs: list[Tensor]) -> tuple[Tensor, ...]:
        total = torch.zeros((), dtype=torch.float64)
        for y in outputs:
            if y.is_floating_point():
                weight = torch.arange(1.0, y.numel() + 1, dtype=torch.float64).sin()
                total = total + (y * weight.reshape(y.shape)).sum()
        if not total.requires_grad:
            return tuple(torch.zeros_like(x) for x in leaves)
        return torch.autograd.grad(
            total, leaves, allow_unused=True, materialize_grads=True
        )

    for a, b in zip(gradients(ours), gradients(theirs), strict=True):
        same(a, b, "gradient", 1e-9)


def _piece(case: Case, inputs: dict[str, Tensor], begin: int, end: int) -> list[Tensor]:
    timed = {i.name for i in case.model.inputs if TIME in i.type.axes}
    return [x[:, begin:end] if n in timed else x for n, x in inputs.items()]


def _timed(case: Case, ours: list[Tensor]) -> list[tuple[int, Tensor]]:
    """Outputs that have a value for each step."""
    outputs = case.model.outputs
    return [(i, y) for i, y in enumerate(ours) if TIME in outputs[i].expr.type.axes]


def _same_in_pieces(
    case: Case,
    inputs: dict[str, Tensor],
    segments: Tensor | None,
    ours: list[Tensor],
    batch: int,
    time: int,
) -> None:
    for cuts in ([0, *range(1, time + 1)], [0, 2, 2, time] if time > 2 else [0, time]):
        state, pieces = case.start(batch), list[list[Tensor]]()
        for begin, end in pairwise(cuts):
            ids = None if segments is None else segments[:, begin:end]
            result, state = case.module(
                *_piece(case, inputs, begin, end),
                state=state,
                segments=ids,
                return_state=True,
                **case.extents(batch, end - begin),
            )
            pieces.append(listed(result))
        for i, whole in _timed(case, ours) if pieces else ():
            same(torch.cat([p[i] for p in pieces], 1), whole, f"pieces {cuts}")


def _same_step_by_step(
    case: Case, inputs: dict[str, Tensor], ours: list[Tensor], batch: int, time: int
) -> None:
    state, steps = case.start(batch), list[list[Tensor]]()
    timed = {i.name for i in case.model.inputs if TIME in i.type.axes}
    for t in range(time):
        args = [x[:, t] if n in timed else x for n, x in inputs.items()]
        result, state = case.module.step(*args, state)
        steps.append(listed(result))
    for i, whole in _timed(case, ours) if steps else ():
        same(torch.stack([s[i] for s in steps], 1), whole, "step by step")


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_what_cannot_stream_says_why(path: Path) -> None:
    case = read_case(path)
    inputs = list(case.inputs(2, 3).values())
    if case.streams:
        assert isinstance(case.module.initial_state(2), dict)
        return
    with pytest.raises(UnsupportedError, match="cannot run step by step"):
        case.module.step(*inputs, {})
    with pytest.raises(UnsupportedError, match="cannot run step by step"):
        case.module(*inputs, return_state=True)
