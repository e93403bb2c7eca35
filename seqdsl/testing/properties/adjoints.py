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
from seqdsl.differentiate.tangent import tangent
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH
from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.layers import subject as made
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
class Run:
    """One case in the interpreter."""

    subject: Subject
    case: Case
    params: Tensors

    def of(self, model: ir.Model, given: Tensors) -> Tensors:
        """The outputs of a model that has the subject's options and parameters."""
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


@dataclass(frozen=True)
class Compiled(Run):
    """One case in modules of the torch backend."""

    def of(self, model: ir.Model, given: Tensors) -> Tensors:
        if not model.outputs:
            return {}
        options = {
            o.name: self.subject.options[o.name]
            for o in model.options
            if o.name in self.subject.options
        }
        own = made(model, options)
        module = own.module
        params = {n: v for n, v in self.params.items() if n in module.state_dict()}
        inputs = {i.name: given[i.name] for i in model.inputs}
        segments = self.case.segments() if self.case.runs else None
        caller = Caller(own, module, params or None)
        return caller.forward(inputs, segments, self.case.size)


@dataclass(frozen=True)
class Pair:
    """An adjoint run on one case: forward, then backward.

    What is per sequence goes to every step and comes back from the last, or summed,
    where the case has segments.
    """

    subject: Subject
    case: Case
    found: Adjoint
    params: Tensors
    backend: type[Run] = Run

    def both(self, inputs: Tensors, upstream: Tensors) -> tuple[Tensors, Tensors]:
        """Outputs by name, and gradients by input or state-dict key."""
        found, time = self.found, self.case.time
        run = self.backend(self.subject, self.case, self.params)
        with torch.no_grad():
            steps = {n: self._spread(n, v, time) for n, v in inputs.items()}
            given = {
                n if n in found.forward.input else f"{n}_steps": v
                for n, v in steps.items()
            }
            outputs = run.of(found.forward, given)
            given = {n: v for n, v in given.items() if n in found.backward.input}
            given |= {name: outputs[o] for name, o in found.saved.items()}
            for output, name in found.upstream.items():
                given[name] = self._at_the_end(output, upstream[output], time)
            gradients = run.of(found.backward, given)
        by_value = {n: gradients[g] for n, g in found.gradients.items()}
        ends = {n: v[:, -1] if self._per_row(n) else v for n, v in outputs.items()}
        return ends, self._by_key(by_value, inputs)

    def _per_row(self, output: str) -> bool:
        declared = {o.name: o.expr.type for o in self.subject.model.outputs}
        return (
            bool(self.case.runs)
            and output in declared
            and declared[output].axes == frozenset({BATCH})
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


def _leaves(subject: Subject, case: Case) -> tuple[Tensors, Tensors, Tensors]:
    """Inputs, parameters, and those of them that have gradients."""
    inputs, params = inputs_for(subject, case), subject.params(case.seed)
    frozen = frozen_keys(subject.model)
    leaves = {n: v.requires_grad_() for n, v in inputs.items() if is_smooth(v)}
    learned = {n: v for n, v in params.items() if is_smooth(v) and n not in frozen}
    leaves |= {n: v.requires_grad_() for n, v in learned.items()}
    return inputs, params, leaves


def _module(subject: Subject, case: Case, inputs: Tensors, params: Tensors) -> Tensors:
    segments = case.segments() if case.runs else None
    return Caller(subject, subject.module, params).forward(inputs, segments, case.size)


def adjoint_of(subject: Subject, packed: bool = False) -> Adjoint:
    """The adjoint of a subject that starts as its spec says."""

    def make() -> Adjoint:
        return adjoint(subject.model, states=False, segments=packed)

    return subject.known.once(("adjoint", packed), make)


def adjoint_equals_autograd(
    subject: Subject, case: Case, backend: type[Run] = Run
) -> None:
    """Against the compiled module: outputs, gradients of inputs and of parameters."""
    inputs, params, leaves = _leaves(subject, case)
    outputs = _module(subject, case, inputs, params)
    upstream = upstream_for(outputs, case)
    found = adjoint_of(subject, packed=bool(case.runs))
    ours, gradients = Pair(subject, case, found, params, backend).both(inputs, upstream)
    same({n: ours[n] for n in outputs}, outputs, "the forward pass", EXACT)
    if any(bool(v.isnan().any()) for v in outputs.values()):
        return  # which gradients of no number are numbers depends on how they are computed
    got = {n: torch.zeros_like(v) for n, v in leaves.items()} | gradients
    same(got, slopes(outputs, upstream, leaves), "the adjoint", EXACT)


def tangent_equals_autograd(subject: Subject, case: Case) -> None:
    """Against the interpreter, whose tangent is the gradient of its gradient.

    `<J'v, d>` is linear in `v`, and its gradient there is `Jd`. Unlike forward mode
    that asks no operator of torch for a rule of its own.
    """
    inputs, params, leaves = _leaves(subject, case)
    segments = case.segments() if case.runs else None
    outputs = subject.reference(inputs, params, segments, case.size)
    generator = case.generator(58)
    directions = {
        n: torch.randn(v.shape, generator=generator, dtype=v.dtype)
        for n, v in leaves.items()
    }
    found = tangent(subject.model, states=False)
    given = {n: v.detach() for n, v in inputs.items()}
    keys = {p.name: p.key for p in found.model.params}
    for name, own in found.directions.items():
        given[own] = _by_steps(directions, keys.get(name, name))
    with torch.no_grad():
        values = Run(subject, case, params).of(found.model, given)
    same({n: values[n] for n in outputs}, outputs, "the values", EXACT)
    smooth = {n: v for n, v in outputs.items() if is_smooth(v)}
    got = {n: torch.zeros_like(v) for n, v in smooth.items()}
    got |= {o: values[t] for o, t in found.tangents.items()}
    same(got, _pushed(smooth, leaves, directions), "the tangent", EXACT)


def _by_steps(values: Tensors, key: str) -> Tensor:
    """The values of one parameter, stacked over the steps along which it is untied."""
    pattern = re.sub(r"\\{\w+\\}", r"(\\d+)", re.escape(key))
    found = {n: re.fullmatch(pattern, n) for n in values}
    at = {tuple(map(int, m.groups())): values[n] for n, m in found.items() if m}
    steps = [at[place] for place in sorted(at)]
    extents = [1 + last for last in max(at)]
    return torch.stack(steps).reshape([*extents, *steps[0].shape])


def _pushed(outputs: Tensors, leaves: Tensors, directions: Tensors) -> Tensors:
    """The tangents of the outputs of a module."""
    upstream = {n: torch.zeros_like(v).requires_grad_() for n, v in outputs.items()}
    reached = [n for n in outputs if outputs[n].requires_grad]
    if not reached or not leaves:
        return {n: torch.zeros_like(v) for n, v in outputs.items()}
    pulled = torch.autograd.grad(
        [outputs[n] for n in reached],
        list(leaves.values()),
        [upstream[n] for n in reached],
        create_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    total = torch.zeros((), dtype=torch.float64)
    for slope, direction in zip(pulled, directions.values(), strict=True):
        total = total + torch.real(slope * direction.conj()).sum()
    if not total.requires_grad:
        return {n: torch.zeros_like(v) for n, v in outputs.items()}
    found = torch.autograd.grad(
        total, list(upstream.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(upstream, found, strict=True))
