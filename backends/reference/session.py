"""What holds for a whole call: its sequences, and what is known so far."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from seqdsl.diagnostics import CallError

Index = Mapping[str, int]
"""Where a value is wanted: `batch` is the number of a run, `t` the step within it."""

Key = tuple[str | int | tuple[str, int], ...]
"""What a remembered value is remembered by."""

DEEPEST = 60
"""Values that may wait for one another before one of them is computed on its own."""


@dataclass(frozen=True)
class Run:
    """One sequence: a row of the batch, or a segment of one."""

    row: int
    start: int
    length: int


class Deeper(Exception):
    """A chain of values grew long; `request` computes the one it has come to."""

    def __init__(self, request: Callable[[], Tensor]) -> None:
        self.request = request
        super().__init__()


@dataclass
class Session:
    """One call: all runs, and `depth`, the number of values now waiting for others."""

    runs: tuple[Run, ...]
    segmented: bool = False
    training: bool = False
    seed: int = 0
    externs: Mapping[str, Callable[..., Tensor]] = field(
        default_factory=dict[str, Callable[..., Tensor]]
    )
    depth: int = 0

    def length(self, index: Index) -> int:
        """Steps of the run at `index`, or of any run where all are equally long."""
        if "batch" in index:
            return self.runs[index["batch"]].length
        lengths = {run.length for run in self.runs}
        if len(lengths) > 1:
            raise CallError(
                "a value that is shared by all segments depends on their length"
            )
        return max(lengths, default=0)


@contextmanager
def deep_recursion() -> Generator[None, None, None]:
    """Room for deeply nested expressions, of which up to `DEEPEST` may be open."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 50_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def settle(request: Callable[[], Tensor]) -> Tensor:
    """`request()`, in as many pieces as it takes to keep Python's stack short.

    A request that runs into a long chain of values not yet known is put off until the
    value where it gave up is known; what it had computed by then is remembered.
    """
    pending = [request]
    while True:
        try:
            result = pending[-1]()
        except Deeper as deeper:
            pending.append(deeper.request)
            continue
        pending.pop()
        if not pending:
            return result


def remember(
    session: Session,
    memo: dict[Key, Tensor],
    key: Key,
    define: Callable[[], Tensor],
    lasting: bool,
) -> Tensor:
    """The value of `key`, computed at most once.

    Only what goes into a `lasting` memo can be put off, else it would be lost.
    """
    if key in memo:
        return memo[key]
    if lasting and session.depth >= DEEPEST:
        raise Deeper(partial(remember, session, memo, key, define, lasting))
    session.depth += 1
    try:
        memo[key] = define()
    finally:
        session.depth -= 1
    return memo[key]
