"""Threads that run kernels beside their caller, on other processors than the caller's.

A scheduler may put a thread that wakes up on the processor of whoever woke it, and some do
so for milliseconds while others are idle: short kernels then take as long as on one thread.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from threading import Lock, get_native_id

Call = Callable[[], object]


class Workers:
    """`count` threads, started when they are first needed."""

    def __init__(self, count: int) -> None:
        self._places = _Places()
        self._pool = ThreadPoolExecutor(count, "seqdsl", self._places.enter)

    def start(self, calls: Sequence[Call]) -> list[Future[object]]:
        """Every call in a thread of its own; as many more wait until one is free."""
        self._places.leave_to(processor())
        return [self._pool.submit(call) for call in calls]


class _Places:
    """Where the threads of a pool may run: everywhere but where their caller does."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._threads: list[int] = []
        self._caller: int | None = None
        self._allowed = frozenset[int]()

    def enter(self) -> None:
        """The thread that calls this belongs to the pool."""
        with self._lock:
            self._threads.append(get_native_id())
            self._place()

    def leave_to(self, caller: int | None) -> None:
        """Leaves the processor `caller` to whoever runs there."""
        if caller is None:
            return
        allowed = frozenset(os.sched_getaffinity(0))
        with self._lock:
            if (caller, allowed) != (self._caller, self._allowed):
                self._caller, self._allowed = caller, allowed
                self._place()

    def _place(self) -> None:
        if self._caller is None:
            return
        others = self._allowed - {self._caller}
        # with fewer processors than threads the scheduler has to share them out
        room = others if len(others) >= len(self._threads) else self._allowed
        for thread in self._threads:
            with suppress(OSError):
                os.sched_setaffinity(thread, room)


def processor() -> int | None:
    """The processor that runs this thread; None where the system does not tell."""
    ask = _question()
    return None if ask is None else ask()


@cache
def _question() -> Callable[[], int] | None:
    if not hasattr(os, "sched_setaffinity"):
        return None
    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


@cache
def workers(count: int) -> Workers:
    """The pool of `count` threads of this process."""
    return Workers(count)


if hasattr(os, "register_at_fork"):
    # a child has not the threads of its parent
    os.register_at_fork(after_in_child=workers.cache_clear)
