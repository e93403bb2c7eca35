"""A module that runs the reference interpreter: slow, and right by definition.

Its state is everything it has been given, so that streaming is the whole sequence once
more. The kit is tried on it, and a user can compare with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from seqdsl.backends.reference import initial_params, interpret
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.types import BATCH, TIME
from seqdsl.testing.traits import traits

State = dict[str, Tensor]
Externs = Mapping[str, Callable[..., Tensor]]


class ReplayModule(nn.Module):
    """`model` under `options`; called as every compiled layer is."""

    def __init__(
        self,
        model: ir.Model,
        options: Mapping[str, Scalar],
        seed: int = 0,
        externs: Externs | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.options = dict(options)
        self.externs = dict(externs or {})
        frozen = {p.key for p in model.params if p.frozen}
        for key, value in initial_params(model, options, seed).items():
            _place(self, key, value, key not in frozen)

    def forward(
        self,
        *args: Tensor,
        state: State | None = None,
        segments: Tensor | None = None,
        return_state: bool = False,
        batch: int | None = None,
        time: int | None = None,
        **named: Tensor,
    ) -> object:
        """Outputs of the piece; `[batch, time, dims]`."""
        given = dict(zip((i.name for i in self.model.inputs), args, strict=False))
        given.update(named)
        if state is None and not return_state:
            return self._pack(self._run(given, segments, batch, time))
        found, after = self._piece(state or {}, given, segments, batch, time)
        return (self._pack(found), after) if return_state else self._pack(found)

    def _piece(
        self,
        before: State,
        given: Mapping[str, Tensor],
        segments: Tensor | None,
        batch: int | None,
        time: int | None,
    ) -> tuple[State, State]:
        """All there is so far once more, and of it what is new."""
        if not traits(self.model).must_stream:
            raise UnsupportedError(f"{self.model.name} reads later steps")
        past = int(before["t"]) if "t" in before else 0
        whole = self._joined(before, given, segments)
        total = None if time is None else past + time
        found = self._run(
            {n: whole[n] for n in given}, whole.get("segments"), batch, total
        )
        new = {
            o.name: found[o.name][:, past:]
            if TIME in o.expr.type.axes
            else found[o.name]
            for o in self.model.outputs
        }
        whole["t"] = torch.tensor(_steps(self.model, whole, total))
        return new, whole

    def initial_state(
        self, batch: int = 1, *, dtype: torch.dtype | None = None
    ) -> State:
        """Nothing given yet."""
        if not traits(self.model).must_stream:
            raise UnsupportedError(f"{self.model.name} reads later steps")
        return {}

    def step(self, *args: Tensor | State) -> tuple[object, State]:
        """One step, of all inputs and a state: tensors have no time axis."""
        names = [i.name for i in self.model.inputs]
        *inputs, last = args
        state = cast(State, last)
        given = dict(zip(names, cast("list[Tensor]", inputs), strict=True))
        moving = {i.name for i in self.model.inputs if TIME in i.type.axes}
        piece = {n: v.unsqueeze(1) if n in moving else v for n, v in given.items()}
        one = None if moving else 1
        call = cast(Callable[..., object], self.forward)
        result = call(state=state, return_state=True, time=one, **piece)
        outputs, after = cast("tuple[Tensor | tuple[Tensor, ...], State]", result)
        kinds = [TIME in o.expr.type.axes for o in self.model.outputs]
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        flat = [v[:, 0] if k else v for v, k in zip(values, kinds, strict=True)]
        pairs = zip((o.name for o in self.model.outputs), flat, strict=True)
        return self._pack(dict(pairs)), after

    def _joined(
        self, before: State, given: Mapping[str, Tensor], segments: Tensor | None
    ) -> State:
        whole = dict(given)
        if segments is not None:
            whole["segments"] = segments
        for name, value in before.items():
            moving = name == "segments" or (
                name in self.model.input and TIME in self.model.input[name].type.axes
            )
            if name in whole and moving:
                whole[name] = torch.cat([value, whole[name]], 1)
        return whole

    def _run(
        self,
        given: Mapping[str, Tensor],
        segments: Tensor | None,
        batch: int | None,
        time: int | None,
    ) -> dict[str, Tensor]:
        params = {n: p for n, p in self.state_dict(keep_vars=True).items()}
        dtype = self._dtype(given)
        found = interpret(
            self.model,
            options=self.options,
            params=cast("dict[str, Tensor]", params),
            inputs=given,
            segments=segments,
            training=self.training,
            externs=self.externs,
            batch=batch,
            time=time,
        )
        return {
            n: v.to(dtype) if v.is_floating_point() else v for n, v in found.items()
        }

    def _dtype(self, given: Mapping[str, Tensor]) -> torch.dtype:
        floats = (v for v in (*given.values(), *self.parameters()))
        return next((v.dtype for v in floats if v.is_floating_point()), torch.float64)

    def _pack(self, outputs: Mapping[str, Tensor]) -> object:
        """One tensor, or a tuple of several."""
        values = tuple(outputs.values())
        return values[0] if len(values) == 1 else values


def _place(module: nn.Module, key: str, value: Tensor, learned: bool) -> None:
    *path, name = key.split(".")
    for part in path:
        if not hasattr(module, part):
            module.add_module(part, nn.Module())
        module = cast(nn.Module, getattr(module, part))
    if learned and (value.is_floating_point() or value.is_complex()):
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)


def _steps(model: ir.Model, whole: State, total: int | None) -> int:
    for declared in model.inputs:
        if TIME in declared.type.axes and BATCH in declared.type.axes:
            return whole[declared.name].shape[1]
    return total or 0
