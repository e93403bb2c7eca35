"""How far rounding carries a result off: an error model, and its numbers for a layer.

Every operation rounds its result, by at most the unit roundoff `u` of it and in either
direction alike (N. Higham and T. Mary, A new approach to probabilistic rounding error
analysis, SIAM J. Sci. Comput. 41(5), 2019): over `m` roundings on the way to a result the
errors add up to about `u * sqrt(m)`, times how much the result changes with what it is
made of, its condition. Where a state is rounded at every step, what is still seen of
earlier steps counts: `m` is the roundings of a step times the steps remembered. Constant
transitions are off by the same at all steps, so that their errors add up without the root.

All of these numbers are had without rounding: counted in the equations, or measured in
double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch

from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children
from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.properties.compare import part
from seqdsl.testing.subject import Caller, Subject, Tensors

BACKWARD = 3
"""A gradient is made of what the forward pass rounded, and of as many products and sums."""

CONFIDENCE = 2
"""How many times as large as expected an error may be."""

SMALL = 1e-7
"""How much, relatively, arguments are changed to see what results make of it."""

Outcome = Callable[[Tensors, Tensors], Tensors]
"""Outputs and gradients for inputs and parameters, in double precision."""


@dataclass(frozen=True)
class Rounding:
    """What the errors of a layer depend on.

    `step`: roundings of a step. `steps`: how many are remembered, squares of what is seen
    of each added up. `plain`: the same without squares, where transitions are constant,
    else 0. `time`: steps in all. `condition` of each result, at least 1. `params` are the
    names of parameters.
    """

    step: int
    steps: float
    plain: float
    time: int
    condition: Mapping[str, float]
    params: frozenset[str]

    def bound(self, dtype: torch.dtype, *, stored: bool, name: str) -> float:
        """The error of the result `name`, relative to its largest entry.

        `stored`: states are rounded at every step, and so are sums over time that are
        gradients of parameters, which autograd adds up step by step.
        """
        gradient = name.startswith("gradient")
        roundings = self.step * (self.steps if stored else 1)
        if gradient:
            added_up = stored and name.removeprefix("gradient of ") in self.params
            roundings = BACKWARD * roundings + (self.time if added_up else 0)
        same = self.plain * (BACKWARD if gradient else 1)
        unit = torch.finfo(dtype).eps / 2 * self.condition[name]
        return CONFIDENCE * unit * (math.sqrt(roundings) + same)


def rounding(subject: Subject, case: Case, outcome: Outcome) -> Rounding:
    """The numbers of a layer over sequences of a case."""
    steps, plain = _remembered(subject, case)
    invariant = any(
        v.invariant and v.semiring == "real" and v.structure != "identity"
        for v in subject.analyzed.verdicts
    )
    return Rounding(
        step=_of_a_step(subject.model),
        steps=steps,
        plain=plain if invariant else 0,
        time=case.time,
        condition=_condition(subject, case, outcome),
        params=frozenset(subject.params(case.seed)),
    )


def _of_a_step(model: ir.Model) -> int:
    """Roundings from what a step is given to what it makes, on the longest way."""
    found: dict[str, int] = {}

    def of(node: ir.Node) -> int:
        match node:
            case ir.Shift() | ir.Const() | ir.Position():
                return 0
            case ir.Ref(name=name) if name in model.equation:
                if name not in found:
                    found[name] = 0
                    found[name] = of(model.equation[name].expr)
                return found[name]
            case ir.Map() | ir.Contract() | ir.Reduce() | ir.Along() | ir.Conv():
                return 1 + max(map(of, children(node)), default=0)
            case _:
                return max(map(of, children(node)), default=0)

    return max(1, *(of(o.expr) for o in model.outputs))


def _remembered(subject: Subject, case: Case) -> tuple[float, float]:
    """Over how many steps what a step is given, or what is rounded there, is seen.

    What is seen at each step is squared, or added up as it is, at full strength.
    """
    params, inputs = subject.params(case.seed), inputs_for(subject, case)
    exact = _run(subject, inputs, params, case)
    squares = plain = 1.0
    for at in (0, case.time - 1):
        moved = {n: v.clone() for n, v in inputs.items()}
        for value in moved.values():
            if value.is_floating_point():
                noise = torch.randn(
                    value[:, at].shape, generator=case.generator(at), dtype=value.dtype
                )
                value[:, at] += 1e-6 * noise
        seen = _run(subject, moved, params, case)
        for share in _shares(exact, seen):
            squares = max(squares, float(share.square().sum()))
            plain = max(plain, float(share.sum()))
    for share in _of_states(subject, case, inputs, params):
        squares = max(squares, float(share.square().sum()))
    return squares, plain


def _shares(exact: Tensors, seen: Tensors) -> Iterator[torch.Tensor]:
    """What is seen of a change at each step, as a part of the most."""
    for name, value in exact.items():
        if value.is_floating_point() and value.dim() > 2:
            change = (seen[name] - value).abs().flatten(2).amax((0, 2))
            yield change / change.max().clamp_min(1e-300)


def _of_states(
    subject: Subject, case: Case, inputs: Tensors, params: Tensors
) -> Iterator[torch.Tensor]:
    """What later steps see of a change of the states between two, where they are known."""
    caller, time = Caller(subject, subject.module, params), case.time
    for at in (time // 4, time // 2):
        rest, size = part(subject, inputs, at, time), (case.batch, time - at)
        try:
            with torch.no_grad():
                early = part(subject, inputs, 0, at)
                _, state = caller.piece(early, None, size=(case.batch, at))
                given = cast(dict[str, object], state)
                generator = case.generator(at)
                moved = {n: _changed(v, generator) for n, v in given.items()}
                exact, _ = caller.piece(rest, given, size=size)
                seen, _ = caller.piece(rest, moved, size=size)
        except UnsupportedError:
            return  # it reads later steps
        yield from _shares(exact, seen)


def _run(subject: Subject, inputs: Tensors, params: Tensors, case: Case) -> Tensors:
    with torch.no_grad():
        return Caller(subject, subject.module, params).forward(inputs, size=case.size)


def _condition(subject: Subject, case: Case, outcome: Outcome) -> Mapping[str, float]:
    """How much results change, as a part of their largest entry, with all arguments."""
    inputs, params = inputs_for(subject, case), subject.params(case.seed)
    exact = outcome(inputs, params)
    found = dict.fromkeys(exact, 1.0)
    for draw in range(3):
        generator = case.generator(71 + draw)
        changed = [
            {n: cast(torch.Tensor, _changed(v, generator)) for n, v in given.items()}
            for given in (inputs, params)
        ]
        moved = outcome(*changed)
        for name, value in exact.items():
            if value.is_floating_point() and value.numel():
                change = (moved[name] - value).abs().max()
                whole = value.abs().max().clamp_min(1)
                found[name] = max(found[name], float(change / whole) / SMALL)
    return found


def _changed(value: object, generator: torch.Generator) -> object:
    """A tensor of floats with every entry changed by a small part; others as they are."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
    return value * (1 + SMALL * (2 * noise - 1))
