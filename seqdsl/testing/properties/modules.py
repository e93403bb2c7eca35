"""Properties of a layer as a `torch.nn.Module`: storage, copies, precisions."""

from __future__ import annotations

import copy
import io
import pickle

import torch
from torch import Tensor, nn

from seqdsl.testing.cases import Case
from seqdsl.testing.properties.compare import EXACT, Broken, prepared, require, same
from seqdsl.testing.subject import Caller, Subject, Tensors


def state_dict_round_trip(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    before = caller.forward(inputs, size=case.size)
    wanted = {n: list(p.shape) for n, p in subject.params(0).items()}
    stored = subject.module.state_dict()
    found = {n: list(p.shape) for n, p in stored.items()}
    require(found == wanted, f"the state dict holds {found}, declared is {wanted}")
    learned = {p.key for p in subject.model.params if not p.frozen}
    names = {n for n, _ in subject.module.named_parameters()}
    plain = {k for k in learned if "{" not in k}
    require(plain <= names, f"not among the parameters: {sorted(plain - names)}")
    file = io.BytesIO()
    torch.save(stored, file)
    file.seek(0)
    other = subject.make().eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    after = Caller(subject, other).forward(inputs, size=case.size)
    same(after, before, "a new module with the stored parameters", EXACT)


def copies_are_equal(subject: Subject, case: Case) -> None:
    caller, inputs = prepared(subject, case)
    before = caller.forward(inputs, size=case.size)
    stored = pickle.loads(pickle.dumps(subject.module))
    for what, module in (
        ("pickled", stored),
        ("copied", copy.deepcopy(subject.module)),
    ):
        after = Caller(subject, module).forward(inputs, size=case.size)
        same(after, before, f"a {what} module", EXACT)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.is_floating_point() or parameter.is_complex():
                    parameter.add_(1)
        unchanged = caller.forward(inputs, size=case.size)
        same(unchanged, before, f"the module after its {what} twin has changed", EXACT)


def single_precision(subject: Subject, case: Case) -> None:
    _lower(subject, case, torch.float32)


def half_precision(subject: Subject, case: Case) -> None:
    _lower(subject, case, torch.bfloat16)


SLACK = 64
"""How many times the change that rounding the arguments makes is allowed as error."""


def _lower(subject: Subject, case: Case, dtype: torch.dtype) -> None:
    """The error is bounded by what rounding alone does to inputs and parameters."""
    _, inputs = prepared(subject, case)
    module = subject.module
    params = {n: _rounded(p, dtype) for n, p in subject.params(case.seed).items()}
    inputs = {n: _rounded(v, dtype) for n, v in inputs.items()}
    with torch.no_grad():
        exact = _run(subject, module, inputs, params, case)
        bounds = _bounds(subject, exact, inputs, params, case, dtype)
        low = copy.deepcopy(module).to(dtype)
        ours = _run(subject, low, _cast(inputs, dtype), _cast(params, dtype), case)
    for name, bound in bounds.items():
        _within(ours[name], exact[name], bound, dtype, name)


def _run(
    subject: Subject, module: nn.Module, inputs: Tensors, params: Tensors, case: Case
) -> Tensors:
    return Caller(subject, module, params).forward(inputs, size=case.size)


def _rounded(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype).to(value.dtype) if value.is_floating_point() else value


def _cast(values: Tensors, dtype: torch.dtype) -> Tensors:
    return {n: v.to(dtype) if v.is_floating_point() else v for n, v in values.items()}


def _bounds(
    subject: Subject,
    exact: Tensors,
    inputs: Tensors,
    params: Tensors,
    case: Case,
    dtype: torch.dtype,
) -> dict[str, float]:
    eps = torch.finfo(dtype).eps
    largest = {
        n: eps * max(1.0, float(v.abs().max()) if v.numel() else 1.0)
        for n, v in exact.items()
        if v.is_floating_point()
    }
    for stream in range(4):
        generator = case.generator(200 + stream)

        def moved(values: Tensors, generator: torch.Generator = generator) -> Tensors:
            return {n: _moved(v, eps, generator) for n, v in values.items()}

        other = _run(subject, subject.module, moved(inputs), moved(params), case)
        for name, before in largest.items():
            change = (other[name] - exact[name]).abs()
            finite = change[change.isfinite()]
            if finite.numel():
                largest[name] = max(before, float(finite.max()))
    return {n: SLACK * v for n, v in largest.items()}


def _moved(value: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    if not value.is_floating_point():
        return value
    noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return value * (1 + eps * noise)


def _within(
    ours: Tensor, exact: Tensor, bound: float, dtype: torch.dtype, name: str
) -> None:
    require(ours.dtype == dtype, f"`{name}` is {ours.dtype}, not {dtype}")
    wide = ours.double()
    agree = (wide == exact) | ((wide - exact).abs() <= bound)
    agree |= wide.isnan() & exact.isnan()
    if not bool(agree.all()):
        error = float((wide - exact).abs()[~agree].max())
        raise Broken(f"`{name}` in {dtype} is off by {error:.3g}, allowed {bound:.3g}")
