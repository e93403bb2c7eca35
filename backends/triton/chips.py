"""GPUs by their data sheets: what a kernel may use, and how fast it can be at best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """Limits of a multiprocessor, and the rates of the whole chip.

    `shared` bytes and `registers` (32 bits each) are those of a multiprocessor, `block`
    the bytes of shared memory that one program may have. `bandwidth` is in bytes,
    `products` in floating-point operations of dense bfloat16 matrix products a second,
    `plain` in other ones of float32.
    """

    name: str
    arch: str
    processors: int
    warp: int
    warps: int
    programs: int
    registers: int
    most_registers: int
    shared: int
    block: int
    bandwidth: float
    products: float
    plain: float


CHIPS: Mapping[str, Chip] = {
    chip.arch: chip
    for chip in (
        Chip(
            "NVIDIA A100 SXM 80GB", "sm_80", 108, 32, 64, 32, 65536, 255,
            167936, 166912, 2.039e12, 312e12, 19.5e12,
        ),
        Chip(
            "NVIDIA H100 SXM 80GB", "sm_90", 132, 32, 64, 32, 65536, 255,
            233472, 232448, 3.35e12, 989e12, 67e12,
        ),
        Chip(
            "AMD Instinct MI300X", "gfx942", 304, 64, 32, 32, 131072, 512,
            65536, 65536, 5.3e12, 1307e12, 163.4e12,
        ),
    )
}  # fmt: skip
"""By architecture. Sources: the vendors' data sheets and tuning guides (A100, H100 SXM5,
CDNA 3); what a program reserves is already taken off `block`."""


def occupancy(chip: Chip, registers: int, shared: int, warps: int) -> int:
    """Programs that one multiprocessor holds at a time; 0 where not even one fits."""
    if shared > chip.block or registers > chip.most_registers:
        return 0
    each = warps * chip.warp * max(8, -(-registers // 8) * 8)
    reserved = chip.shared - chip.block
    by_shared = (
        chip.shared // (shared + reserved) if shared + reserved else chip.programs
    )
    return min(chip.programs, chip.warps // warps, chip.registers // each, by_shared)


def roofline(chip: Chip, moved: float, products: float, others: float = 0.0) -> float:
    """Seconds that `moved` bytes and operations take at the least, of `products` and `others`."""
    return max(moved / chip.bandwidth, products / chip.products, others / chip.plain)
