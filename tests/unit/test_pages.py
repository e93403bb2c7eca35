"""Large outputs lie in large pages, where the system has them."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from seqdsl.runtime.pages import (
    _unwritten,  # pyright: ignore[reportPrivateUsage]
)

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def _have_large_pages() -> bool:
    return SETTING.exists() and "[never]" not in SETTING.read_text("utf-8")


@pytest.mark.parametrize("entries", [0, 3, (4 << 20) // 4, (33 << 20) // 4 + 1])
def test_memory_is_that_of_a_tensor(entries: int) -> None:
    made = _unwritten((entries,), torch.float32)
    assert made.shape == (entries,) and made.dtype == torch.float32
    assert made.fill_(2.0).sum().item() == 2 * entries


def test_what_has_no_memory_of_its_own_is_left_alone() -> None:
    with FakeTensorMode():
        made = _unwritten((4 << 20,), torch.float32)
    assert made.shape == (4 << 20,)
    assert _unwritten((4 << 20,), torch.float32, torch.device("meta")).is_meta


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
