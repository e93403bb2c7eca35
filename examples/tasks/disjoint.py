"""Set disjointness: two sets share one token; which? (Arora et al. 2024, "Just read twice")

`[prefix, A…, separator, B…, answer]`: a model that reads once must store all of A to find
the answer in B, one that reads twice only the smaller set.
"""

from __future__ import annotations

import torch
from torch import Tensor

MASK, PREFIX, SEPARATOR, ANSWER = range(4)
RESERVED = 4


def sample(
    rows: int, first: int, second: int, vocab: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Tokens `[rows, first + second + 3]` and the shared one; equal by seed.

    Raises `ValueError` where the vocabulary is too small for both sets.
    """
    if vocab < RESERVED + first + second:
        raise ValueError(f"{first} and {second} tokens do not fit into {vocab}")
    make = torch.Generator().manual_seed(seed)
    words = torch.rand(rows, vocab - RESERVED, generator=make).argsort(1) + RESERVED
    a, b = words[:, :first].clone(), words[:, first : first + second].clone()
    each = torch.arange(rows)
    shared = a[each, torch.randint(0, first, (rows,), generator=make)]
    b[each, torch.randint(0, second, (rows,), generator=make)] = shared
    mark = [torch.full((rows, 1), m) for m in (PREFIX, SEPARATOR, ANSWER)]
    return torch.cat([mark[0], a, mark[1], b, mark[2]], 1), shared


def repeated(tokens: Tensor, times: int = 2) -> Tensor:
    """The prompt, read again and again: `[rows, times * time]`."""
    return tokens.repeat(1, times)


def one_pass(tokens: Tensor) -> tuple[int, int]:
    """The answer by a program that reads once, and how many tokens it has to store."""
    return _find(tokens, _sets(tokens)[0])


def two_passes(tokens: Tensor) -> tuple[int, int]:
    """The same by one that reads twice: it stores the smaller set."""
    return _find(tokens, min(_sets(tokens), key=len))


def _sets(tokens: Tensor) -> tuple[list[int], list[int]]:
    values = [int(v) for v in tokens]
    middle = values.index(SEPARATOR)
    return values[1:middle], values[middle + 1 : -1]


def _find(tokens: Tensor, stored: list[int]) -> tuple[int, int]:
    a, b = _sets(tokens)
    other = b if stored == a else a
    return next(v for v in other if v in set(stored)), len(stored)
