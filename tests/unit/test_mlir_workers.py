"""Threads beside a caller: where they run, and what becomes of them in a child process."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Barrier, get_native_id

import pytest

from seqdsl.backends.mlir.workers import Workers, processor

FEW = not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2

needs_two = pytest.mark.skipif(FEW, reason="needs Linux and two processors")


def together(workers: Workers, count: int) -> set[int]:
    """Native ids of the threads that ran `count` calls at the same time."""
    barrier = Barrier(count)

    def call() -> int:
        barrier.wait(timeout=60)
        return get_native_id()

    calls: list[Callable[[], object]] = [call] * count
    return {int(str(f.result())) for f in workers.start(calls)}


@needs_two
def test_threads_leave_the_processor_of_their_caller() -> None:
    allowed = os.sched_getaffinity(0)
    workers = Workers(1)
    here = min(allowed)
    os.sched_setaffinity(0, {here})
    try:
        together(workers, 1)
        assert processor() == here
        # the caller may run on one processor only, and so may its threads
        (thread,) = together(workers, 1)
        assert os.sched_getaffinity(thread) == {here}
    finally:
        os.sched_setaffinity(0, allowed)
    for here in sorted(allowed)[:2]:
        os.sched_setaffinity(0, {here})
        os.sched_setaffinity(0, allowed)
        (thread,) = together(workers, 1)
        room = os.sched_getaffinity(thread)
        assert len(room) == len(allowed) - 1 and room < allowed


@needs_two
def test_more_threads_than_other_processors_run_everywhere() -> None:
    allowed = os.sched_getaffinity(0)
    workers = Workers(len(allowed))
    threads = together(workers, len(allowed))
    together(workers, len(allowed))
    assert len(threads) == len(allowed)
    assert all(os.sched_getaffinity(t) == allowed for t in threads)


def test_calls_wait_for_a_free_thread() -> None:
    workers = Workers(2)
    found = [f.result() for f in workers.start([lambda: 1, lambda: 2, lambda: 3])]
    assert found == [1, 2, 3]


def test_what_a_call_raises_reaches_the_caller() -> None:
    def fail() -> object:
        raise ValueError("here")

    (future,) = Workers(1).start([fail])
    with pytest.raises(ValueError, match="here"):
        future.result()
