"""What the machine at hand can do, as far as kernels depend on it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Vectors of `lanes` numbers of `bits` bits, `registers` of them.

    `storage` is the MLIR type of floats in memory.
    """

    lanes: int
    bits: int
    registers: int
    storage: str


def machine(bits: int, storage: str) -> Machine:
    """The host, for arithmetic in `bits` bits."""
    width, registers = host_vectors()
    return Machine(width // bits, bits, registers, storage)


@cache
def host_vectors() -> tuple[int, int]:
    """Bits in a vector register of the host, and how many there are."""
    flags = host_features()
    if "avx512f" in flags and "avx512vl" in flags:
        return 512, 32
    if "avx2" in flags:
        return 256, 16
    if platform.machine().lower() in ("aarch64", "arm64"):
        return 128, 32
    return 128, 16


@cache
def host_features() -> frozenset[str]:
    """Instruction sets of the host as Linux names them; empty where unknown."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return frozenset()
    for line in info.read_text("utf-8", "replace").splitlines():
        name, _, rest = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(rest.split())
    return frozenset()


@cache
def host_key() -> str:
    """Names the host as far as compiled code depends on it."""
    flags = " ".join(sorted(host_features()))
    return f"{platform.system()} {platform.machine()} {flags}"
