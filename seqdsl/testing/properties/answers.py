"""What the language and the module say in a case: run once, with the graph of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.subject import Caller, Subject, Tensors

Run = Callable[[Tensors, Tensors], Tensors]
"""Outputs from inputs and parameters."""


@dataclass(frozen=True)
class Answer:
    """Outputs that are differentiable in `leaves`: inputs and learned parameters."""

    outputs: Tensors
    leaves: Tensors

    @property
    def values(self) -> Tensors:
        """The outputs alone."""
        return {n: v.detach() for n, v in self.outputs.items()}


def leaves_of(subject: Subject, case: Case) -> tuple[Tensors, Tensors, Tensors]:
    """Inputs, parameters, and those of them that have gradients."""
    inputs, params = inputs_for(subject, case), subject.params(case.seed)
    frozen = {n for n, _ in subject.module.named_buffers()}
    found: Tensors = {}
    for kind, tensors in (("input", inputs), ("parameter", params)):
        for name, value in tensors.items():
            smooth = value.is_floating_point() or value.is_complex()
            if smooth and name not in frozen:
                found[f"{kind} {name}"] = value.requires_grad_()
    return inputs, params, found


def answer(subject: Subject, case: Case, run: Run) -> Answer:
    """What `run` makes of a case."""
    inputs, params, leaves = leaves_of(subject, case)
    return Answer(run(inputs, params), leaves)


def reference(subject: Subject, case: Case) -> Answer:
    """What the language says of a case; packed where it has segments."""
    case = case.whole()

    def run(inputs: Tensors, params: Tensors) -> Tensors:
        return subject.reference(inputs, params, segments_of(case), case.size)

    key = ("reference", case)
    return subject.known.once(key, lambda: answer(subject, case, run))


def compiled(subject: Subject, case: Case) -> Answer:
    """What the module says of it, in one call."""
    case = case.whole()
    key = ("compiled", subject.make, case)
    run = forward(subject, case)
    return subject.known.once(key, lambda: answer(subject, case, run))


def forward(subject: Subject, case: Case) -> Run:
    """The module as a function of inputs and parameters."""

    def run(inputs: Tensors, params: Tensors) -> Tensors:
        caller = Caller(subject, subject.module, params)
        return caller.forward(inputs, segments_of(case), case.size)

    return run


def segments_of(case: Case) -> Tensor | None:
    """Segment ids, where the case is packed."""
    return case.segments() if case.runs else None


# ---- Derivatives


def slopes(
    found: Answer, case: Case, names: Iterable[str] | None = None, twice: bool = False
) -> Tensors:
    """Gradients of a random combination of the outputs `names`, all by default.

    With `twice` they can be differentiated again.
    """
    chosen = found.outputs if names is None else {n: found.outputs[n] for n in names}
    return slopes_of(weighed(chosen, case, 91), found.leaves, twice)


def curvatures(found: Answer, case: Case) -> Tensors:
    """Gradients of a random combination of the gradients."""
    first = slopes(found, case, twice=True)
    return slopes_of(weighed(first, case, 92), found.leaves)


def weighed(outputs: Mapping[str, Tensor], case: Case, stream: int) -> Tensor:
    """A random real combination of all numbers in `outputs`.

    Those of which some are no numbers are left out: which of their gradients are depends
    on how they are computed.
    """
    generator = case.generator(stream)
    total = torch.zeros((), dtype=torch.float64)
    for value in outputs.values():
        if not (value.is_floating_point() or value.is_complex()):
            continue
        weight = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if bool(value.isnan().any()):
            continue
        if value.is_complex():
            total = total + (value.real * weight).sum() + (value.imag * weight).sum()
        else:
            total = total + (value * weight).sum()
    return total


def slopes_of(total: Tensor, leaves: Tensors, twice: bool = False) -> Tensors:
    """The gradients of one number; what it does not depend on has zeros."""
    if not total.requires_grad or not leaves:
        return {n: torch.zeros_like(v) for n, v in leaves.items()}
    found = torch.autograd.grad(
        total,
        list(leaves.values()),
        create_graph=twice,
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(leaves, found, strict=True))
