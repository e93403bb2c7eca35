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


Place = tuple[int, Key]
"""A key and the memo (by its identity) in which it is remembered."""


class Deeper(Exception):
    """A chain of values grew long; `request` computes the one it has come to."""

    def __init__(self, place: Place, request: Callable[[], Tensor]) -> None:
        self.place, self.request = place, request
        super().__init__()


@dataclass
class Session:
    """One call: all runs, and `waiting`, the values that now wait for others."""

    runs: tuple[Run, ...]
    segmented: bool = False
    training: bool = False
    seed: int = 0
    externs: Mapping[str, Callable[..., Tensor]] = field(
        default_factory=dict[str, Callable[..., Tensor]]
    )
    waiting: set[Place] = field(default_factory=set[Place])

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
    pending: list[tuple[Place | None, Callable[[], Tensor]]] = [(None, request)]
    while True:
        try:
            result = pending[-1][1]()
        except Deeper as deeper:
            if any(place == deeper.place for place, _ in pending):
                raise _circular(deeper.place[1]) from None
            pending.append((deeper.place, deeper.request))
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

    Only what goes into a `lasting` memo can be put off, else it would be lost. Raises
    `CallError` for a value that needs itself.
    """
    if key in memo:
        return memo[key]
    place = (id(memo), key)
    if place in session.waiting:
        raise _circular(key)
    if lasting and len(session.waiting) >= DEEPEST:
        again = partial(remember, session, memo, key, define, lasting)
        raise Deeper(place, again)
    session.waiting.add(place)
    try:
        memo[key] = define()
    finally:
        session.waiting.discard(place)
    return memo[key]


def _circular(key: Key) -> CallError:
    """E0310 at run time: which steps read each other depends on values."""
    at = ", ".join(f"{part[0]} = {part[1]}" for part in key[1:] if type(part) is tuple)
    return CallError(f"`{key[0]}` at {at or 'a step'} is computed from itself")
