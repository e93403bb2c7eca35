"""Large results lie in large pages, where the system has them, and leave them to others."""

from __future__ import annotations

import gc
import mmap
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from seqdsl.runtime import pages
from seqdsl.runtime.pages import (
    _unwritten,  # pyright: ignore[reportPrivateUsage]
)

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LARGE = 4 << 20
keeps = pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE"),
    reason="mmap has no MADV_HUGEPAGE, which only Linux has",
)


@pytest.fixture(autouse=True)
def spare() -> Iterator[list[mmap.mmap]]:
    with patch.object(pages, "_SPARE", []) as empty:
        yield empty


def _have_large_pages() -> bool:
    return SETTING.exists() and "[never]" not in SETTING.read_text("utf-8")


@pytest.mark.parametrize("entries", [0, 3, LARGE // 4, (33 << 20) // 4 + 1])
@pytest.mark.parametrize("again", [False, True])
def test_memory_is_that_of_a_tensor(entries: int, again: bool) -> None:
    for _ in range(int(again)):
        _unwritten((entries,), torch.float32).fill_(1.0)
    made = _unwritten((entries,), torch.float32)
    assert made.shape == (entries,) and made.dtype == torch.float32
    assert made.fill_(2.0).sum().item() == 2 * entries


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float64, torch.complex128]
)
def test_numbers_of_any_kind(dtype: torch.dtype) -> None:
    made = _unwritten((3, LARGE // 2), dtype)
    assert (
        made.shape == (3, LARGE // 2) and made.dtype == dtype and made.is_contiguous()
    )
    assert torch.equal(made.fill_(1), torch.ones(3, LARGE // 2, dtype=dtype))


def test_what_has_no_memory_of_its_own_is_left_alone() -> None:
    with FakeTensorMode():
        made = _unwritten((4 << 20,), torch.float32)
    assert made.shape == (4 << 20,)
    assert _unwritten((4 << 20,), torch.float32, torch.device("meta")).is_meta


@keeps
def test_memory_waits_until_no_view_is_left(spare: list[mmap.mmap]) -> None:
    made = _unwritten((2, LARGE), torch.uint8)
    place, row = made.data_ptr(), made[1]
    del made
    gc.collect()
    assert not spare
    other = _unwritten((2, LARGE), torch.uint8)
    assert other.data_ptr() != place
    del row
    assert len(spare) == 1
    assert _unwritten((2 * LARGE - 5,), torch.uint8).data_ptr() == place


@keeps
def test_what_is_much_larger_is_not_taken(spare: list[mmap.mmap]) -> None:
    _unwritten((8 * LARGE,), torch.uint8)
    small = _unwritten((LARGE,), torch.uint8)
    assert len(spare) == 1
    del small
    assert [len(b) for b in spare] == [8 * LARGE, LARGE]


@keeps
def test_no_more_is_kept_than_there_is_room_for(spare: list[mmap.mmap]) -> None:
    with patch.object(pages, "_MOST_SPARE", 3 * LARGE):
        made = [_unwritten((LARGE,), torch.uint8) for _ in range(5)]
        made.clear()
        assert len(spare) == 3
        _unwritten((4 * LARGE,), torch.uint8)
        assert [len(b) for b in spare] == [LARGE] * 3
        _unwritten((2 * LARGE,), torch.uint8)
        assert [len(b) for b in spare] == [LARGE, 2 * LARGE]


@keeps
def test_nobody_waits_for_the_lock(spare: list[mmap.mmap]) -> None:
    """A tensor can go while its own thread looks for memory."""
    made = _unwritten((LARGE,), torch.uint8)
    with pages._SPARING:  # pyright: ignore[reportPrivateUsage]
        del made
        assert not spare
        assert _unwritten((LARGE,), torch.uint8).fill_(3)[-1] == 3


@keeps
def test_threads_share_no_memory() -> None:
    wrong: list[int] = []

    def work(value: int) -> None:
        for _ in range(200):
            made = _unwritten((LARGE,), torch.uint8)
            made[:: LARGE // 64] = value
            if not bool((made[:: LARGE // 64] == value).all()):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_system_without_memory_leaves_it_to_torch() -> None:
    with patch.object(mmap, "mmap", side_effect=OSError):
        assert _unwritten((LARGE,), torch.uint8).fill_(1).sum() == LARGE


@pytest.mark.skipif(not _have_large_pages(), reason="the system has no large pages")
def test_few_pages_are_touched_for_the_first_time() -> None:
    import resource

    def faults() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    size, page = 64 << 20, mmap.PAGESIZE
    before = faults()
    made = _unwritten((size,), torch.uint8)
    made[::page] = 1
    assert faults() - before < size // page // 4
    del made
    before = faults()
    _unwritten((size,), torch.uint8)[::page] = 1
    assert faults() - before < 64
