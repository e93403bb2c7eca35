"""Properties of first and second derivatives."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from seqdsl.testing.cases import Case
from seqdsl.testing.properties.answers import (
    answer,
    compiled,
    curvatures,
    forward,
    leaves_of,
    reference,
    slopes,
    weighed,
)
from seqdsl.testing.properties.compare import require, same
from seqdsl.testing.properties.streaming import pieces, steps
from seqdsl.testing.subject import Caller, Subject, Tensors

LOOSE = 1e-7
"""Of gradients: sums of many terms, each rounded."""


def gradients_equal_reference(subject: Subject, case: Case) -> None:
    ours = slopes(compiled(subject, case), case)
    theirs = slopes(reference(subject, case), case)
    same(ours, theirs, "gradients against the reference", LOOSE)


def piece_gradients_equal_whole(subject: Subject, case: Case) -> None:
    def split(inputs: Tensors, params: Tensors) -> Tensors:
        return pieces(Caller(subject, subject.module, params), inputs, case)

    ours = slopes(answer(subject, case, split), case)
    theirs = slopes(compiled(subject, case), case, subject.moving_outputs)
    same(ours, theirs, "gradients through pieces", LOOSE)


def step_gradients_equal_whole(subject: Subject, case: Case) -> None:
    def single(inputs: Tensors, params: Tensors) -> Tensors:
        caller = Caller(subject, subject.module, params)
        first = {n: v[:, :0] if subject.moves(n) else v for n, v in inputs.items()}
        # parameters reach the state only through a call that is given them
        _, state = caller.piece(first, None, size=(case.batch, 0))
        return steps(caller, inputs, state, 0, case.time)

    ours = slopes(answer(subject, case, single), case)
    theirs = slopes(compiled(subject, case), case, subject.moving_outputs)
    same(ours, theirs, "gradients through steps", LOOSE)


def double_backward_equals_reference(subject: Subject, case: Case) -> None:
    # of torch's attention kernels only this one can be differentiated twice
    with sdpa_kernel(SDPBackend.MATH):
        ours = curvatures(answer(subject, case, forward(subject, case)), case)
    theirs = curvatures(reference(subject, case), case)
    same(ours, theirs, "second derivatives against the reference", 1e-6)


NEAR = 1e-6
"""The length of a step of finite differences."""


def finite_differences(subject: Subject, case: Case) -> None:
    """Slopes in a random direction, first of all leaves at once, then of each.

    Frozen parameters stay as they are: their values are the spec's, which may well tie.
    """
    made = compiled(subject, case)
    frozen = {f"parameter {p.key}" for p in subject.model.params if p.frozen}
    found = {n: v for n, v in slopes(made, case).items() if n not in frozen}
    numbers = (*made.values.values(), *found.values())
    if not all(bool(v.isfinite().all()) for v in numbers):
        return  # what is infinite, such as a maximum before the first step, has no slope
    generator = case.generator(93)
    directions = {
        n: torch.randn(v.shape, generator=generator, dtype=v.dtype)
        for n, v in found.items()
    }
    if _slopes_agree(subject, case, found, directions):
        return
    for name, direction in directions.items():
        alone = _slopes_agree(subject, case, found, {name: direction})
        require(alone, f"the gradient of {name} is not the slope of the outputs")
    require(False, "gradients are not the slopes of the outputs")


def _slopes_agree(
    subject: Subject, case: Case, found: Tensors, directions: Tensors
) -> bool:
    """Whether the outputs change along `directions` as the gradients say."""
    whole = sum(float(d.abs().square().sum()) for d in directions.values()) ** 0.5
    if not whole:
        return True
    ahead, behind = (
        _moved(subject, case, directions, sign * NEAR / whole) for sign in (1, -1)
    )
    measured = (ahead - behind) / (2 * NEAR)
    said = sum(
        float(torch.real(found[n] * d.conj()).sum()) for n, d in directions.items()
    )
    return abs(measured - said / whole) <= 1e-5 + 1e-4 * abs(measured)


def _moved(subject: Subject, case: Case, directions: Tensors, step: float) -> float:
    """The weighed outputs a little further along `directions`."""
    inputs, params, leaves = leaves_of(subject, case)
    with torch.no_grad():
        for name, direction in directions.items():
            leaves[name].add_(step * direction)
        outputs = forward(subject, case)(inputs, params)
        return float(weighed(outputs, case, 91))
