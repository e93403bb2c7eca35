"""Which tiles of a family's space fit a chip, which need not be there.

The space is `SPACE` in `launch/tuning.py`, which times it on the GPU at hand. `pruned`
compiles it and leaves what does not spill and fits; `configs` is the same space for those
who would rather use `triton.autotune` on a kernel of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
from triton.errors import TritonError

from seqdsl.backends.triton.chips import CHIPS
from seqdsl.backends.triton.dry_run import DryRun, Launch
from seqdsl.backends.triton.launch.tiles import TUNED, Key, Tiles
from seqdsl.backends.triton.launch.tuning import Call, chosen, matching


def pruned(
    key: Key, call: Call, arch: str, choices: Sequence[Tiles] | None = None
) -> list[Tiles]:
    """Choices with which `call` spills nothing and fits `arch`, the busiest first.

    Where all spill, those that spill least. `call` runs the kernels of `key` alone.
    """
    costs = [
        (t, launches)
        for t in (matching(key, TUNED) if choices is None else choices)
        if (launches := _compiled(key, t, call, arch))
    ]
    if not costs:
        return []
    least = min(_spilled(launches) for _, launches in costs)
    kept = [(t, ls) for t, ls in costs if _spilled(ls) == least]
    return [t for t, _ in sorted(kept, key=lambda pair: -_busy(pair[1], arch))]


def _compiled(key: Key, tiles: Tiles, call: Call, arch: str) -> list[Launch]:
    """The launches of `call`; none where a kernel does not fit the chip."""
    with chosen(key, tiles), DryRun(arch) as run:
        try:
            call()
        except (TritonError, RuntimeError):  # too large for the compiler already
            return []
    fits = all(x.resources.fits(CHIPS[arch]) for x in run.launches)
    return run.launches if fits else []


def _spilled(launches: Sequence[Launch]) -> int:
    return sum(x.resources.spilled for x in launches)


def _busy(launches: Sequence[Launch], arch: str) -> float:
    """Warps that a multiprocessor holds at a time, of the launch that has the fewest."""
    chip = CHIPS[arch]
    return min(
        min(x.resources.fits(chip), -(-x.programs // chip.processors))
        * x.resources.warps
        for x in launches
    )


def configs(key: Key) -> list[triton.Config]:
    """The choices for `key`, for `triton.autotune`."""
    return [
        triton.Config(
            {"C": t.chunk, "BK": t.rows, "BV": t.columns},
            num_warps=t.warps,
            num_stages=t.stages,
        )
        for t in matching(key, TUNED)
    ]
