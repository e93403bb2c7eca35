"""Every form of every kind of recurrence, over sequences of thousands and of a million steps.

Single precision is held to what docs/strategies.md states, half precision to the error
model of `roundings.py`. The loop in double precision is what they are compared with; it is
the interpreter's there.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from roundings import bound, units_of
from rows import ROWS, Row
from torch import nn

from seqdsl.diagnostics import UnsupportedError
from seqdsl.native.artifact import native_artifact
from seqdsl.native.load import available
from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.layers import compiled, replayed
from seqdsl.testing.properties.compare import part, same
from seqdsl.testing.properties.strategies import ways
from seqdsl.testing.subject import Caller, Subject, Tensors

pytestmark = pytest.mark.slow

CASES = (Case(seed=1, batch=2, time=257), Case(seed=2, batch=1, time=4096))
LONG = Case(seed=3, batch=1, time=1_000_000)
NEAR = 2000
"""Steps of the long sequence over which a loop in torch is compared."""
SINGLE = 1e-5
"""Errors relative to the largest entry of a result, forward and backward."""


WIDE = frozenset({("frozen gradients", "newton")})
"""What is too wide: Newton's iteration keeps a matrix of 12 by 12 for each of a million steps."""


def forms(subject: Subject) -> tuple[str, ...]:
    """What the layer may run as, with chunks of one length and of another."""
    found = [w.partition(":")[0] for w in ways(subject)] or ["auto"]
    return tuple(x for w in found for x in ([w, "chunk:16"] if w == "chunk" else [w]))


def module_of(subject: Subject, form: str, target: str = "torch") -> nn.Module:
    return compiled(
        subject.model, subject.options, subject.externs, strategy=form, target=target
    )


def outcome(
    subject: Subject, module: nn.Module, inputs: Tensors, params: Tensors, case: Case
) -> Tensors:
    """Outputs, and gradients of a sum in which all of them count."""
    inputs, params = (
        {n: v.clone().requires_grad_(v.is_floating_point()) for n, v in given.items()}
        for given in (inputs, params)
    )
    leaves = {n: v for n, v in (*inputs.items(), *params.items()) if v.requires_grad}
    with warnings.catch_warnings():
        # Newton's iteration may give up, and says so
        warnings.filterwarnings("ignore", "newton did not come to rest")
        outputs = Caller(subject, module, params).forward(inputs, size=case.size)
    values = [(v * weights(v)).sum() for v in outputs.values() if v.requires_grad]
    grads = torch.autograd.grad(
        values, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    found = {n: v.detach() for n, v in outputs.items()}
    return found | {f"gradient of {n}": g for n, g in zip(leaves, grads, strict=True)}


def weights(value: torch.Tensor) -> torch.Tensor:
    order = torch.arange(value.numel(), dtype=torch.float64)
    return order.cos().reshape(value.shape).to(value.dtype)


def rounded(values: Tensors, dtype: torch.dtype) -> Tensors:
    return {n: v.to(dtype) if v.is_floating_point() else v for n, v in values.items()}


def lower(
    subject: Subject, form: str, exact: Tensors, dtype: torch.dtype, case: Case
) -> Iterator[tuple[str, float]]:
    """Relative errors of results in a lower precision; `exact` are for rounded arguments."""
    low = copy.deepcopy(module_of(subject, form)).to(dtype)
    given = rounded(inputs_for(subject, case), dtype)
    params = rounded(subject.params(case.seed), dtype)
    found = outcome(subject, low, given, params, case)
    for name, value in exact.items():
        if value.is_floating_point() and value.numel():
            assert bool(found[name].isfinite().all()), f"{form}: {name} in {dtype}"
            error = (found[name].to(value.dtype) - value).abs().max()
            yield name, float(error / value.abs().max().clamp_min(1))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_forms_agree(row: Row, case: Case) -> None:
    subject = row.subject()
    inputs, params = inputs_for(subject, case), subject.params(case.seed)
    meaning = outcome(subject, _reference(subject), inputs, params, case)
    for form in forms(subject):
        ours = outcome(subject, module_of(subject, form), inputs, params, case)
        same(ours, meaning, f"{form} of {row.name}")


def _reference(subject: Subject) -> nn.Module:
    return replayed(subject.model, subject.options, subject.externs).double()


LOWER = [
    (row, dtype)
    for row in ROWS
    for dtype in (torch.float32, torch.bfloat16)
    if row.half or dtype.itemsize > 2
]
"""bfloat16 of what jumps may land on the other side; there are no complex ones."""


@pytest.mark.parametrize(("row", "dtype"), LOWER, ids=str)
def test_forms_in_lower_precision(row: Row, dtype: torch.dtype) -> None:
    subject, case = row.subject(), CASES[1]
    half, exact = dtype.itemsize == 2, _of_rounded(subject, dtype, case)
    for form in forms(subject):
        units = _units(subject, form, exact, dtype, case) if half else {}
        for name, error in lower(subject, form, exact, dtype, case):
            most = bound(units[name], dtype) if half else SINGLE
            print(f"{dtype} {form} {row.name} {name} {error:.2g} of {most:.2g}")
            jumps = row.kinks and name.startswith("gradient") and half
            said = f"{form} of {row.name}: {name} {error:.3g}, not {most:.3g}"
            assert jumps or error <= most, said


def _units(
    subject: Subject, form: str, exact: Tensors, dtype: torch.dtype, case: Case
) -> dict[str, float]:
    """What rounding makes of results in a form: no more than in a loop."""
    found: list[dict[str, float]] = []
    given = _arguments(subject, dtype, case)
    for way in dict.fromkeys((form, "loop")):
        run = partial(outcome, subject, module_of(subject, way), *given, case)
        found.append(units_of(run, exact))
    return {n: min(units[n] for units in found) for n in found[0]}


def _of_rounded(subject: Subject, dtype: torch.dtype, case: Case) -> Tensors:
    """What the loop makes in double precision of arguments rounded to another."""
    given = _arguments(subject, dtype, case)
    return outcome(subject, module_of(subject, "loop"), *given, case)


def _arguments(
    subject: Subject, dtype: torch.dtype, case: Case
) -> tuple[Tensors, Tensors]:
    """Inputs and parameters in double precision, of numbers that `dtype` has."""
    inputs, params = inputs_for(subject, case), subject.params(case.seed)
    inputs, params = (
        rounded(rounded(v, dtype), torch.float64) for v in (inputs, params)
    )
    return inputs, params


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_forms_over_a_million_steps(row: Row) -> None:
    """Against the loop as a kernel, with gradients; where there is none, at both ends."""
    subject = row.subject()
    inputs, params = inputs_for(subject, LONG), subject.params(LONG.seed)
    exact = None
    if _in_kernels(subject):
        loop = module_of(subject, "loop", "mlir")
        exact = outcome(subject, loop, inputs, params, LONG)
    known: set[type] = set()
    for form in forms(subject):
        if form == "loop" or (row.name, form) in WIDE:
            continue
        module = module_of(subject, form)
        if type(module) in known:
            continue  # of what has no chunks of its own length
        known.add(type(module))
        ours = outcome(subject, module, inputs, params, LONG)
        for name, value in ours.items():
            assert bool(value.isfinite().all()), f"{form}: {name}"
        if exact is not None:
            same(ours, exact, f"{form} of {row.name}")
        else:
            _same_at_the_ends(subject, module, ours, inputs, params)
        single = lower(subject, form, ours, torch.float32, LONG)
        print(row.name, form, max(error for _, error in single))


def _in_kernels(subject: Subject) -> bool:
    """Whether loops along time are kernels, and so done in reasonable time."""
    if not available():
        return False
    try:
        found = native_artifact(subject.model)
    except UnsupportedError:
        return False
    return bool(found.regions) and not found.refused


def _same_at_the_ends(
    subject: Subject, module: nn.Module, ours: Tensors, inputs: Tensors, params: Tensors
) -> None:
    """The first steps, and the last from the state before them, are those of a loop."""
    whole = Caller(subject, module, params)
    loop = Caller(subject, module_of(subject, "loop"), params)
    far = LONG.time - NEAR
    with torch.no_grad():
        first = loop.forward(part(subject, inputs, 0, NEAR), size=(1, NEAR))
        early = part(subject, inputs, 0, far)
        _, state = whole.piece(early, None, size=(1, far))
        last, _ = loop.piece(
            part(subject, inputs, far, LONG.time), state, size=(1, NEAR)
        )
    same({n: ours[n][:, :NEAR] for n in first}, first, "the first steps")
    same({n: ours[n][:, far:] for n in last}, last, "the last steps")
