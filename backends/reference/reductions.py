"""Reductions and shape-keeping operators along the last dim, with masks.

`x` and `mask` are `[…, n]`; `mask` is False for what does not take part. Gradients are
finite, also where nothing takes part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from seqdsl.backends.reference.pointwise import logaddexp


def _least(x: Tensor) -> Tensor:
    """The identity of max in the dtype of `x`."""
    low = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    return x.new_tensor(low)


def _greatest(x: Tensor) -> Tensor:
    high = math.inf if x.is_floating_point() else torch.iinfo(x.dtype).max
    return x.new_tensor(high)


def _sum(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 0).sum(-1)


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    return _sum(x, mask) / mask.sum(-1).clamp(min=1)


def _prod(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 1).prod(-1)


def _max(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, _least(x)).amax(-1)


def _min(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, _greatest(x)).amin(-1)


def _first(hit: Tensor) -> Tensor:
    """The lowest index at which `hit` is true; 0 where it is nowhere true."""
    index = torch.arange(hit.shape[-1]).expand(hit.shape)
    found = torch.where(hit, index, hit.shape[-1]).amin(-1)
    return torch.where(hit.any(-1), found, 0)


def _argmax(x: Tensor, mask: Tensor) -> Tensor:
    return _first(mask & (x == _max(x, mask).unsqueeze(-1)))


def _argmin(x: Tensor, mask: Tensor) -> Tensor:
    return _first(mask & (x == _min(x, mask).unsqueeze(-1)))


def _exponentials(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """e to the power of `x` less a shift (also returned) that keeps it in range."""
    visible = torch.where(mask, x, -math.inf)
    top = visible.detach().amax(-1, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0.0)
    return torch.exp(visible - top), top


def _logsumexp(x: Tensor, mask: Tensor) -> Tensor:
    powers, top = _exponentials(x, mask)
    total = powers.sum(-1)
    log = torch.log(torch.where(total == 0, 1.0, total)) + top.squeeze(-1)
    return torch.where(total == 0, -math.inf, log)


REDUCTIONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": _sum,
    "mean": _mean,
    "prod": _prod,
    "max": _max,
    "min": _min,
    "logsumexp": _logsumexp,
    "argmax": _argmax,
    "argmin": _argmin,
    "any": lambda x, mask: (x & mask).any(-1),
    "all": lambda x, mask: (x | ~mask).all(-1),
}


def reduce(op: str, x: Tensor, mask: Tensor) -> Tensor:
    """`op` over the last dim of `x`; over no entries at all it is `op` of nothing."""
    if x.shape[-1] == 0:
        x = x.new_zeros((*x.shape[:-1], 1))
        mask = torch.zeros_like(x, dtype=torch.bool)
    return REDUCTIONS[op](x, mask)


# ---- Along


def _softmax(x: Tensor, mask: Tensor) -> Tensor:
    powers, _ = _exponentials(x, mask)
    total = powers.sum(-1, keepdim=True)
    return powers / torch.where(total == 0, 1.0, total)


def _log_softmax(x: Tensor, mask: Tensor) -> Tensor:
    total = _logsumexp(x, mask).unsqueeze(-1)
    seen = mask & (total > -math.inf)
    return torch.where(seen, x - torch.where(seen, total, 0.0), -math.inf)


def _running(op: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The recurrence that `op` makes, written out."""

    def run(x: Tensor) -> Tensor:
        results = list(x.unbind(-1)[:1])
        for entry in x.unbind(-1)[1:]:
            results.append(op(results[-1], entry))
        return torch.stack(results, -1)

    return run


def _latest(reaches: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The extreme so far; the latest of a tie is taken, which gets the derivative."""

    def later(best: Tensor, entry: Tensor) -> Tensor:
        return torch.where(reaches(entry, best) | entry.isnan(), entry, best)

    return _running(later)


RUNNING: Mapping[str, Callable[[Tensor], Tensor]] = {
    "cumsum": _running(torch.add),
    "cumprod": _running(torch.mul),
    "cummax": _latest(torch.ge),
    "cummin": _latest(torch.le),
    "logcumsumexp": _running(logaddexp),
}


def _top(x: Tensor, count: int) -> Tensor:
    order = torch.sort(x, dim=-1, descending=True, stable=True).indices
    kept = torch.zeros_like(x, dtype=torch.bool).scatter(-1, order[..., :count], True)
    return torch.where(kept, x, 0)


def along(op: str, x: Tensor, mask: Tensor, count: int) -> Tensor:
    """`op` along the last dim of `x`; `count` is read by `top` alone."""
    if x.shape[-1] == 0:
        return x
    match op:
        case "softmax":
            return _softmax(x, mask)
        case "log_softmax":
            return _log_softmax(x, mask)
        case "top":
            return _top(x, count)
        case _:
            return RUNNING[op](x)
