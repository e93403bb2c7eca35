"""Which tiles are fastest on the GPU at hand: found at the first call, and kept in a file.

With `SEQDSL_AUTOTUNE=1` in the environment the first call of each kind tries the choices
of its family (`SPACE`) and keeps the fastest, for later processes as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch
import triton
from torch import Tensor
from triton.errors import TritonError
from triton.testing import do_bench

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
    ("scan", "forward"): Space(
        {"scalar": (16, 32, 64)}, (1,), (32, 64, 128), (2, 4), (1, 2)
    ),
    ("loop", "forward"): Space(
        {"scalar": (1,)}, (512, 1024, 2048, 4096, 8192), (1,), (1, 2, 4, 8, 16), (1,)
    ),
}
"""By family and direction; the gradient of a scan runs with the tiles of the scan, that of
a loop is made of loops."""


def matching(key: Key, others: Mapping[Key, Tiles]) -> list[Tiles]:
    """The choices for `key` that go with what the other direction runs with.

    A delta rule inverts chunks forwards and reads them backwards, so both have the same;
    segments are whole chunks forwards and must be so backwards.
    """
    found = list(SPACE[key.family, key.direction].tiles(key.kind, key.K, key.V))
    if key.direction == "forward":
        return found
    other = key._replace(direction="forward")
    chunk = (others.get(other) or tiles_of(other)).chunk
    if key.family == "delta":
        return [t for t in found if t.chunk == chunk]
    return [t for t in found if chunk % t.chunk == 0]


# ---- At run time


def settled(key: Key, x: Tensor, call: Call) -> None:
    """See to it that `call`, which runs with the tiles of `key` on `x`, has the fastest.

    Nothing happens where this is not asked for, known already, or a graph is captured.
    """
    if key in TUNED or not _asked(x):
        return
    cache = kept_at(x.device)
    if (tiles := read_tuned(cache).get(key)) not in (choices := matching(key, TUNED)):
        tiles = fastest(key, call, choices, milliseconds)
        write_tuned(cache, {**read_tuned(cache), key: tiles})
    assert tiles is not None
    TUNED[key] = tiles


def _asked(x: Tensor) -> bool:
    wanted = os.environ.get("SEQDSL_AUTOTUNE", "0") not in ("", "0")
    return wanted and x.is_cuda and not torch.cuda.is_current_stream_capturing()


def pinned(*keys: Key) -> None:
    """Keep the tiles of `keys` from now on: shapes in a graph depend on them."""
    for key in keys:
        TUNED.setdefault(key, tiles_of(key))


def fastest(
    key: Key, call: Call, choices: Sequence[Tiles], clock: Callable[[Call], float]
) -> Tiles:
    """The best of `choices` by `clock`, changing one thing at a time from the usual tiles."""
    times: dict[Tiles, float] = {}
    best = tiles_of(key) if tiles_of(key) in choices else choices[0]
    while True:
        before = best
        for name in ("columns", "warps", "rows", "chunk", "stages"):
            fixed = {n: v for n, v in asdict(best).items() if n != name}
            near = [t for t in choices if fixed.items() <= asdict(t).items()]
            for tiles in near:
                if tiles not in times:
                    times[tiles] = _timed(key, tiles, call, clock)
            best = min((best, *near), key=times.__getitem__)
        if best == before:
            return best


class chosen:
    """While it lasts, calls of a key run with these tiles."""

    def __init__(self, key: Key, tiles: Tiles) -> None:
        self.key, self.tiles, self.before = key, tiles, TUNED.get(key)

    def __enter__(self) -> None:
        TUNED[self.key] = self.tiles

    def __exit__(self, *_: object) -> None:
        del TUNED[self.key]
        if self.before is not None:
            TUNED[self.key] = self.before


def _timed(key: Key, tiles: Tiles, call: Call, clock: Callable[[Call], float]) -> float:
    """What `clock` says of `call` with these tiles; infinite where they do not fit."""
    try:
        with chosen(key, tiles):
            return clock(call)
    except (TritonError, RuntimeError):  # too large for this GPU
        return float("inf")


def milliseconds(call: Call) -> float:
    """The median of many runs on a GPU."""
    found: object = do_bench(call, return_mode="median")
    assert isinstance(found, float)
    return found


# ---- The file


def kept_at(device: torch.device) -> Path:
    """Where what was found on a device is kept: a file for each chip and Triton."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = torch.cuda.get_device_name(device).replace("/", " ").replace(" ", "_")
    return base / "seqdsl" / "tuned" / f"{name}-{triton.__version__}.json"


def read_tuned(cache: Path) -> dict[Key, Tiles]:
    """What a file of tuned tiles says; nothing where there is none, or none that can be read."""
    try:
        rows = json.loads(cache.read_text("utf-8"))
        return {
            Key(**{n: r[n] for n in Key._fields}): Tiles(**r["tiles"]) for r in rows
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def write_tuned(cache: Path, known: Mapping[Key, Tiles]) -> None:
    """Write a file of tuned tiles, whole or not at all."""
    rows = [{**key._asdict(), "tiles": asdict(tiles)} for key, tiles in known.items()]
    cache.parent.mkdir(parents=True, exist_ok=True)
    draft = cache.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    draft.replace(cache)
