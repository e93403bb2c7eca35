"""Reductions with a mask: gradients are finite, also where nothing takes part."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from seqdsl.backends.torch.carried.scan import _scan

__all__ = [
    "_all",
    "_any",
    "_argmax",
    "_argmin",
    "_attend",
    "_cummax",
    "_cummin",
    "_first",
    "_flat",
    "_kept",
    "_least",
    "_log_softmax",
    "_logcumsumexp",
    "_logsumexp",
    "_masked",
    "_max",
    "_mean",
    "_min",
    "_most",
    "_position",
    "_prod",
    "_softmax",
    "_sum",
    "_top",
]


def _masked(x: Tensor, where: Tensor | None, outside: float) -> Tensor:
    """`x`, and `outside` where the mask is false."""
    return x if where is None else torch.where(where, x, outside)


def _sum(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    return _masked(x, where, 0).sum(dims)


def _mean(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    seen = torch.ones_like(x, dtype=torch.bool) if where is None else where
    x = torch.where(seen, x, 0)
    return x.sum(dims) / seen.expand_as(x).sum(dims).clamp(min=1)


def _flat(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """`dims` (from the end) as one last dimension."""
    x = x.movedim(list(dims), list(range(-len(dims), 0)))
    return x.flatten(-len(dims))


def _prod(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    return _flat(_masked(x, where, 1), dims).prod(-1)


def _least(x: Tensor) -> float:
    return -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min


def _most(x: Tensor) -> float:
    return math.inf if x.is_floating_point() else torch.iinfo(x.dtype).max


def _max(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    x = _masked(x, where, _least(x))
    if x.numel() == 0:
        return torch.full_like(x.sum(dims), _least(x))
    return x.amax(dims)


def _min(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    x = _masked(x, where, _most(x))
    if x.numel() == 0:
        return torch.full_like(x.sum(dims), _most(x))
    return x.amin(dims)


def _argmax(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    """The first place of the largest entry; 0 where nothing takes part."""
    (dim,) = dims
    hit = x == _max(x, dims, where).unsqueeze(dim)
    return _first(hit if where is None else hit & where, dim)


def _argmin(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    (dim,) = dims
    hit = x == _min(x, dims, where).unsqueeze(dim)
    return _first(hit if where is None else hit & where, dim)


def _first(hit: Tensor, dim: int) -> Tensor:
    return hit.int().argmax(dim) if hit.shape[dim] else hit.sum(dim)


def _position(
    place: Tensor, x: Tensor, dim: int, where: Tensor | None, steps: Tensor
) -> Tensor:
    """The position in its sequence of what is at `place` along `dim` of `x`.

    `steps` are the positions of all entries; where nothing takes part, it is 0.
    """
    if x.shape[dim] == 0:
        return place
    wide = steps.expand_as(x if where is None else torch.where(where, x, x))
    found = wide.gather(dim, place.unsqueeze(dim)).squeeze(dim)
    return found if where is None else torch.where(where.any(dim), found, 0)


def _cummax(x: Tensor, dim: int, where: Tensor | None) -> Tensor:
    return _masked(x, where, _least(x)).cummax(dim).values


def _cummin(x: Tensor, dim: int, where: Tensor | None) -> Tensor:
    return _masked(x, where, _most(x)).cummin(dim).values


def _logcumsumexp(x: Tensor, dim: int, where: Tensor | None) -> Tensor:
    """Running log of sums; -inf is their identity, also for gradients.

    torch's own second gradient takes the log of the first one, which may be 0. Here
    `total` is a constant, and the sum of what is relative to it, 1, carries all orders.
    """
    x = _masked(x, where, -math.inf)
    seen = x > -math.inf
    x = torch.where(seen, x, torch.finfo(x.dtype).min / 4)
    if not torch.compiler.is_compiling() and x.numel():
        total = x.detach().logcumsumexp(dim)
        finite = total.isfinite()
        before = total.roll(1, dim)
        before.narrow(dim, 0, 1).fill_(-math.inf)
        decay = torch.where(finite, before - total, -math.inf).exp().movedim(dim, 0)
        part = torch.where(finite, x - total, -math.inf).exp().movedim(dim, 0)
        start = torch.zeros_like(part[:1])
        relative = _scan(decay[None], part[None], start, None, 0)[0][0].movedim(0, dim)
        total = total + torch.where(finite, relative, 1).log()
    else:
        total = x.logcumsumexp(dim)
    return torch.where(seen.cummax(dim).values, total, -math.inf)


def _any(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    return (x if where is None else x & where).any(dims)


def _all(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    return (x if where is None else x | ~where).all(dims)


def _logsumexp(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    x = _masked(x, where, -math.inf)
    if x.numel() == 0:
        return torch.full_like(x.sum(dims), -math.inf)
    top = x.detach().amax(dims, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0)
    total = torch.exp(x - top).sum(dims)
    log = torch.log(torch.where(total == 0, 1, total)) + top.reshape(total.shape)
    return torch.where(total == 0, -math.inf, log)


def _softmax(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    """Softmax over `dims` of what `where` lets take part; all 0 where nothing does."""
    x = _masked(x, where, -math.inf)
    if x.numel() == 0:
        return x
    top = x.detach().amax(dims, keepdim=True)
    powers = torch.exp(x - torch.where(torch.isfinite(top), top, 0))
    total = powers.sum(dims, keepdim=True)
    return powers / torch.where(total == 0, 1, total)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None = None
) -> Tensor:
    """Attention in which what sees nothing reads 0, with finite gradients."""
    seen = mask.any(-1, keepdim=True)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask | ~seen, scale=scale)
    return torch.where(seen, y, 0)


def _log_softmax(x: Tensor, dims: tuple[int, ...], where: Tensor | None) -> Tensor:
    x = _masked(x, where, -math.inf)
    total = _logsumexp(x, dims, None)
    for dim in sorted(d % x.dim() for d in dims):
        total = total.unsqueeze(dim)
    seen = (x > -math.inf) & (total > -math.inf)
    return torch.where(seen, x - torch.where(seen, total, 0), -math.inf)


def _top(x: Tensor, count: int, dim: int, where: Tensor | None = None) -> Tensor:
    """`x` at its `count` largest entries along `dim`, else 0; ties go to the first."""
    if where is None:
        return torch.where(_kept(x, count, dim), x, 0)
    where = where & torch.ones_like(x, dtype=torch.bool)
    x = x.expand_as(where)
    return torch.where(_kept(x, count, dim, where) & where, x, 0)


def _kept(x: Tensor, count: int, dim: int, where: Tensor | None = None) -> Tensor:
    """Where `x` is among its `count` largest entries along `dim`, `where` first."""
    order = torch.sort(x, dim=dim, descending=True, stable=True).indices
    if where is not None:
        outside = (~where).int().gather(dim, order)
        order = order.gather(dim, torch.sort(outside, dim=dim, stable=True).indices)
    chosen = torch.zeros_like(x, dtype=torch.bool)
    first = order.narrow(dim, 0, min(count, x.shape[dim]))
    return chosen.scatter(dim, first, True)
