"""How results are compared, and what a failed property says."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.subject import Caller, Subject, Tensors

EXACT = 0.0
CLOSE = 1e-9
"""Of double precision: relative to the largest entry, or to 1 if that is larger."""


class Broken(AssertionError):
    """A property does not hold; the text says what differs, where and by how much."""


def require(condition: bool, message: str) -> None:
    """Raise `Broken` with `message` unless `condition`."""
    if not condition:
        raise Broken(message)


def same(
    ours: Tensors,
    theirs: Tensors,
    what: str,
    tolerance: float = CLOSE,
    names: Iterable[str] | None = None,
) -> None:
    """Raise `Broken` unless both have the same names, shapes, dtypes and values."""
    chosen = list(theirs if names is None else names)
    require(set(chosen) <= set(ours), f"{what}: {sorted(ours)} is not {sorted(theirs)}")
    for name in chosen:
        _same(ours[name], theirs[name], f"{what}: `{name}`", tolerance)


def _same(a: Tensor, b: Tensor, what: str, tolerance: float) -> None:
    shapes = f"{what} has shape {list(a.shape)}, not {list(b.shape)}"
    require(a.shape == b.shape, shapes)
    require(a.dtype == b.dtype, f"{what} is {a.dtype}, not {b.dtype}")
    if not a.is_floating_point() and not a.is_complex():
        require(bool((a == b).all()), f"{what} is {a}, not {b}")
        return
    a, b = a.detach(), b.detach()
    close = (a == b) | (a.isnan() & b.isnan())
    finite = b[b.isfinite()].abs()
    scale = max(1.0, float(finite.max()) if finite.numel() else 1.0)
    close |= (a - b).abs() <= tolerance * scale
    if bool(close.all()):
        return
    where = [int(i) for i in (~close).nonzero()[0]]
    at = tuple(where)
    count = int((~close).sum())
    raise Broken(
        f"{what} differs in {count} of {close.numel()} entries; "
        f"at {where} it is {a[at].item():.12g}, not {b[at].item():.12g}"
    )


def prepared(subject: Subject, case: Case) -> tuple[Caller, Tensors]:
    """The module with the parameters of a case, and the inputs."""
    subject.module.load_state_dict(subject.params(case.seed))
    return Caller(subject, subject.module), inputs_for(subject, case)


def part(subject: Subject, inputs: Tensors, start: int, end: int) -> Tensors:
    """Inputs of the steps `start` to `end`."""
    return {n: v[:, start:end] if subject.moves(n) else v for n, v in inputs.items()}


def at_step(subject: Subject, inputs: Tensors, t: int) -> Tensors:
    """Inputs of one step, without the time axis."""
    return {n: v[:, t] if subject.moves(n) else v for n, v in inputs.items()}


def row(subject: Subject, inputs: Tensors, number: int) -> Tensors:
    """Inputs of one row of the batch, as a batch of one."""
    axes = {i.name: i.type.axes for i in subject.model.inputs}
    return {
        n: v[number : number + 1] if "batch" in axes[n] else v
        for n, v in inputs.items()
    }


def joined(pieces: list[Tensors], names: Iterable[str]) -> Tensors:
    """Outputs of pieces one after another."""
    return {n: torch.cat([p[n] for p in pieces], 1) for n in names}


def stacked(steps: list[Tensors], names: Iterable[str]) -> Tensors:
    """Outputs of single steps one after another."""
    return {n: torch.stack([s[n] for s in steps], 1) for n in names}
