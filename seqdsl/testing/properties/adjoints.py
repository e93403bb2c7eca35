"""Properties of adjoint models: they compute what autograd does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Pair:
    """An adjoint run in the interpreter on one case: forward, then backward.

    What is per sequence goes to every step and comes back from the last, or summed,
    where the case has segments.
    """

    subject: Subject
    case: Case
    found: Adjoint
    params: Tensors

    def run(self, model: ir.Model, given: Tensors) -> Tensors:
        """The outputs of one of the two models."""
        batch, time = self.case.size
        return interpret(
            model,
            options=self.subject.options,
            params=self.params,
            inputs=given,
            segments=self.case.segments() if self.case.runs else None,
            externs=self.subject.externs,
            batch=batch,
            time=time,
        )

    def both(self, inputs: Tensors, upstream: Tensors) -> tuple[Tensors, Tensors]:
        """Outputs by name, and gradients by input or state-dict key."""
        found, time = self.found, self.case.time
        with torch.no_grad():
            steps = {n: self._spread(n, v, time) for n, v in inputs.items()}
            given = {
                n if n in found.forward.input else f"{n}_steps": v
                for n, v in steps.items()
            }
            outputs = self.run(found.forward, given)
            given = {n: v for n, v in given.items() if n in found.backward.input}
            given |= {name: outputs[o] for name, o in found.saved.items()}
            for output, name in found.upstream.items():
                given[name] = self._at_the_end(output, upstream[output], time)
            gradients = self.run(found.backward, given)
        by_value = {n: gradients[g] for n, g in found.gradients.items()}
        ends = {n: v[:, -1] if self._per_row(n) else v for n, v in outputs.items()}
        return ends, self._by_key(by_value, inputs)

    def _per_row(self, output: str) -> bool:
        declared = {o.name: o.expr.type for o in self.subject.model.outputs}
        return (
            bool(self.case.runs)
            and output in declared
            and declared[output].axes == {"batch"}
        )

    def _spread(self, name: str, value: Tensor, time: int) -> Tensor:
        if name in self.found.forward.input:
            return value
        return value[:, None].expand(-1, time, *value.shape[1:])

    def _at_the_end(self, output: str, value: Tensor, time: int) -> Tensor:
        if not self._per_row(output):
            return value
        zeros = torch.zeros_like(value)[:, None].expand(-1, time - 1, *value.shape[1:])
        return torch.cat([zeros, value[:, None]], 1)

    def _by_key(self, gradients: Tensors, inputs: Tensors) -> Tensors:
        """Gradients of parameters by state-dict key, one for each step where untied."""
        result: Tensors = {}
        for name, value in gradients.items():
            param = self.found.forward.param.get(name)
            if param is None:
                whole = name in inputs
                own = name if whole else name.removesuffix("_steps")
                result[own] = value if whole else value.sum(1)
                continue
            axes = re.findall(r"{(\w+)}", param.key)
            for at in product(*map(range, value.shape[: len(axes)])):
                key = param.key
                for axis, i in zip(axes, at, strict=True):
                    key = key.replace(f"{{{axis}}}", str(i))
                result[key] = value[at] if at else value
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
    found = adjoint(subject.model, states=False, segments=bool(case.runs))
    ours, gradients = Pair(subject, case, found, params).both(inputs, upstream)
    same({n: ours[n] for n in outputs}, outputs, "the forward pass", EXACT)
    got = {n: torch.zeros_like(v) for n, v in leaves.items()} | gradients
    same(got, slopes(outputs, upstream, leaves), "the adjoint", EXACT)
