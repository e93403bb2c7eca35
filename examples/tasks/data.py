"""Four synthetic tasks that tell sequence layers apart.

Each draws tokens `[n, time]` and targets of the same shape; positions that do not count have
the target `IGNORED`. Equal generators give equal data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

IGNORED = -100
Draw = Callable[[int, Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Task:
    """A task: what it asks, how large its vocabulary is, and how examples are drawn."""

    asks: str
    vocab: int
    draw: Draw


def shuffled(n: int, items: int, chance: Generator) -> Tensor:
    """`n` permutations of 0 … items - 1."""
    return torch.rand(n, items, generator=chance).argsort(1)


# ---- Multi-query recall: every value is overwritten twice

KEYS, VALUES, HELD, WRITES = 8, 8, 6, 3


def recall(n: int, chance: Generator) -> tuple[Tensor, Tensor]:
    """Writes of 6 keys, three times each, then a query for each: what was written last?

    A write is one token for key and value together, so that nothing but the memory counts.
    """
    keys = shuffled(n, KEYS, chance)[:, :HELD]
    order = shuffled(n, WRITES * HELD, chance) % HELD
    written = keys.gather(1, order)
    values = torch.randint(VALUES, written.shape, generator=chance)
    queries = keys.gather(1, shuffled(n, HELD, chance))
    tokens = torch.cat([written * VALUES + values, KEYS * VALUES + queries], 1)
    place = torch.arange(1, WRITES * HELD + 1)
    same = written[:, None] == queries[:, :, None]
    last = (same * place).argmax(2)
    unknown = torch.full_like(written, IGNORED)
    return tokens, torch.cat([unknown, values.gather(1, last)], 1)


# ---- Parity

BITS = 16


def parity(n: int, chance: Generator) -> tuple[Tensor, Tensor]:
    """16 bits; after each: is the number of ones so far odd?"""
    bits = torch.randint(2, (n, BITS), generator=chance)
    return bits, bits.cumsum(1) % 2


# ---- Selective copying

LETTERS, COPIED, SPREAD = 8, 4, 16


def copying(n: int, chance: Generator) -> tuple[Tensor, Tensor]:
    """4 letters at random places among 16; then they are asked for in their order."""
    places = shuffled(n, SPREAD, chance)[:, :COPIED].sort(1).values
    letters = torch.randint(LETTERS, (n, COPIED), generator=chance)
    blank, ask = LETTERS, LETTERS + 1
    tokens = torch.full((n, SPREAD + COPIED), blank).scatter(1, places, letters)
    tokens[:, SPREAD:] = ask
    targets = torch.full_like(tokens, IGNORED)
    targets[:, SPREAD:] = letters
    return tokens, targets


# ---- Induction

SYMBOLS, LENGTH = 16, 24


def induction(n: int, chance: Generator) -> tuple[Tensor, Tensor]:
    """Random symbols; where one was seen before: what followed it the last time?"""
    tokens = torch.randint(SYMBOLS, (n, LENGTH), generator=chance)
    index = torch.arange(LENGTH)
    same = (tokens[:, :, None] == tokens[:, None]) & (index[:, None] > index)
    last = (same * (index + 1)).amax(2)
    following = tokens.gather(1, last.clamp(max=LENGTH - 1))
    return tokens, torch.where(last > 0, following, IGNORED)


TASKS: Mapping[str, Task] = {
    "recall": Task("the last of the values that a key had", 72, recall),
    "parity": Task("whether the ones so far are odd, after 16 bits", 2, parity),
    "copying": Task("letters among blanks, in their order", 10, copying),
    "induction": Task("what followed a symbol the last time", 16, induction),
}
