"""Kernels as GPU binaries, compiled without a GPU, and what these say of their costs."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget

from seqdsl.backends.triton.chips import CHIPS, Chip, occupancy


@dataclass(frozen=True)
class Resources:
    """What a program of a kernel takes: registers of a thread, bytes otherwise.

    `spilled` bytes of a thread go through memory because registers ran out.
    """

    registers: int
    spilled: int
    shared: int
    warps: int

    def fits(self, chip: Chip) -> int:
        """How many programs a multiprocessor holds at a time."""
        return occupancy(chip, self.registers, self.shared, self.warps)


def target_of(arch: str) -> GPUTarget:
    """The compiler's target for `sm_90`, `gfx942`, …; raises `KeyError` for others."""
    chip = CHIPS[arch]
    if arch.startswith("sm_"):
        return GPUTarget("cuda", int(arch[3:]), chip.warp)
    return GPUTarget("hip", arch, chip.warp)


def binary(
    kernel: Any,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    arch: str,
    warps: int,
    stages: int,
) -> Resources:
    """Compile `kernel` for `arch`; `types` are those of Triton, pointers aligned to 16.

    An argument whose type is not given must be one of `constants`; a tensor may be
    None there.
    """
    from triton.compiler import ASTSource

    names: list[str] = kernel.arg_names
    signature = {n: "constexpr" if n in constants else types[n] for n in names}
    aligned = [["tt.divisibility", 16]]
    source = ASTSource(
        kernel,
        signature,
        {(names.index(n),): value for n, value in constants.items()},
        {(i,): aligned for i, n in enumerate(names) if signature[n][0] == "*"},
    )
    options = {"num_warps": warps, "num_stages": stages}
    return resources(triton.compile(source, target=target_of(arch), options=options))


def resources(compiled: Any) -> Resources:
    """What a compiled kernel takes, as its binary says."""
    shared, warps = compiled.metadata.shared, compiled.metadata.num_warps
    if "cubin" in compiled.asm:
        registers, spilled = _nvidia(compiled.asm["cubin"])
    else:
        registers, spilled = _amd(compiled.asm["amdgcn"])
    return Resources(registers, spilled, shared, warps)


def _nvidia(cubin: bytes) -> tuple[int, int]:
    from triton.backends import nvidia

    tool = Path(str(nvidia.__file__)).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-res-usage", file.name]
        said = subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2])


def _amd(assembly: str) -> tuple[int, int]:
    """Vector registers, and bytes of those spilled."""

    def number(key: str) -> int:
        found = re.search(rf"\.{key}:\s+(\d+)", assembly)
        return int(found[1]) if found else 0

    return number("vgpr_count"), 4 * number("vgpr_spill_count")
