"""Tuning: the tiles that kernels may run with, which of them fit a chip, which is fastest.

The space of a family is declared in `SPACE`. `pruned` compiles it for a chip, which need
not be there, and leaves what does not spill and fits; `tune` times what is left on the
GPU at hand and keeps the answer in a file. `configs` is the same space for those who
would rather use `triton.autotune` on a kernel of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import triton
from triton.errors import TritonError

from seqdsl.backends.triton.chips import CHIPS
from seqdsl.backends.triton.dry_run import DryRun, Launch
from seqdsl.backends.triton.launch.tiles import TUNED, Key, Tiles, tiles_of

Call = Callable[[], object]


@dataclass(frozen=True)
class Space:
    """All that kernels of a family may run with; chunks are those of the kind of decay."""

    chunks: Mapping[str, tuple[int, ...]]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    warps: tuple[int, ...]
    stages: tuple[int, ...]

    def tiles(self, kind: str, K: int, V: int) -> Iterator[Tiles]:
        """Every choice that is no larger than a state of K by V (powers of 2)."""
        rows = [n for n in self.rows if n <= K] or [K]
        columns = [n for n in self.columns if n <= V] or [V]
        for each in product(self.chunks[kind], rows, columns, self.warps, self.stages):
            yield Tiles(*each)


SPACE: Mapping[tuple[str, str], Space] = {
    ("outer", "forward"): Space(
        {"scalar": (32, 64), "channel": (16,)}, (32, 64), (16, 32, 64), (4, 8), (1, 2)
    ),
    ("outer", "backward"): Space(
        {"scalar": (16, 32), "channel": (16,)}, (32, 64), (32, 64), (4, 8), (1,)
    ),
    ("delta", "forward"): Space(
        {"scalar": (16, 32), "channel": (16,)}, (64,), (16, 32, 64), (4, 8), (1,)
    ),
    ("delta", "backward"): Space(
        {"scalar": (16, 32), "channel": (16,)}, (16, 32), (16, 32), (4, 8), (1,)
    ),
}
"""By family and direction."""


def matching(key: Key, others: Mapping[Key, Tiles]) -> list[Tiles]:
    """The choices for `key` that go with what the other direction runs with.

    A delta rule inverts chunks forwards and reads them backwards, so both have the same;
    segments are whole chunks forwards and must be so backwards.
    """
    family, kind, direction, K, V = key
    other = (family, kind, "forward", K, V)
    found = list(SPACE[family, direction].tiles(kind, K, V))
    if direction == "forward":
        return found
    chunk = (others.get(other) or tiles_of(*other)).chunk
    if family == "delta":
        return [t for t in found if t.chunk == chunk]
    return [t for t in found if chunk % t.chunk == 0]


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
    with _chosen(key, tiles), DryRun(arch) as run:
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


class _chosen:
    """While it lasts, calls of a key run with these tiles."""

    def __init__(self, key: Key, tiles: Tiles) -> None:
        self.key, self.tiles, self.before = key, tiles, TUNED.get(key)

    def __enter__(self) -> None:
        TUNED[self.key] = self.tiles

    def __exit__(self, *_: object) -> None:
        del TUNED[self.key]
        if self.before is not None:
            TUNED[self.key] = self.before


def tune(
    key: Key,
    call: Call,
    choices: Sequence[Tiles],
    cache: Path,
    timer: Callable[[Call], float] | None = None,
) -> Tiles:
    """The fastest of `choices` for `call`, from now on those of `key`; kept in `cache`.

    Nothing is timed where the file knows already. `timer` is `do_bench` unless given.
    """
    known = load(cache)
    if key not in known:
        clock = timer or _milliseconds
        known[key] = min(choices, key=lambda tiles: _timed(key, tiles, call, clock))
        save(cache, known)
    TUNED[key] = known[key]
    return known[key]


def _timed(key: Key, tiles: Tiles, call: Call, timer: Callable[[Call], float]) -> float:
    with _chosen(key, tiles):
        return timer(call)


def _milliseconds(call: Call) -> float:
    from triton.testing import do_bench

    found: object = do_bench(call, return_mode="median")
    assert isinstance(found, float)
    return found


def load(cache: Path) -> dict[Key, Tiles]:
    """What a file of tuned tiles says; nothing where there is none."""
    if not cache.exists():
        return {}
    rows = json.loads(cache.read_text("utf-8"))
    return {
        (r["family"], r["kind"], r["direction"], r["K"], r["V"]): Tiles(**r["tiles"])
        for r in rows
    }


def save(cache: Path, known: Mapping[Key, Tiles]) -> None:
    """Write a file of tuned tiles."""
    names = ("family", "kind", "direction", "K", "V")
    rows = [
        {**dict(zip(names, key, strict=True)), "tiles": asdict(tiles)}
        for key, tiles in known.items()
    ]
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


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
