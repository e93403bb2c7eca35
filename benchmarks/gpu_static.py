"""What kernels cost on a GPU, found out without one: `python -m benchmarks.gpu_static`.

Every operation is compiled for an architecture (`--arch`) and launched in a dry run:
launches, bytes of the tensors given to them, spilled registers, for the forward and the
backward pass, beside the kernels of flash-linear-attention where that is installed,
counted by the same rules. Nothing is run, so there are no times; `least us` is what the
data sheet of the GPU allows for these bytes and matrix products (of published kernels only
the bytes are counted).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # Triton reads it when it is imported

from benchmarks.gpu_cases import OPERATIONS, Run, Shape
from seqdsl.backends.triton.chips import CHIPS
from seqdsl.backends.triton.costs import Pass, costs

MIB = 1 << 20


def counted(name: str, run: Run, shape: Shape, arch: str) -> tuple[Pass, Pass]:
    """Both passes of an operation."""
    inputs = OPERATIONS[name].inputs(shape)
    return costs(lambda: [run(*inputs)], arch)


def rows(names: list[str], shape: Shape, arch: str) -> Iterator[dict[str, Any]]:
    """A row for each operation and each who has kernels for it."""
    for name in names:
        operation = OPERATIONS[name]
        who = {"seqdsl": operation.ours, **operation.peers()}
        for other, run in who.items():
            if other != "mamba-ssm":
                passes = counted(name, run, shape, arch)
                yield {
                    "operation": name,
                    "who": other,
                    **{
                        label: figures(found, arch, other == "seqdsl")
                        for label, found in zip(
                            ("forward", "backward"), passes, strict=True
                        )
                    },
                }


def figures(found: Pass, arch: str, ours: bool) -> dict[str, Any]:
    """What is said of a pass."""
    chip = CHIPS[arch]
    used = [x.resources for x in found.launches]
    busy = [x.programs * x.resources.warps / chip.processors for x in found.launches]
    return {
        "launches": len(found.launches),
        "mib": found.given / MIB,
        "gflops": found.flops / 1e9 if ours else 0.0,
        "least_us": 1e6
        * (found.seconds(chip) if ours else found.given / chip.bandwidth),
        "registers": max(x.registers for x in used),
        "spilled": max(x.spilled for x in used),
        "shared": max(x.shared for x in used),
        "programs_per_processor": min(x.fits(chip) for x in used),
        "warps_per_processor": min(busy),
    }


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [f"{row['operation']:18s} {row['who']:8s}"]
    for label in ("forward", "backward"):
        x = row[label]
        cells.append(
            f"{label} {x['launches']} launches {x['mib']:7.1f} MiB {x['gflops']:6.1f} GF "
            f"{x['least_us']:6.1f} us {x['registers']:3d} regs {x['spilled']:4d} spilled "
            f"{x['warps_per_processor']:5.1f} warps"
        )
    return " | ".join(cells)


def main() -> None:
    """Print the table and, with `-o`, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = [name for name, operation in OPERATIONS.items() if not operation.mixed]
    parser.add_argument("names", nargs="*", default=known)
    parser.add_argument("--arch", choices=CHIPS, default="sm_90")
    parser.add_argument("--time", type=int, default=4096)
    parser.add_argument("--K", type=int, default=128)
    parser.add_argument("--V", type=int, default=128)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    if set(given.names) - set(known):
        parser.error(f"choose from {', '.join(known)}")
    shape = Shape(time=given.time, heads=given.heads, K=given.K, V=given.V)
    found: list[dict[str, Any]] = []
    for row in rows(given.names, shape, given.arch):
        found.append(row)
        print(line(row), flush=True)
    if given.out is not None:
        shown = {k: str(v) for k, v in asdict(shape).items()}
        result = {"arch": given.arch, "shape": shown, "rows": found}
        given.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
