"""Recurrences that are not linear, at all steps at once."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.monoids import _scan_matrices

__all__ = ["_newton"]

_Step = Callable[[Tensor, slice], Tensor]


def _newton(
    step: _Step,
    first: Tensor,
    starts: Tensor | None,
    initial: Tensor,
    time: int,
    strict: bool,
    reverse: bool = False,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`h = step(h[t-1])` at all steps, and the last `h`, by Newton's iteration.

    `first: [batch, …, n, 1]`; `initial: [batch, time or 1, …, n, 1]` comes before where a
    segment starts. `step(before, at)` computes the steps `at` from what comes before each;
    its entries are independent but for the `n` of a column. Every iteration solves the
    linearized recurrence with a scan (Lim et al., ICLR 2024). Where it does not come to
    rest in `most` of them, steps are taken one after another, with a warning; with
    `strict`, an error.
    """
    if time == 0:
        return first[:, None][:, :0], first
    h, worst, rounds = None, 0.0, 0
    if not torch.compiler.is_compiling():
        with torch.no_grad():
            h, worst, rounds = _at_rest(
                step, first, starts, initial, time, reverse, most
            )
    if h is None:
        if not torch.compiler.is_compiling():
            text = f"newton did not come to rest in {rounds} iterations: a step is off by {worst:.1g}"
            if strict:
                raise ArithmeticError(text)
            warnings.warn(f"{text}; the steps run one after another", stacklevel=3)
        h = _one_by_one(step, first, starts, initial, time, reverse)
    elif torch.is_grad_enabled():
        with torch.no_grad():
            jacobian = _jacobian(step, _come_from(h, first, starts, initial, reverse))
        # a step with a fixed Jacobian gets one more order of the derivatives right
        for _ in range(2):
            h = _corrected(step, h, jacobian, first, starts, initial, reverse)
    return h, h[:, 0 if reverse else -1]


def _at_rest(
    step: _Step,
    first: Tensor,
    starts: Tensor | None,
    initial: Tensor,
    time: int,
    reverse: bool,
    most: int | None = None,
) -> tuple[Tensor | None, float, int]:
    """Where the iteration comes to rest, None if it does not; the residual; rounds.

    Each of `most` iterations is a round, and one round more sees that it is at rest.
    """
    most = min(time, 100) + 8 if most is None else most + 1
    h = first[:, None].expand(-1, time, *first.shape[1:])
    h = step(_come_from(h, first, starts, initial, reverse), slice(None))
    small = 64 * torch.finfo(first.dtype).eps
    worst, best = torch.inf, torch.inf
    for rounds in range(1, most + 1):
        before = _come_from(h, first, starts, initial, reverse)
        after = step(before, slice(None))
        off = after - h
        worst = float((off.abs() / (1 + after.abs())).amax()) if off.numel() else 0.0
        if not worst < torch.inf:
            return None, worst, rounds
        # rounding may keep it from coming closer
        if worst <= small or (worst > best / 2 and worst <= 16 * small):
            return after, worst, rounds
        best = min(best, worst)
        h = h + _linearized(off, _jacobian(step, before), starts, reverse)
    return None, worst, most


def _come_from(
    h: Tensor, first: Tensor, starts: Tensor | None, initial: Tensor, reverse: bool
) -> Tensor:
    """What comes before every step."""
    near = [h[:, 1:], first[:, None]] if reverse else [first[:, None], h[:, :-1]]
    before = torch.cat(near, 1)
    if starts is None:
        return before
    return torch.where(
        starts.view(*starts.shape, *[1] * (h.dim() - 2)), initial, before
    )


def _jacobian(step: _Step, before: Tensor) -> Tensor:
    """How every step changes with what comes before it, `[batch, time, …, n, n]`."""
    functions: Any = torch.func

    def whole(x: Tensor) -> Tensor:
        return step(x, slice(None))

    # a row of the Jacobians of all steps at once is one gradient
    pulled = functions.vjp(whole, before)[1]

    def along(direction: Tensor) -> Tensor:
        return pulled(direction[:, None].expand_as(before))[0]

    size = before.shape[-2]
    unit = torch.eye(size, dtype=before.dtype, device=before.device)
    rows: Tensor = functions.vmap(along, chunk_size=64)(unit)
    return rows.squeeze(-1).movedim(0, -2)


def _linearized(
    off: Tensor, jacobian: Tensor, starts: Tensor | None, reverse: bool
) -> Tensor:
    """`d = jacobian @ d[t-1] + off`, from 0."""
    none = torch.zeros_like(off[:, 0])
    # nothing comes before the first step, whatever it would make of it
    edge = -1 if reverse else 0
    jacobian = jacobian.index_fill(
        1, torch.tensor([edge % off.shape[1]], device=off.device), 0
    )
    return _scan_matrices("real", jacobian, off, none, starts, none[:, None], reverse)[
        0
    ]


def _corrected(
    step: _Step,
    h: Tensor,
    jacobian: Tensor,
    first: Tensor,
    starts: Tensor | None,
    initial: Tensor,
    reverse: bool,
) -> Tensor:
    """One iteration with a given Jacobian."""
    before = _come_from(h, first, starts, initial, reverse)
    off = step(before, slice(None)) - h
    return h + _linearized(off, jacobian, starts, reverse)


def _one_by_one(
    step: _Step,
    first: Tensor,
    starts: Tensor | None,
    initial: Tensor,
    time: int,
    reverse: bool,
) -> Tensor:
    """The loop."""
    steps: list[Tensor] = []
    begun = initial.expand(-1, time, *initial.shape[2:])
    h = first[:, None]
    for i in reversed(range(time)) if reverse else range(time):
        if starts is not None:
            at = starts[:, i].view(-1, *[1] * (h.dim() - 1))
            h = torch.where(at, begun[:, i : i + 1], h)
        h = step(h, slice(i, i + 1))
        steps.append(h)
    return torch.cat(steps[::-1] if reverse else steps, 1)
