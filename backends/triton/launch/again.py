"""Gradients that have gradients: what a kernel does is done once more in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunkwise import _chunkwise as _chunkwise_by_torch

_CHUNK = 64


def wanted_again() -> bool:
    """Whether gradients are to have gradients, in a backward pass."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def pulled_again(
    run: Callable[..., Sequence[Tensor]],
    given: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradients of all that is given; `grads` are those of what `run` makes of it."""
    outs = zip(run(*given), grads, strict=False)
    made = [(o, d) for o, d in outs if o.requires_grad and d is not None]
    leaves = [x for x in given if x is not None and x.requires_grad]
    if not made or not leaves:
        return [None] * len(given)
    found = iter(
        torch.autograd.grad(
            [o for o, _ in made],
            leaves,
            [d.to(o.dtype) for o, d in made],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if x is not None and x.requires_grad else None for x in given]


def _one(x: Tensor | None, scale: Tensor | None = None) -> Tensor | None:
    """Vectors of a single write."""
    if x is None:
        return None
    return (x if scale is None else scale[..., None] * x).unsqueeze(3)


def _decay(g: Tensor | None) -> Tensor | None:
    """Decays of rows, or of all of them, from their logarithms."""
    return None if g is None else (g if g.dim() == 4 else g.unsqueeze(3)).exp()


def _initial_or_zero(k: Tensor, v: Tensor, initial: Tensor | None) -> Tensor:
    shape = k.shape[0], k.shape[2], k.shape[3], v.shape[3]
    return torch.zeros(shape, device=k.device) if initial is None else initial


def outer_in_torch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    initial: Tensor | None,
    scale: float,
    lag: int,
) -> tuple[Tensor, Tensor]:
    """What `outer` computes."""
    old, new = (_one(q), None) if lag else (None, _one(q))
    sides = None, None, None, _one(k), _one(v), old, new
    ends = _initial_or_zero(k, v, initial), None, None, q.shape[1], _CHUNK
    reads, last = _chunkwise_by_torch(_decay(g), *sides, *ends)
    return scale * reads.squeeze(3), last


def delta_in_torch(
    q: Tensor,
    l: Tensor,
    r: Tensor,
    y: Tensor | None,
    k: Tensor | None,
    v: Tensor | None,
    g: Tensor | None,
    ls: Tensor | None,
    rs: Tensor | None,
    initial: Tensor | None,
    scale: float,
    group: int,
) -> tuple[Tensor, Tensor]:
    """What `delta` computes."""
    values = v if y is None else y
    assert values is not None
    first, right, into = _initial_or_zero(l, values, initial), _one(r, rs), _one(l, ls)
    assert right is not None and into is not None
    if group == 1:
        sides = right, into, _one(y), _one(k), _one(v), None, _one(q)
        reads, last = _chunkwise_by_torch(
            _decay(g), *sides, first, None, None, q.shape[1], _CHUNK
        )
        return scale * reads.squeeze(3), last
    state, reads = first, list[Tensor]()
    parts = [
        None if x is None else x.transpose(1, 2).float().split(group, 2)
        for x in (q, into.squeeze(3), right.squeeze(3), y, k, v, _decay(g))
    ]
    for t in range(q.shape[1] // group):
        at = [None if x is None else x[t] for x in parts]
        read, state = _rows_in_torch(at, state)
        reads.append(read)
    return scale * torch.cat(reads, 2).transpose(1, 2), state


def _rows_in_torch(at: Sequence[Tensor | None], state: Tensor) -> tuple[Tensor, Tensor]:
    """The rows `[batch, heads, rows, ...]` of one step: what is read, and the next state."""
    q, l, r, y, k, v, a = at
    assert q is not None and l is not None and r is not None
    x = r @ state if y is None else y + r @ state
    state = state if a is None else a[:, :, 0, :, None] * state
    read = q @ state + (q @ l.mT).tril() @ x
    state = state + l.mT @ x
    if k is not None and v is not None:
        read, state = read + (q @ k.mT).tril() @ v, state + k.mT @ v
    return read, state
