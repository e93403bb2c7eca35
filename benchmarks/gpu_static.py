"""What kernels cost on a GPU, found out without one: `python -m benchmarks.gpu_static`.

Every operation is compiled for the architecture named (`sm_90` by default) and launched
in a dry run: launches, bytes of the tensors given to them, spilled registers, for the
forward and the backward pass, beside the kernels of flash-linear-attention where that is
installed, counted by the same rules. Nothing is run, so there are no times.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # Triton reads it when it is imported

import torch
from torch import Tensor

from seqdsl.backends.triton.chips import CHIPS, roofline
from seqdsl.backends.triton.dry_run import DryRun, Launch
from seqdsl.backends.triton.launch.delta import delta_products
from seqdsl.backends.triton.launch.outer import decayed_products
from seqdsl.backends.triton.launch.scan import scan

MIB = 1 << 20


@dataclass(frozen=True)
class Shape:
    """Extents of an operation; bfloat16, but float32 for scans."""

    batch: int = 1
    time: int = 4096
    heads: int = 8
    K: int = 128
    V: int = 128


def random(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """A tensor with a gradient."""
    return torch.rand(*shape).to(dtype).requires_grad_()


def vectors(s: Shape) -> tuple[Tensor, Tensor, Tensor, tuple[int, int, int]]:
    """Queries, keys, values, and their leading extents."""
    lead = (s.batch, s.time, s.heads)
    return random(*lead, s.K), random(*lead, s.K), random(*lead, s.V), lead


def gla(s: Shape) -> Tensor:
    q, k, v, lead = vectors(s)
    return decayed_products(q, k, v, random(*lead, s.K), keep=False)[0]


def simple_gla(s: Shape) -> Tensor:
    q, k, v, lead = vectors(s)
    g = random(*lead, dtype=torch.float32)
    return decayed_products(q, k, v, g, keep=False)[0]


def gated_delta_rule(s: Shape) -> Tensor:
    q, k, v, lead = vectors(s)
    g, b = random(*lead, dtype=torch.float32), random(*lead)
    return delta_products(q, k, k, v, g, b, -g.exp(), keep=False)[0]


def hgrn(s: Shape) -> Tensor:
    shape = (s.batch, s.time, s.heads * s.V)
    a, b = (random(*shape, dtype=torch.float32) for _ in range(2))
    return scan(a, b, torch.zeros(s.batch, shape[2]))


OPERATIONS: Mapping[str, Callable[[Shape], Tensor]] = {
    "gla": gla,
    "simple_gla": simple_gla,
    "gated_delta_rule": gated_delta_rule,
    "hgrn": hgrn,
}


def peers() -> Mapping[str, Callable[[Shape], Tensor]]:
    """The same operations of flash-linear-attention; none where it is not installed."""
    try:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule
        from fla.ops.gla import chunk_gla
        from fla.ops.hgrn import chunk_hgrn
        from fla.ops.simple_gla import chunk_simple_gla
    except ImportError:
        return {}

    def scalar(s: Shape, op: Any, *more: Tensor) -> Tensor:
        q, k, v, lead = vectors(s)
        return op(q, k, v, *more, g=random(*lead, dtype=torch.float32))[0]

    def channel(s: Shape) -> Tensor:
        q, k, v, lead = vectors(s)
        return chunk_gla(q, k, v, random(*lead, s.K))[0]

    def delta(s: Shape) -> Tensor:
        q, k, v, lead = vectors(s)
        g, b = random(*lead, dtype=torch.float32), random(*lead)
        return chunk_gated_delta_rule(q, k, v, g=g, beta=b)[0]

    def diagonal(s: Shape) -> Tensor:
        shape = (s.batch, s.time, s.heads * s.V)
        return chunk_hgrn(*(random(*shape, dtype=torch.float32) for _ in range(2)))[0]

    return {
        "gla": channel,
        "simple_gla": lambda s: scalar(s, chunk_simple_gla),
        "gated_delta_rule": delta,
        "hgrn": diagonal,
    }


def counted(
    operation: Callable[[Shape], Tensor], shape: Shape, arch: str
) -> tuple[list[Launch], list[Launch]]:
    """Launches forward and backward."""
    with DryRun(arch) as run:
        out = operation(shape)
        forward = len(run.launches)
        out.float().sum().backward()
    return run.launches[:forward], run.launches[forward:]


def row(who: str, name: str, passes: tuple[list[Launch], ...], arch: str) -> str:
    """A line of the table."""
    cells = [f"{name:18s} {who:8s}"]
    for launches in passes:
        given = sum(x.given for x in launches)
        spilled = max(x.resources.spilled for x in launches)
        registers = max(x.resources.registers for x in launches)
        least = 1e6 * roofline(CHIPS[arch], given, 0)
        cells.append(
            f"{len(launches)} launches {given / MIB:7.1f} MiB {least:6.1f} us "
            f"{registers:3d} registers {spilled:5d} spilled"
        )
    return " | ".join(cells)


def main(arguments: list[str]) -> None:
    """Print the table for an architecture and, if named, some operations only."""
    arch = arguments[0] if arguments else "sm_90"
    others = peers()
    for name in arguments[1:] or OPERATIONS:
        for who, table in (("seqdsl", OPERATIONS), ("fla", others)):
            if name in table:
                found = counted(table[name], Shape(), arch)
                print(row(who, name, found, arch), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
