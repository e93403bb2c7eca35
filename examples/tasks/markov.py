"""Hidden Markov models as data: the published chains, samples, and a distance of samples.

Chains and distance are those of Torre et al. 2025, "Mechanistic interpretability of RNNs
emulating hidden Markov models".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def chain(states: int) -> tuple[Tensor, Tensor]:
    """A linear chain: transitions `[states, states]` and emissions `[states, 3]`.

    Raises `ValueError` for more than 5 states, where an inner state would stay with a
    negative probability.
    """
    q = 0.05 ** (1 / (states - 1))
    if states < 2 or 1 - 2 * q * (states > 2) < 0:
        raise ValueError(f"there is no chain of {states} states, only of 2 to 5")
    move = torch.zeros(states, states, dtype=torch.float64)
    for i in range(states):
        for j in (i - 1, i + 1):
            if 0 <= j < states:
                move[i, j] = q
        move[i, i] = 1 - move[i].sum()
    a = torch.arange(states, dtype=torch.float64) / (states - 1)
    emit = torch.stack([0.99 * (1 - a), torch.full_like(a, 0.01), 0.99 * a], 1)
    return move, emit


def sample(move: Tensor, emit: Tensor, rows: int, time: int, seed: int) -> Tensor:
    """Symbols `[rows, time]`, from a uniform start; equal seeds give equal samples."""
    make = torch.Generator().manual_seed(seed)
    state = torch.randint(0, len(move), (rows,), generator=make)
    symbols: list[Tensor] = []
    for _ in range(time):
        symbols.append(torch.multinomial(emit[state], 1, generator=make)[:, 0])
        state = torch.multinomial(move[state], 1, generator=make)[:, 0]
    return torch.stack(symbols, 1)


def sinkhorn(a: Tensor, b: Tensor, blur: float = 0.2) -> Tensor:
    """The Sinkhorn divergence of two samples `[rows, features]` for the cost |x - y|²/2."""
    return (
        _transport(a, b, blur) - (_transport(a, a, blur) + _transport(b, b, blur)) / 2
    )


def _transport(x: Tensor, y: Tensor, blur: float) -> Tensor:
    """The entropic cost of moving `x` to `y`; its gradient goes through the distances.

    The entropy falls from the diameter of the samples to `blur` squared: from there at
    once, as many rounds would be needed as the largest cost has multiples of it.
    """
    square = [z.square().sum(1) / 2 for z in (x, y)]
    cost = (square[0][:, None] + square[1] - x @ y.mT).clamp(min=0)
    with torch.no_grad():
        u, v = torch.zeros(len(x)).to(x), torch.zeros(len(y)).to(y)
        for soft in _falling(float(cost.max()), blur**2):
            to_u = soft * (math.log(len(y)) - ((v - cost) / soft).logsumexp(1))
            to_v = soft * (math.log(len(x)) - ((u[:, None] - cost) / soft).logsumexp(0))
            u, v = (u + to_u) / 2, (v + to_v) / 2
        u = blur**2 * (math.log(len(y)) - ((v - cost) / blur**2).logsumexp(1))
        plan = ((u[:, None] + v - cost) / blur**2).exp() / (len(x) * len(y))
    moved = (plan * cost).sum()
    return u.mean() + v.mean() + moved - moved.detach()


def _falling(first: float, last: float) -> list[float]:
    """Numbers from `first` that halve until `last`, then `last` a few times."""
    halvings = max(0, math.ceil(math.log2(max(first, last) / last)))
    return [first / 2**i for i in range(halvings)] + [last] * 4


def statistics(symbols: Tensor) -> tuple[Tensor, float]:
    """Shares of the three symbols in `[rows, time]`, and changes per sequence."""
    shares = torch.bincount(symbols.flatten(), minlength=3) / symbols.numel()
    changes = (symbols[:, 1:] != symbols[:, :-1]).double().sum(1).mean()
    return shares, float(changes)
