"""Which tiles a kernel runs with, and into how many segments a sequence is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

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
    ("loop", "scalar", "forward"): Tiles(1, 4096, 1, 4, 1),
}
"""By family, kind of decay and direction; `rows` of a loop are entries of a program."""


MEASURED: Mapping[tuple[str, str, str], Tiles] = {
    ("outer", "channel", "forward"): Tiles(16, 32, 64, 4, 1),
    ("delta", "channel", "forward"): Tiles(16, 64, 64, 4, 1),
}
"""What tuning found other than `TILES` on an H100 for states of 128 by 128 (8 heads, 4096
steps); 64 columns for scalar decays are left out, since they move more bytes."""


class Key(NamedTuple):
    """What tiles depend on: calls with the same key run with the same.

    Rows and columns of a state (of a loop: entries of its states and room to work, whole
    and as a program usually has them) are powers of 2, and `width` the bytes of an entry.
    `time` and `sequences`, how many there are side by side, are powers of 4 that are not
    less. `kernel` says which loop it is.
    """

    family: str
    kind: str
    direction: str
    K: int
    V: int
    width: int
    time: int
    sequences: int
    kernel: str = ""


TUNED: dict[Key, Tiles] = {}
"""What was found to be faster than `TILES` on this machine (`tuning.py`)."""


def bucket(extent: int, least: int = 1) -> int:
    """`least` times a power of 4 that is not less than `extent`."""
    found = least
    while found < extent:
        found *= 4
    return found


def key_of(
    family: str,
    kind: str,
    direction: str,
    K: int,
    V: int,
    width: int = 2,
    time: int = 1,
    sequences: int = 1,
) -> Key:
    """The key of a call on states of K by V."""
    kind = "scalar" if kind == "none" else kind
    sizes = fitting(K), fitting(V), width, bucket(time, 64), bucket(sequences)
    return Key(family, kind, direction, *sizes)


def tiles_of(key: Key) -> Tiles:
    """The tiles of a call: those tuned, or what suits the size of its states.

    They are no larger than what there is, and smaller where states are large. Chunks
    of both directions go together.
    """
    if key in TUNED:
        return TUNED[key]
    tiles = _untuned(key)
    if key.direction == "forward":
        return tiles
    chunk = tiles_of(key._replace(direction="forward")).chunk
    inverted = key.family == "delta"
    return replace(tiles, chunk=chunk if inverted else min(chunk, tiles.chunk))


def _untuned(key: Key) -> Tiles:
    """What suits the size of states; a warp has 64 lanes on an AMD GPU, 32 on others."""
    tiles, largest = TILES[key[:3]], max(key.K, key.V)
    if key.family == "scan":
        return replace(tiles, columns=min(tiles.columns, key.V))
    if key.family == "loop":
        warps = 1 << min(4, (key.V // 1024).bit_length())
        return replace(tiles, rows=min(tiles.rows, key.K), warps=warps)
    if 64 < largest <= 128 and _hopper():
        tiles = MEASURED.get(key[:3], tiles)
        rows, columns = min(tiles.rows, key.K), min(tiles.columns, key.V)
        return replace(tiles, rows=rows, columns=columns)
    wide = torch.version.hip is not None
    chunk, rows, columns = tiles.chunk, tiles.rows, tiles.columns
    if largest > (64 if wide else 128):
        chunk = max(16, chunk // 2)
        if key.direction == "backward":
            rows, columns = max(16, rows // 2), max(16, columns // 2)
        elif key.kind == "channel":
            columns = 16
    warps = 2 * tiles.warps if largest > 64 and not wide else tiles.warps
    if key[1:3] == ("channel", "backward") and warps == 4 and not wide:
        rows = min(rows, 32)  # so few lanes would spill on an A100
    rows, columns = min(rows, key.K), min(columns, key.V)
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


def _hopper() -> bool:
    """Whether the GPU at hand is an H100 or a later one; so it is where there is none."""
    if not torch.cuda.is_available():
        return True
    return torch.version.hip is None and torch.cuda.get_device_capability() >= (9, 0)


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
