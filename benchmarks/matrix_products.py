"""The matrix products that chunks of matrix states cannot do without, and what they take."""

from __future__ import annotations

from collections.abc import Callable

import torch

ROWS = 64
KINDS = {
    "gated linear attention": (1, 1, 0),
    "gated delta rule": (2, 1, 1),
    "RWKV-7": (2, 2, 1),
    "KDA": (2, 1, 1),
}
"""Readers of the states at a step, writers, and erases, which are both."""


def necessary(name: str, size: int) -> list[tuple[int, int, int]]:
    """Products `[m, k] @ [k, n]` of a chunk of `size` steps, forward and backward.

    What is made within a chunk is made again for the gradient, since only states between
    chunks are kept.
    """
    readers, writers, erases = (size * n for n in KINDS[name])
    queries, rest = readers - erases, writers - erases
    within = [(readers, ROWS, writers)]
    if erases:
        within += [(erases, erases, ROWS), (erases, erases, ROWS), (erases, ROWS, ROWS)]
    if erases and rest:
        within += [(erases, rest, ROWS)]
    onward = [(ROWS, writers, ROWS), (queries, ROWS, ROWS), (queries, writers, ROWS)]
    back = [
        (writers, queries, ROWS), (ROWS, queries, ROWS), (readers, ROWS, writers),
        (readers, ROWS, ROWS), (writers, ROWS, ROWS), (writers, ROWS, ROWS),
        (readers, writers, ROWS), (writers, readers, ROWS),
    ]  # fmt: skip
    if erases:
        back += [(ROWS, erases, ROWS), (erases, erases, ROWS)]
    if erases and rest:
        back += [(rest, erases, ROWS)]
    return [*within, *onward, *within, *back]


def least(
    name: str, lanes: int, steps: int, rounds: int, clock: Callable[[], float]
) -> float:
    """Milliseconds of these products alone, as fast as they go in any of some groupings.

    `lanes` are sequences and heads.
    """
    taken: list[float] = []
    for size, many in ((32, 64), (32, 128), (64, 32), (64, 64)):
        shapes = necessary(name, size)
        given = [
            (torch.randn(many, m, k), torch.randn(many, k, n)) for m, k, n in shapes
        ]
        outs = [x @ y for x, y in given]
        groups = lanes * steps / size / many
        for _ in range(rounds):
            start = clock()
            for (x, y), out in zip(given, outs, strict=True):
                torch.bmm(x, y, out=out)
            taken.append((clock() - start) * 1e3 * groups)
    return min(taken)
