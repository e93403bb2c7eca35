"""Which tiles a kernel runs with, and into how many segments a sequence is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor


def unused(namespace: str) -> str:
    """`namespace`, with a number behind it where a file in this process has it already.

    An operator registered once more under its name takes the first one away from those
    who have it in hand.
    """
    names: list[str] = torch._C._dispatch_get_all_op_names()  # pyright: ignore
    taken = {name.partition("::")[0] for name in names}
    found, number = namespace, 1
    while found in taken:
        number += 1
        found = f"{namespace}_{number}"
    return found


NAMESPACE = "seqdsl"
"""Under which the operators of this file are known to torch."""


@dataclass(frozen=True)
class Tiles:
    """`chunk` steps at a time, by `rows` keys and `columns` values, and how to run it."""

    chunk: int
    rows: int
    columns: int
    warps: int
    stages: int


def fitting(extent: int) -> int:
    """The block that holds a whole extent."""
    return max(16, 1 << (extent - 1).bit_length())


def blocks(extent: int, block: int) -> int:
    """How many blocks hold an extent."""
    return -(-extent // block)


TILES: Mapping[tuple[str, str, str], Tiles] = {
    ("outer", "scalar", "forward"): Tiles(64, 64, 32, 4, 2),
    ("outer", "scalar", "backward"): Tiles(32, 64, 64, 4, 1),
    ("outer", "channel", "forward"): Tiles(16, 64, 32, 4, 2),
    ("outer", "channel", "backward"): Tiles(16, 64, 64, 4, 1),
    ("delta", "scalar", "forward"): Tiles(32, 64, 32, 4, 1),
    ("delta", "scalar", "backward"): Tiles(32, 32, 32, 4, 1),
    ("delta", "channel", "forward"): Tiles(16, 64, 32, 4, 1),
    ("delta", "channel", "backward"): Tiles(16, 32, 32, 4, 1),
    ("scan", "scalar", "forward"): Tiles(32, 1, 64, 4, 2),
}
"""By family, kind of decay and direction."""


Key = tuple[str, str, str, int, int, int]
"""Family, kind of decay, direction, rows and columns of a state as powers of 2, bytes of
an entry."""

TUNED: dict[Key, Tiles] = {}
"""What was found to be faster than `TILES` on this machine (`tuning.py`)."""


def key_of(
    family: str, kind: str, direction: str, K: int, V: int, width: int = 2
) -> Key:
    """Calls with the same key run with the same tiles."""
    kind = "scalar" if kind == "none" else kind
    return family, kind, direction, fitting(K), fitting(V), width


def tiles_of(
    family: str, kind: str, direction: str, K: int, V: int, width: int = 2
) -> Tiles:
    """The tiles of a call: those tuned, or what suits the size of its states.

    They are no larger than what there is, and smaller where states are large. Chunks
    of both directions go together.
    """
    key = key_of(family, kind, direction, K, V, width)
    if key in TUNED:
        return TUNED[key]
    tiles = _untuned(key)
    if direction == "forward":
        return tiles
    chunk = tiles_of(family, kind, "forward", K, V, width).chunk
    return replace(tiles, chunk=chunk if family == "delta" else min(chunk, tiles.chunk))


def _untuned(key: Key) -> Tiles:
    """What suits the size of states; a warp has 64 lanes on an AMD GPU, 32 on others."""
    tiles, largest = TILES[key[:3]], max(key[3:5])
    if key[0] == "scan":
        return replace(tiles, columns=min(tiles.columns, key[4]))
    wide = torch.version.hip is not None
    chunk, rows, columns = tiles.chunk, tiles.rows, tiles.columns
    if largest > (64 if wide else 128):
        chunk = max(16, chunk // 2)
        if key[2] == "backward":
            rows, columns = max(16, rows // 2), max(16, columns // 2)
        elif key[1] == "channel":
            columns = 16
    warps = 2 * tiles.warps if largest > 64 and not wide else tiles.warps
    if key[1:3] == ("channel", "backward") and warps == 4 and not wide:
        rows = min(rows, 32)  # so few lanes would spill on an A100
    rows, columns = min(rows, key[3]), min(columns, key[4])
    return Tiles(chunk, rows, columns, warps, tiles.stages)


def precision(x: Tensor) -> str:
    """How products of matrices are computed: as exactly as the inputs are."""
    if x.dtype != torch.float32 or not _tensor_floats():
        return "ieee"
    return "tf32x3"


def solving(x: Tensor) -> str:
    """How triangular inverses and products of whole states are computed."""
    if not _tensor_floats():
        return "ieee"
    return "tf32x3" if x.dtype == torch.float32 else "tf32"


def _tensor_floats() -> bool:
    """Whether there are NVIDIA's formats for products; not so in Triton's interpreter."""
    return torch.cuda.is_available() and torch.version.hip is None


def processors(device: torch.device) -> int:
    """Multiprocessors of a device; those of an H100 where there is none."""
    if not torch.cuda.is_available():
        return 132
    index = device if device.type == "cuda" else 0
    return torch.cuda.get_device_properties(index).multi_processor_count


def cut(chunk: int, programs: int, time: int, device: torch.device) -> tuple[int, int]:
    """The length and number of segments, as many as give every multiprocessor two programs."""
    chunks = blocks(time, chunk)
    wanted = max(1, min(2 * processors(device) // programs, blocks(chunks, 4), 64))
    length = max(1, blocks(chunks, wanted)) * chunk
    return length, max(1, blocks(time, length))


def blank(like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor to be filled, on the device of `like`."""
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device)
