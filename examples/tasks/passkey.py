"""Passkey retrieval, and probes of what a recurrent state does over long inputs.

After Chen et al. 2024, "Stuffed Mamba": digits are hidden in a repeated filler, and have to
be said at the end; a state that collapses grows, in a few channels, past what it was
trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FILLER, MARK, ASK = range(3)
DIGIT = 3
"""The token of digit 0."""
VOCAB = DIGIT + 10


def sample(rows: int, time: int, digits: int, seed: int) -> tuple[Tensor, Tensor]:
    """Tokens `[rows, time]` and the key `[rows, digits]`; equal by seed.

    Somewhere stands the mark and the key; the sequence ends with one question per digit.
    Raises `ValueError` where they do not fit.
    """
    room = time - 2 * digits - 1
    if room < 1:
        raise ValueError(f"{digits} digits do not fit into {time} tokens")
    make = torch.Generator().manual_seed(seed)
    tokens = torch.full((rows, time), FILLER)
    key = torch.randint(0, 10, (rows, digits), generator=make)
    place = torch.randint(0, room, (rows, 1), generator=make)
    tokens.scatter_(1, place, MARK)
    tokens.scatter_(1, place + 1 + torch.arange(digits), key + DIGIT)
    tokens[:, -digits:] = ASK
    return tokens, key


@dataclass(frozen=True)
class Statistics:
    """Of one state at one step: over all numbers, and the largest of any entry."""

    mean: float
    variance: float
    norm: float
    largest: float


def statistics(
    module: Any, *inputs: Tensor, every: int = 1
) -> Iterator[dict[str, Statistics]]:
    """Statistics of every state while a layer streams `inputs`, each `every` steps."""
    floats = [x.dtype for x in inputs if x.is_floating_point()]
    dtype = floats[0] if floats else next(module.parameters()).dtype
    state = module.initial_state(len(inputs[0]), dtype=dtype)
    with torch.no_grad():
        for t in range(inputs[0].shape[1]):
            _, state = module.step(*(x[:, t] for x in inputs), state=state)
            if (t + 1) % every == 0:
                yield {k: _of(v) for k, v in state.items() if _is_state(v)}


def _is_state(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1


def _of(x: Tensor) -> Statistics:
    norm = x.flatten(1).square().sum(1).sqrt().mean()
    values = (x.mean(), x.var(correction=0), norm, x.abs().max())
    return Statistics(*(float(v) for v in values))


def state_numbers(module: Any) -> int:
    """Numbers that the state of one sequence holds: the N_S of the paper."""

    def count(value: Any) -> int:
        if isinstance(value, Tensor):
            return value.numel() if value.is_floating_point() else 0
        inner: Any = value.values() if hasattr(value, "values") else value
        return sum(map(count, inner))

    return count(module.initial_state(1))
