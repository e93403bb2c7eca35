"""`step` by kernels alone, for all modules of a class."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seqdsl.backends.mlir.errors import KernelError
from seqdsl.backends.torch.lower import make_layer
from seqdsl.diagnostics import SpecError, UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import Bound, bind_sizes
from seqdsl.ir.types import BATCH
from seqdsl.native.stepping.layer import Layer
from seqdsl.native.stepping.places import Places
from seqdsl.native.stepping.plan import StepPlan, StepRefused, Work
from seqdsl.native.stepping.program import StepProgram
from seqdsl.native.stepping.slots import Slot, Store
from seqdsl.schedule.block import Key

_MOST_ROWS = 16
"""Sequences up to which reading the weights is what a step costs."""


def plan_calls(model: ir.Model, sizes: Bound, store: Store, state: object) -> StepPlan:
    """The step of `model`; raises `StepRefused` where some of it is no kernel.

    `state` is one that the layer starts from, which says which entries there are.
    """
    work = Work(store, state)
    args = {
        i.name: store.given(
            "input",
            (n,),
            [sizes.dims[d] if d in sizes.dims else int(d) for d in i.type.dims],
            i.type.dtype,
            BATCH in i.type.axes,
        )
        for n, i in enumerate(model.inputs)
    }
    env: dict[Key, Slot] = {("ref", n): slot for n, slot in args.items()}
    Layer(Places(work, model, sizes, (), (), env)).run(outermost=True)
    after, checked = tuple(work.after.items()), tuple(work.checked.items())
    return StepPlan(tuple(work.calls), store, after, checked)


class Steps:
    """The programs of the modules of one class; `model` is what the class computes."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.attributes = make_layer(model).attributes
        self.programs: WeakKeyDictionary[
            nn.Module, dict[object, StepProgram | None]
        ] = WeakKeyDictionary()

    def program(
        self, module: nn.Module, batch: int, floats: torch.dtype
    ) -> StepProgram:
        """A program; raises `StepRefused` where there is none."""
        state: Any = getattr(module, "initial_state")(batch)  # noqa: B009 (untyped)
        try:
            plan = plan_calls(
                self.model, self._sizes(module), Store(batch, floats), state
            )
            return StepProgram(plan)
        except (SpecError, UnsupportedError, KernelError, KeyError) as error:
            raise StepRefused(str(error)) from error

    def _sizes(self, module: nn.Module) -> Bound:
        given = {
            o.name: getattr(module, self.attributes[o.name]) for o in self.model.options
        }
        return bind_sizes(self.model, given)

    def run(
        self, module: nn.Module, args: tuple[Any, ...]
    ) -> tuple[list[Tensor], Any] | None:
        """Outputs and the next state of a step; None where kernels do not serve it."""
        if len(args) != len(self.model.inputs) + 1:
            return None
        *inputs, state = args
        first = next((x for x in inputs if isinstance(x, Tensor)), None)
        if first is None or not first.dim() or len(first) > _MOST_ROWS:
            return None
        known = self.programs.setdefault(module, {})
        floats = _floats(module, inputs)
        key = (get_ident(), len(first), floats)
        if key not in known:
            if torch.is_grad_enabled() and any(
                p.requires_grad for p in module.parameters()
            ):
                return None
            try:
                known[key] = self.program(module, len(first), floats)
            except StepRefused:
                known[key] = None
        program = known[key]
        return None if program is None else program.run(module, inputs, state)


def _floats(module: nn.Module, inputs: Sequence[Any]) -> torch.dtype:
    """The dtype in which a module computes."""
    for value in inputs:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.dtype
    return next((p.dtype for p in module.parameters()), torch.get_default_dtype())
