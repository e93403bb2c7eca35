"""Checks that steps which are said to commute may be taken in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from seqdsl.analysis import Analyzed, Verdict
from seqdsl.backends.reference import initial_params, interpret
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.testing.normal_forms import random_value


def check_commutes(
    analyzed: Analyzed, options: Mapping[str, Scalar], seed: int = 0
) -> int:
    """Permutes the inputs along time; returns for how many recurrences it was tried.

    Raises `AssertionError` where the last state of one that commutes is then another.
    """
    said = [v for v in analyzed.verdicts if v.commutes and _is_own(v)]
    for verdict in said:
        found = last_states(analyzed, verdict, options, seed)
        for state, (one, other) in found.items():
            assert _close(one, other), f"the order of steps matters to `{state}`"
    return len(said)


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    wide = torch.promote_types(a.dtype, torch.float64)
    a, b = a.to(wide), b.to(wide)
    sane = torch.isfinite(a) & (a.abs() < 1e6)
    return bool((torch.isclose(a, b, rtol=1e-6, atol=1e-6) | ~sane).all())


def _is_own(verdict: Verdict) -> bool:
    return verdict.recurrence.axis == "t" and not verdict.recurrence.layer


def last_states(
    analyzed: Analyzed, verdict: Verdict, options: Mapping[str, Scalar], seed: int
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The last states on random inputs, in order and with the steps permuted."""
    model = analyzed.model
    types = {s: model.equation[s].expr.type for s in verdict.recurrence.states}
    refs = [(s, build.ref(s, t)) for s, t in types.items()]
    model = replace(model, outputs=tuple(ir.Output(name=s, expr=r) for s, r in refs))
    make = torch.Generator().manual_seed(seed)
    sizes = bind_sizes(model, options).dims
    params = initial_params(model, options=options, seed=seed)
    inputs = {i.name: random_value(i, sizes, make) for i in model.inputs}
    timed = {i.name for i in model.inputs if "t" in i.type.axes}
    order = torch.tensor([2, 0, 1])
    permuted = {n: v[:, order] if n in timed else v for n, v in inputs.items()}
    last = 2 if verdict.recurrence.direction == "forward" else 0
    one, other = (
        interpret(model, options=options, params=params, inputs=given)
        for given in (inputs, permuted)
    )
    return {s: (_at(one[s], last), _at(other[s], last)) for s in types}


def _at(value: torch.Tensor, step: int) -> torch.Tensor:
    return value[:, min(step, value.shape[1] - 1)]
