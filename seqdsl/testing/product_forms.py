"""Checks chunkwise forms of recurrences against what the model computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from seqdsl.analysis import Analyzed, Verdict
from seqdsl.backends.reference import initial_params, interpret
from seqdsl.differentiate.broadcast import ZERO, add, mul, shaped, spread
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.types import TIME
from seqdsl.schedule.chunked import with_reads
from seqdsl.schedule.forms import Products
from seqdsl.schedule.products import Chunked, products
from seqdsl.testing.normal_forms import random_value


def restored(model: ir.Model, verdict: Verdict, chunked: Chunked[Products]) -> ir.Model:
    """`model` with the recurrence as its form says it, and readers over its reads."""
    form = chunked.form
    made = with_reads(model, verdict, chunked)
    members = set(verdict.recurrence.members)
    gone = members - set(form.states) - set(chunked.after)
    equations = [
        replace(e, expr=_update(model, verdict, form, e.name))
        if e.name in form.states
        else e
        for e in made.equations
        if e.name not in gone
    ]
    return replace(made, equations=tuple(equations))


def _before(model: ir.Model, verdict: Verdict, state: str) -> ir.Node:
    offset = -1 if verdict.recurrence.direction == "forward" else 1
    return build.shift(build.ref(state, model.equation[state].expr.type), TIME, offset)


def _update(model: ir.Model, verdict: Verdict, form: Products, state: str) -> ir.Node:
    result: ir.Node = ZERO
    for decay in form.decays:
        if decay.target == state:
            before = _before(model, verdict, decay.source)
            result = add(result, mul(decay.coefficient, before))
    for written in form.writes:
        if state not in written.left:
            continue
        value: ir.Node | None = written.value
        for source, right in written.right.items():
            before = _before(model, verdict, source)
            erased = build.contract([spread(right, form.rows), before], form.rows)
            value = erased if value is None else add(value, erased)
        assert value is not None
        product = mul(written.left[state], value)
        if written.inner:
            product = build.reduce("sum", spread(product, written.inner), written.inner)
        result = add(result, product)
    return shaped(result, model.equation[state].expr.type.dims)


def check_products(
    analyzed: Analyzed, options: Mapping[str, Scalar], seed: int = 0
) -> int:
    """Compares every layer's outputs with those of its chunkwise forms, step by step.

    Returns how many forms there were; raises `AssertionError` where one gives something
    else than the model, on random values in float64.
    """
    found = 0
    for verdict in analyzed.verdicts:
        if verdict.recurrence.layer:
            continue
        model = analyzed.model
        chunked = products(model, verdict, 4)
        if chunked is not None:
            found += 1
            _compare(model, restored(model, verdict, chunked), options, seed)
    return found


def _compare(
    model: ir.Model, other: ir.Model, options: Mapping[str, Scalar], seed: int
) -> None:
    make = torch.Generator().manual_seed(seed)
    sizes = bind_sizes(model, options).dims
    inputs = {i.name: random_value(i, sizes, make) for i in model.inputs}
    params = initial_params(model, options=options, seed=seed)
    said, have = (
        interpret(m, options=options, params=params, inputs=inputs)
        for m in (model, other)
    )
    for name, value in said.items():
        torch.testing.assert_close(have[name], value, rtol=1e-8, atol=1e-8)
