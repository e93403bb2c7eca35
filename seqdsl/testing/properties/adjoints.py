"""Properties of adjoint models: they compute what autograd does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor

from seqdsl.backends.reference import interpret
from seqdsl.differentiate.adjoint import Adjoint, adjoint
from seqdsl.ir import nodes as ir
from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.properties.compare import same
from seqdsl.testing.subject import Caller, Subject, Tensors

EXACT = 1e-9


def is_smooth(value: Tensor) -> bool:
    """Whether a tensor has gradients."""
    return value.is_floating_point() or value.is_complex()


def frozen_keys(model: ir.Model) -> frozenset[str]:
    """State-dict keys of what is stored and not learned."""
    found = {p.key for p in model.params if p.frozen}
    for instance in model.instances:
        found |= {f"{instance.name}.{key}" for key in frozen_keys(instance.model)}
    return frozenset(found)


def upstream_for(outputs: Tensors, case: Case) -> Tensors:
    """A random gradient for every float or complex output."""
    generator = case.generator(57)
    return {
        n: torch.randn(v.shape, generator=generator, dtype=v.dtype)
        for n, v in outputs.items()
        if is_smooth(v)
    }


def slopes(
    outputs: Mapping[str, Tensor], upstream: Tensors, leaves: Tensors
) -> Tensors:
    """What autograd makes of the upstream gradients."""
    reached = [n for n in upstream if outputs[n].requires_grad]
    if not reached:
        return {n: torch.zeros_like(v) for n, v in leaves.items()}
    found = torch.autograd.grad(
        [outputs[n] for n in reached],
        list(leaves.values()),
        [upstream[n] for n in reached],
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(leaves, found, strict=True))


def run_adjoint(
    subject: Subject,
    case: Case,
    found: Adjoint,
    inputs: Tensors,
    params: Tensors,
    upstream: Tensors,
) -> tuple[Tensors, Tensors]:
    """Outputs and gradients by name, forward and backward in the interpreter."""
    batch, time = case.size
    segments = case.segments() if case.runs else None

    def run(model: ir.Model, given: Tensors) -> Tensors:
        return interpret(
            model,
            options=subject.options,
            params=params,
            inputs=given,
            segments=segments,
            externs=subject.externs,
            batch=batch,
            time=time,
        )

    with torch.no_grad():
        outputs = run(found.forward, inputs)
        given = {n: v for n, v in inputs.items() if n in found.backward.input}
        given |= {name: outputs[o] for name, o in found.saved.items()}
        given |= {name: upstream[o] for o, name in found.upstream.items()}
        gradients = run(found.backward, given)
    return outputs, {n: gradients[g] for n, g in found.gradients.items()}


def by_key(found: Adjoint, gradients: Tensors) -> Tensors:
    """Gradients of parameters by state-dict key, one for each step where untied."""
    result: Tensors = {}
    for name, value in gradients.items():
        param = found.forward.param.get(name)
        key = name if param is None else param.key
        axes = re.findall(r"{(\w+)}", key)
        for at in product(*map(range, value.shape[: len(axes)])):
            own = key
            for axis, i in zip(axes, at, strict=True):
                own = own.replace(f"{{{axis}}}", str(i))
            result[own] = value[at] if at else value
    return result


def adjoint_equals_autograd(subject: Subject, case: Case) -> None:
    """Against the compiled module: outputs, gradients of inputs and of parameters."""
    inputs, params = inputs_for(subject, case), subject.params(case.seed)
    frozen = frozen_keys(subject.model)
    leaves = {n: v.requires_grad_() for n, v in inputs.items() if is_smooth(v)}
    learned = {n: v for n, v in params.items() if is_smooth(v) and n not in frozen}
    leaves |= {n: v.requires_grad_() for n, v in learned.items()}
    caller = Caller(subject, subject.module, params)
    segments = case.segments() if case.runs else None
    outputs = caller.forward(inputs, segments, case.size)
    upstream = upstream_for(outputs, case)
    found = adjoint(subject.model, states=False)
    ours, gradients = run_adjoint(subject, case, found, inputs, params, upstream)
    same({n: ours[n] for n in outputs}, outputs, "the forward pass", EXACT)
    got = {n: torch.zeros_like(v) for n, v in leaves.items()}
    got |= by_key(found, gradients)
    same(got, slopes(outputs, upstream, leaves), "the adjoint", EXACT)
