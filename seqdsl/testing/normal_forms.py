"""Checks a model's verdicts against what its equations compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from seqdsl.analysis import Analyzed, Verdict
from seqdsl.analysis.compose import compose, compose_monoid
from seqdsl.backends.reference import initial_params, interpret
from seqdsl.differentiate.broadcast import spread
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar


def _with_normal_forms(analyzed: Analyzed, verdict: Verdict) -> ir.Model:
    """The model with every update and its normal form as outputs."""
    outputs: list[ir.Output] = []
    model = analyzed.model
    recurrence = verdict.recurrence
    offset = -1 if recurrence.direction == "forward" else 1
    types = {s: model.equation[s].expr.type for s in recurrence.states}
    reads = {s: build.shift(build.ref(s, t), "t", offset) for s, t in types.items()}
    after = compose_monoid(verdict, reads) if verdict.structure == "monoid" else {}
    for state, type_ in types.items():
        if state in after:
            node = after[state]
        else:
            (update,) = (u for u in verdict.updates if u.state == state)
            node = compose(update, verdict.semiring or "real")
        node = spread(node, type_.dims)
        outputs.append(ir.Output(name=f"{state}_found", expr=node))
        outputs.append(ir.Output(name=f"{state}_said", expr=build.ref(state, type_)))
    dims = {**model.dims, **verdict.dims}
    return replace(model, outputs=tuple(outputs), dims=dims)


def check_normal_forms(
    analyzed: Analyzed, options: Mapping[str, Scalar], seed: int = 0
) -> int:
    """Compares every affine update over time with its normal form, at random values.

    Returns how many updates were compared; raises `AssertionError` where one differs
    by more than rounding. Sub-layers that are still calls are left out.
    """
    make = torch.Generator().manual_seed(seed)
    compared = 0
    for verdict in analyzed.verdicts:
        recurrence = verdict.recurrence
        if recurrence.layer or recurrence.axis != "t":
            continue
        if not verdict.updates and not verdict.leaf:
            continue
        model = _with_normal_forms(analyzed, verdict)
        values = run_on_noise(model, options, make)
        for state in recurrence.states:
            compared += 1
            _compare(model, state, values)
    return compared


def run_on_noise(
    model: ir.Model, options: Mapping[str, Scalar], make: torch.Generator
) -> Mapping[str, torch.Tensor]:
    """The outputs for random parameters and inputs, of two sequences of three steps."""
    params = initial_params(model, options=options, seed=0)
    sizes = bind_sizes(model, options).dims
    return interpret(
        model,
        options=options,
        params={n: _noise(p.shape, p.dtype, make) for n, p in params.items()},
        inputs={i.name: random_value(i, sizes, make) for i in model.inputs},
    )


def _compare(model: ir.Model, state: str, values: Mapping[str, torch.Tensor]) -> None:
    found, said = values[f"{state}_found"], values[f"{state}_said"]
    have, want = (
        next(o.expr.type.dims for o in model.outputs if o.name == f"{state}_{kind}")
        for kind in ("found", "said")
    )
    lead = found.dim() - len(have)
    found = found.permute(*range(lead), *(have.index(d) + lead for d in want))
    found = found.reshape(*(1,) * (said.dim() - found.dim()), *found.shape)
    found = found.expand(said.shape)
    if said.dtype == torch.bool:
        assert torch.equal(found, said), f"`{state}` is not what its normal form says"
        return
    # Huge values leave no digits for terms that cancel.
    sane = torch.isfinite(said) & (said.abs() < 1e6)
    wide = torch.promote_types(
        torch.promote_types(found.dtype, said.dtype), torch.float64
    )
    close = torch.isclose(found.to(wide), said.to(wide), rtol=1e-6, atol=1e-6)
    assert bool((close | ~sane).all()), f"`{state}` is not what its normal form says"


def _noise(
    shape: torch.Size, dtype: torch.dtype, make: torch.Generator
) -> torch.Tensor:
    return torch.randn(shape, generator=make, dtype=dtype)


def random_value(
    declared: ir.Input, sizes: Mapping[str, int], make: torch.Generator
) -> torch.Tensor:
    """Random values of an input, for two sequences of three steps."""
    axes = declared.type.axes
    lead = (2, 3) if "t" in axes else (2,) if axes else ()
    shape = (*lead, *(int(sizes.get(d, d)) for d in declared.type.dims))
    match declared.type.dtype:
        case "int":
            return torch.randint(0, 4, shape, generator=make)
        case "bool":
            return torch.rand(shape, generator=make) < 0.5
        case _:
            return torch.randn(shape, generator=make, dtype=torch.float64)
