"""A layer under test, and the one place that knows how compiled layers are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from seqdsl.analysis import Analyzed, analyze
from seqdsl.backends.reference import initial_params, interpret
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import Bound, bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.types import BATCH, TIME, DType
from seqdsl.testing.known import Known
from seqdsl.testing.ranges import int_range
from seqdsl.testing.traits import Traits, traits

Tensors = dict[str, Tensor]
Externs = Mapping[str, Callable[..., Tensor]]

DTYPES: Mapping[DType, torch.dtype] = {
    "float": torch.float64,
    "complex": torch.complex128,
    "int": torch.int64,
    "bool": torch.bool,
}


def _is_real(value: Tensor) -> bool:
    return value.is_floating_point()


class Layer(Protocol):
    """What every compiled layer offers beside `torch.nn.Module`'s own."""

    def initial_state(
        self, batch: int = 1, *, dtype: torch.dtype | None = None
    ) -> object: ...
    def step(self, *args: object) -> object: ...


@dataclass(frozen=True)
class Subject:
    """A layer with all its options set.

    `make` builds a module in double precision. `ranges` says from where to where an
    int input is drawn, where that is not read off the model. `file` and `text` are for
    reports. `known` is shared by a subject and those made of it by `replace`.
    """

    model: ir.Model
    options: Mapping[str, Scalar]
    make: Callable[[], nn.Module]
    ranges: Mapping[str, tuple[int, int]] = field(
        default_factory=dict[str, tuple[int, int]]
    )
    externs: Externs = field(default_factory=dict[str, Callable[..., Tensor]])
    file: str = "<spec>"
    text: str = ""
    known: Known = field(default_factory=Known, compare=False, repr=False)

    @cached_property
    def bound(self) -> Bound:
        """Extents of all dims."""
        return bind_sizes(self.model, self.options)

    @cached_property
    def traits(self) -> Traits:
        """What is plain to see in the model."""
        return traits(self.model)

    @cached_property
    def analyzed(self) -> Analyzed:
        """The verdicts on the model."""
        return analyze(self.model)

    @cached_property
    def module(self) -> nn.Module:
        """One module, whose parameters every case sets anew."""
        return self.make().eval()

    @cached_property
    def refusal(self) -> str | None:
        """Why the layer does not stream, in its own words; None where it does."""
        caller = Caller(self, self.module)
        try:
            caller.piece(self.least(), None, size=(1, 1))
        except UnsupportedError as error:
            return str(error)
        return None

    def least(self) -> Tensors:
        """One step of zeros (ints: the least allowed), for one row."""
        result: Tensors = {}
        for declared in self.model.inputs:
            lead = [1 for axis in (BATCH, TIME) if axis in declared.type.axes]
            shape = [*lead, *(self.bound.dims[d] for d in declared.type.dims)]
            zeros = torch.zeros(shape, dtype=DTYPES[declared.type.dtype])
            whole = declared.type.dtype == "int"
            low = self.range_of(declared.name)[0] if whole else 0
            result[declared.name] = zeros + low if whole else zeros
        return result

    def range_of(self, name: str) -> tuple[int, int]:
        """From where to where (exclusive) the int input `name` is drawn."""
        if name in self.ranges:
            return self.ranges[name]
        return int_range(self.model, self.bound, name)

    def moves(self, name: str) -> bool:
        """Whether an input has one value per step."""
        return TIME in self.model.input[name].type.axes

    @cached_property
    def moving_outputs(self) -> tuple[str, ...]:
        """Outputs with one value per step."""
        return tuple(o.name for o in self.model.outputs if TIME in o.expr.type.axes)

    def untold(self, size: tuple[int, int]) -> dict[str, int]:
        """Of batch and time, what no input tells."""
        told = frozenset[str]().union(*(i.type.axes for i in self.model.inputs))
        named = (("batch", BATCH, size[0]), ("time", TIME, size[1]))
        return {name: n for name, axis, n in named if axis not in told}

    @cached_property
    def weightless(self) -> bool:
        """Whether no parameter tells the precision of the layer."""
        return not any(_is_real(v) for v in self.params(0).values())

    @cached_property
    def bare(self) -> bool:
        """Whether no input tells it either."""
        kinds = {i.type.dtype for i in self.model.inputs}
        return self.weightless and not kinds & {"float", "complex"}

    def params(self, seed: int) -> Tensors:
        """Initial values, moved a little so that no zero or one hides a mistake."""
        drawn = self.known.once(("params", seed), lambda: self._params(seed))
        return {name: value.clone() for name, value in drawn.items()}

    def _params(self, seed: int) -> Tensors:
        generator = torch.Generator().manual_seed(seed)
        found = initial_params(self.model, self.options, seed)
        frozen = {p.key for p in self.model.params if p.frozen}
        result: Tensors = {}
        for name, value in found.items():
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            result[name] = value
            if name not in frozen and (_is_real(value) or value.is_complex()):
                result[name] = value + 0.1 * noise
        return result

    def reference(
        self,
        inputs: Tensors,
        params: Tensors,
        segments: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensors:
        """The outputs by the meaning of the language."""
        batch, time = size if size is not None else (None, None)
        return interpret(
            self.model,
            options=self.options,
            params=params,
            inputs=inputs,
            segments=segments,
            externs=self.externs,
            batch=batch,
            time=time,
        )


@dataclass(frozen=True)
class Caller:
    """Calls of one module with inputs and outputs by name.

    `params` stand in for the module's own where given, so that they can be
    differentiated.
    """

    subject: Subject
    module: nn.Module
    params: Tensors | None = None

    def forward(
        self,
        inputs: Tensors,
        segments: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensors:
        """A whole sequence."""
        extra: dict[str, object] = {**self._sizes(size)}
        if segments is not None:
            extra["segments"] = segments
        return self._named(self._call(inputs, extra))

    def piece(
        self,
        inputs: Tensors,
        state: object,
        segments: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[Tensors, object]:
        """Part of a sequence, after `state` (None: from the start)."""
        extra: dict[str, object] = {"state": state, "return_state": True}
        extra.update(self._sizes(size))
        if segments is not None:
            extra["segments"] = segments
        result = self._call(inputs, extra)
        outputs, after = cast(tuple[object, object], result)
        return self._named(outputs), after

    def step(self, inputs: Tensors, state: object) -> tuple[Tensors, object]:
        """One step; tensors have no time axis."""
        layer = cast(Layer, self.module)
        result = self._stepped(layer, inputs, state)
        outputs, after = cast(tuple[object, object], result)
        return self._named(outputs), after

    def _stepped(self, layer: Layer, inputs: Tensors, state: object) -> object:
        if self.params is None:
            return layer.step(*inputs.values(), state)
        stepper = replace(self, module=_Stepper(self.module))
        return stepper._call(inputs, {"state": state}, prefix="inner.")

    def initial_state(self, batch: int) -> object:
        """Before the first step."""
        layer = cast(Layer, self.module)
        if self.subject.weightless:
            return layer.initial_state(batch=batch, dtype=torch.float64)
        return layer.initial_state(batch=batch)

    def _call(
        self, inputs: Tensors, extra: Mapping[str, object], prefix: str = ""
    ) -> object:
        """Inputs go in declared order: a name may be one that Python has taken."""
        if self.params is None:
            return self.module(*inputs.values(), **extra)
        params = {f"{prefix}{n}": p for n, p in self.params.items()}
        arguments = tuple(inputs.values())
        call = cast(Callable[..., object], torch.func.functional_call)
        return call(self.module, params, arguments, dict(extra))

    def _sizes(self, size: tuple[int, int] | None) -> dict[str, int]:
        return {} if size is None else self.subject.untold(size)

    def _named(self, outputs: object) -> Tensors:
        names = [o.name for o in self.subject.model.outputs]
        values = (outputs,) if isinstance(outputs, Tensor) else outputs
        found = dict(zip(names, cast("tuple[Tensor, ...]", values), strict=True))
        if self.subject.bare:
            # its precision is torch's default, whatever the reference has
            return {n: v.double() if _is_real(v) else v for n, v in found.items()}
        return found


class _Stepper(nn.Module):
    """`step` as a forward, so that parameters can stand in for the module's own."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor, state: object) -> object:
        return cast(Layer, self.inner).step(*inputs, state)
