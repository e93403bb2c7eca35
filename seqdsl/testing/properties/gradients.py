"""Properties of first and second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck
from torch.nn.attention import SDPBackend, sdpa_kernel

from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.properties.compare import Broken, same
from seqdsl.testing.properties.streaming import pieces, steps
from seqdsl.testing.subject import Caller, Subject, Tensors

LOOSE = 1e-7
"""Of gradients: sums of many terms, each rounded."""

Run = Callable[[Tensors, Tensors], Tensors]
"""Outputs from inputs and parameters."""


def _leaves(subject: Subject, case: Case) -> tuple[Tensors, Tensors, Tensors]:
    """Inputs, parameters, and those of them that have gradients."""
    inputs, params = inputs_for(subject, case), subject.params(case.seed)
    frozen = {n for n, b in subject.module.named_buffers() for _ in (b,)}
    found: Tensors = {}
    for kind, tensors in (("input", inputs), ("parameter", params)):
        for name, value in tensors.items():
            smooth = value.is_floating_point() or value.is_complex()
            if smooth and name not in frozen:
                found[f"{kind} {name}"] = value.requires_grad_()
    return inputs, params, found


def _weighed(outputs: Mapping[str, Tensor], case: Case, stream: int) -> Tensor:
    """A random real combination of all numbers in `outputs`."""
    generator = case.generator(stream)
    total = torch.zeros((), dtype=torch.float64)
    for value in outputs.values():
        if not (value.is_floating_point() or value.is_complex()):
            continue
        weight = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if value.is_complex():
            total = total + (value.real * weight).sum() + (value.imag * weight).sum()
        else:
            total = total + (value * weight).sum()
    return total


def _slopes(total: Tensor, leaves: Tensors, create_graph: bool = False) -> Tensors:
    if not total.requires_grad:
        return {n: torch.zeros_like(v) for n, v in leaves.items()}
    found = torch.autograd.grad(
        total,
        list(leaves.values()),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(leaves, found, strict=True))


def _gradients(subject: Subject, case: Case, run: Run) -> Tensors:
    inputs, params, leaves = _leaves(subject, case)
    return _slopes(_weighed(run(inputs, params), case, 91), leaves)


def _forward(subject: Subject, case: Case) -> Run:
    def run(inputs: Tensors, params: Tensors) -> Tensors:
        caller = Caller(subject, subject.module, params)
        segments = case.segments() if case.runs else None
        return caller.forward(inputs, segments, case.size)

    return run


def _reference(subject: Subject, case: Case) -> Run:
    def run(inputs: Tensors, params: Tensors) -> Tensors:
        segments = case.segments() if case.runs else None
        return subject.reference(inputs, params, segments, case.size)

    return run


def gradients_equal_reference(subject: Subject, case: Case) -> None:
    ours = _gradients(subject, case, _forward(subject, case))
    theirs = _gradients(subject, case, _reference(subject, case))
    same(ours, theirs, "gradients against the reference", LOOSE)


def piece_gradients_equal_whole(subject: Subject, case: Case) -> None:
    def split(inputs: Tensors, params: Tensors) -> Tensors:
        return pieces(Caller(subject, subject.module, params), inputs, case)

    def whole(inputs: Tensors, params: Tensors) -> Tensors:
        found = _forward(subject, case)(inputs, params)
        return {n: found[n] for n in subject.moving_outputs}

    ours, theirs = (_gradients(subject, case, run) for run in (split, whole))
    same(ours, theirs, "gradients through pieces", LOOSE)


def step_gradients_equal_whole(subject: Subject, case: Case) -> None:
    def single(inputs: Tensors, params: Tensors) -> Tensors:
        caller = Caller(subject, subject.module, params)
        first = {n: v[:, :0] if subject.moves(n) else v for n, v in inputs.items()}
        # parameters reach the state only through a call that is given them
        _, state = caller.piece(first, None, size=(case.batch, 0))
        return steps(caller, inputs, state, 0, case.time)

    def whole(inputs: Tensors, params: Tensors) -> Tensors:
        found = _forward(subject, case)(inputs, params)
        return {n: found[n] for n in subject.moving_outputs}

    ours, theirs = (_gradients(subject, case, run) for run in (single, whole))
    same(ours, theirs, "gradients through steps", LOOSE)


def _curvatures(subject: Subject, case: Case, run: Run) -> Tensors:
    inputs, params, leaves = _leaves(subject, case)
    total = _weighed(run(inputs, params), case, 91)
    slopes = _slopes(total, leaves, create_graph=True)
    return _slopes(_weighed(slopes, case, 92), leaves)


def double_backward_equals_reference(subject: Subject, case: Case) -> None:
    # of torch's attention kernels only this one can be differentiated twice
    with sdpa_kernel(SDPBackend.MATH):
        ours = _curvatures(subject, case, _forward(subject, case))
    theirs = _curvatures(subject, case, _reference(subject, case))
    same(ours, theirs, "second derivatives against the reference", 1e-6)


def finite_differences(subject: Subject, case: Case) -> None:
    inputs, params, leaves = _leaves(subject, case)
    values = tuple(leaves.values())

    def run(*moved: Tensor) -> Tensor:
        found = dict(zip(leaves, moved, strict=True))
        ours = {n: found.get(f"input {n}", v) for n, v in inputs.items()}
        learned = {n: found.get(f"parameter {n}", v) for n, v in params.items()}
        return _weighed(_forward(subject, case)(ours, learned), case, 91)

    if not values or not run(*values).requires_grad:
        return
    try:
        gradcheck(run, values, fast_mode=True, atol=1e-5, rtol=1e-4)
    except GradcheckError as error:
        raise Broken(f"finite differences: {error}") from error
