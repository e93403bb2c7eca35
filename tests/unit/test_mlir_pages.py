"""Large outputs lie in large pages, where the system has them."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from seqdsl.backends.mlir.pages import fresh

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def _have_large_pages() -> bool:
    return SETTING.exists() and "[never]" not in SETTING.read_text("utf-8")


@pytest.mark.parametrize("entries", [0, 3, (4 << 20) // 4, (33 << 20) // 4 + 1])
def test_memory_is_that_of_a_tensor(entries: int) -> None:
    made = fresh((entries,), torch.float32)
    assert made.shape == (entries,) and made.dtype == torch.float32
    assert made.fill_(2.0).sum().item() == 2 * entries


@pytest.mark.skipif(not _have_large_pages(), reason="the system has no large pages")
def test_few_pages_are_touched_for_the_first_time() -> None:
    import resource

    def faults() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    size, page = 64 << 20, mmap.PAGESIZE
    before = faults()
    made = fresh((size,), torch.uint8)
    made[::page] = 1
    assert faults() - before < size // page // 4
