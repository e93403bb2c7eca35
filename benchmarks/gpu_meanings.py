"""What operations of GPU benchmarks mean, step by step, and by the torch backend's chunks."""

# pyright: reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunkwise import _chunkwise


def outer_loop(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
    """Decayed outer products, step by step."""
    nothing = torch.zeros_like(q)
    return dplr_loop(q, k, v, nothing, nothing, g)


def delta_loop(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """The gated delta rule, step by step."""
    b = b[..., None]
    return dplr_loop(q, b * k, v, -g.exp()[..., None] * k, b * k, g)


def dplr_loop(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, g: Tensor
) -> Tensor:
    """`S = exp(g) S + b (a^T S) + k v^T`, read by q, step by step."""
    state = q.new_zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3])
    g = g if g.dim() == 4 else g[..., None]
    reads: list[Tensor] = []
    for t in range(q.shape[1]):
        seen = torch.einsum("bhk,bhkv->bhv", a[:, t], state)
        state = g[:, t].exp()[..., None] * state + b[:, t, ..., None] * seen[:, :, None]
        state = state + k[:, t, ..., None] * v[:, t, :, None]
        reads.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(reads, 1)


def pairs_loop(
    q: Tensor, l: Tensor, r: Tensor, y: Tensor, g: Tensor, rows: int = 2
) -> Tensor:
    """`S = exp(g) S + sum of l (y + r S)` over the `rows` of a step, each of which is read."""
    state = before = q.new_zeros(q.shape[0], q.shape[2], q.shape[3], y.shape[3])
    reads: list[Tensor] = []
    for t in range(q.shape[1]):
        if t % rows == 0:
            before = state
            state = g[:, t].exp()[..., None, None] * state
        seen = y[:, t] + torch.einsum("bhk,bhkv->bhv", r[:, t], before)
        state = state + l[:, t, ..., None] * seen[:, :, None]
        reads.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(reads, 1)


def scan_loop(a: Tensor, b: Tensor) -> Tensor:
    """`h = a h + b`, step by step."""
    h, steps = torch.zeros_like(b[:, 0]), list[Tensor]()
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        steps.append(h)
    return torch.stack(steps, 1)


def momentum_loop(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, m: Tensor, b: Tensor
) -> Tensor:
    """A delta rule whose writes have momentum, `S = a S + P`, step by step."""
    state = push = q.new_zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3])
    reads: list[Tensor] = []
    for t in range(q.shape[1]):
        missed = v[:, t] - torch.einsum("bhk,bhkv->bhv", k[:, t], state)
        wrote = (b[:, t, :, None] * k[:, t])[..., None] * missed[:, :, None]
        push = m[:, t, :, None, None] * push + wrote
        state = a[:, t, :, None, None] * state + push
        reads.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(reads, 1)


# ---- The torch backend's chunks, for torch.compile


def dplr_chunks(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, g: Tensor
) -> Tensor:
    """`dplr_loop` by matrix products."""
    return _chunked(g.exp(), q, erase=(a, b, None), write=(k, v))


def outer_chunks(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
    """`outer_loop` by matrix products."""
    decay = g.exp() if g.dim() == 4 else g.exp()[..., None]
    return _chunked(decay, q, write=(k, v))


def delta_chunks(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """`delta_loop` by matrix products."""
    decay = g.exp()[..., None]
    return _chunked(decay, q, erase=(-decay * k, b[..., None] * k, v))


def _chunked(
    decay: Tensor,
    query: Tensor,
    erase: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None),
    write: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Tensor:
    """Reads after each step; an erase is what it reads along, writes along, and its value."""
    value = erase[2] if write[1] is None else write[1]
    assert value is not None
    first = value.new_zeros(
        len(query), query.shape[2], query.shape[3], value.shape[-1], dtype=torch.float32
    )
    right, into, known = (_one(x) for x in erase)
    left, written = (_one(x) for x in write)
    made, _ = _chunkwise(
        decay,
        right,
        into,
        known,
        left,
        written,
        None,
        _one(query),
        first,
        None,
        None,
        query.shape[1],
        64,
    )
    return made.squeeze(3).to(query.dtype)


def momentum_chunks(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, m: Tensor, b: Tensor
) -> Tensor:
    """`momentum_loop` by matrix products: the rows of P above those of S."""
    zero, push = torch.zeros_like(k), b[..., None] * k
    lines = [torch.stack([m, torch.zeros_like(m)], -1), torch.stack([m, a], -1)]
    decay = torch.stack(lines, -2).unsqueeze(-1)
    right, into, query = (
        torch.cat(x, -1).unsqueeze(3) for x in ((zero, -k), (push, push), (zero, q))
    )
    first = v.new_zeros(len(q), q.shape[2], 2 * q.shape[3], v.shape[3])
    sides = right, into, _one(v), None, None, None, query
    time = q.shape[1]
    made, _ = _chunkwise(decay, *sides, first.float(), None, None, time, 64, 2)
    return made.squeeze(3).to(query.dtype)


def _one(x: Tensor | None) -> Tensor | None:
    """Vectors of a single write."""
    return None if x is None else x.unsqueeze(3)
