"""Operations that GPU benchmarks compare: ours, their meaning, and published kernels."""

# pyright: reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

import seqdsl
from benchmarks.gpu_meanings import (
    delta_chunks,
    delta_loop,
    dplr_chunks,
    dplr_loop,
    momentum_chunks,
    momentum_loop,
    outer_chunks,
    outer_loop,
    pairs_loop,
    scan_loop,
)
from seqdsl.backends.triton.launch.delta import delta_products
from seqdsl.backends.triton.launch.outer import decayed_products
from seqdsl.backends.triton.launch.scan import scan

Run = Callable[..., Tensor]


@dataclass(frozen=True)
class Shape:
    """Extents of an operation, and where it runs; scans are in float32."""

    batch: int = 1
    time: int = 4096
    heads: int = 8
    K: int = 128
    V: int = 128
    dtype: torch.dtype = torch.bfloat16
    device: str = "cpu"

    @property
    def lead(self) -> tuple[int, int, int]:
        """Batch, time and heads."""
        return self.batch, self.time, self.heads

    def vector(self, extent: int, unit: bool = False) -> Tensor:
        """A vector for every step and head, of length 1 for `unit`."""
        x = torch.randn(*self.lead, extent, device=self.device)
        x = torch.nn.functional.normalize(x, dim=-1) if unit else x
        return x.to(self.dtype).requires_grad_()

    def logs(self, *extents: int, dtype: torch.dtype | None = None) -> Tensor:
        """Logarithms of decays."""
        x = torch.rand(*self.lead, *extents, device=self.device) * -0.2
        return x.to(dtype or self.dtype).requires_grad_()


@dataclass(frozen=True)
class Operation:
    """`inputs` for a shape; `ours`, the `loop` that it means, torch's chunks, `peers`.

    Of what is `mixed` a part runs in torch, which a dry run would compute and not count.
    """

    inputs: Callable[[Shape], tuple[Tensor, ...]]
    ours: Run
    loop: Run
    chunks: Run | None = None
    peers: Callable[[], Mapping[str, Run]] = field(default=dict[str, Run])
    mixed: bool = False


# ---- Ours


def ours_outer(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
    """Our kernels for decayed outer products."""
    return decayed_products(q, k, v, g, keep=False)[0]


def ours_delta(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """Our kernels for the gated delta rule."""
    return delta_products(q, k, k, v, g, b, -g.exp(), keep=False)[0]


def ours_dplr(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, g: Tensor
) -> Tensor:
    """Our kernels for diagonal plus low rank."""
    return delta_products(q, b, a, None, g, k=k, v=v, keep=False)[0]


def ours_pairs(q: Tensor, l: Tensor, r: Tensor, y: Tensor, g: Tensor) -> Tensor:
    """Our kernels for two erasing writes in a step, each a row along time."""
    first = torch.arange(g.shape[1], device=g.device) % 2 == 0
    g = torch.where(first[:, None], g, 0)
    return delta_products(q, l, r, y, g, keep=False, group=2)[0]


def ours_scan(a: Tensor, b: Tensor) -> Tensor:
    """Our kernels for scans."""
    return scan(a, b, torch.zeros_like(b[:, 0]))


MOMENTUM = """
layer Momentum(heads, K, V):
    input q: [heads, K]
    input k: [heads, K]
    input v: [heads, V]
    input a: [heads]
    input m: [heads]
    input b: [heads]
    state P: [heads, K, V] = 0
    state S: [heads, K, V] = 0
    P = m * P[t-1] + b * k * (v - dot[K](k, S[t-1]))
    S = a * S[t-1] + P
    output dot[K](q, S)
"""


@cache
def momentum_layer(heads: int, K: int, V: int) -> Any:
    """A layer of coupled states; kernels run wherever its tensors are."""
    layer: Any = seqdsl.loads(MOMENTUM).Momentum
    made = layer(heads=heads, K=K, V=V, target="triton")
    vars(sys.modules[type(made).__module__])["EVERYWHERE"] = True
    return made


def ours_momentum(q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
    """Our kernel from chunk to chunk, the rest of a chunk in torch."""
    layer = momentum_layer(q.shape[2], q.shape[3], v.shape[3])
    return layer(q, k, v, *gates)


# ---- Published kernels


def gla_peers() -> Mapping[str, Run]:
    """Of gated linear attention."""
    try:
        from fla.ops.gla import chunk_gla
    except ImportError:
        return {}
    return {"fla": lambda q, k, v, g: cast(Any, chunk_gla)(q, k, v, g, scale=1.0)[0]}


def simple_gla_peers() -> Mapping[str, Run]:
    """Of one decay for a head: flash-linear-attention, and Mamba-2's kernels."""
    found: dict[str, Run] = {}
    try:
        from fla.ops.simple_gla import chunk_simple_gla

        found["fla"] = lambda q, k, v, g: cast(Any, chunk_simple_gla)(
            q, k, v, g=g, scale=1.0
        )[0]
    except ImportError:
        pass
    try:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

        def mamba(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
            dt, rate = -g, -torch.ones(g.shape[2], device=g.device)
            scaled = (v / dt[..., None]).to(v.dtype)
            return mamba_chunk_scan_combined(scaled, dt, rate, k, q, chunk_size=128)

        found["mamba-ssm"] = mamba
    except ImportError:
        pass
    return found


def delta_peers() -> Mapping[str, Run]:
    """Of the gated delta rule."""
    try:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule
    except ImportError:
        return {}

    def run(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
        return cast(Any, chunk_gated_delta_rule)(q, k, v, g=g, beta=b, scale=1.0)[0]

    return {"fla": run}


def dplr_peers() -> Mapping[str, Run]:
    """Of diagonal plus low rank."""
    try:
        from fla.ops.generalized_delta_rule import chunk_dplr_delta_rule
    except ImportError:
        return {}
    return {"fla": lambda *x: cast(Any, chunk_dplr_delta_rule)(*x, scale=1.0)[0]}


def scan_peers() -> Mapping[str, Run]:
    """Of scans entry by entry."""
    try:
        from fla.ops.hgrn import chunk_hgrn
    except ImportError:
        return {}
    return {"fla": lambda a, b: cast(Any, chunk_hgrn)(b, a.log())[0]}


# ---- The table


def _scanned(s: Shape) -> tuple[Tensor, ...]:
    shape = (s.batch, s.time, s.heads * s.V)
    a, b = (torch.rand(*shape, device=s.device).requires_grad_() for _ in range(2))
    return a, b


def _vectors(s: Shape, unit: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    return s.vector(s.K, unit), s.vector(s.K, unit), s.vector(s.V)


def _dplr(s: Shape) -> tuple[Tensor, ...]:
    """Half of what is found along a unit vector is erased."""
    a = s.vector(s.K, unit=True)
    b = (-0.5 * a.detach()).requires_grad_()
    return *_vectors(s, unit=True), a, b, s.logs(s.K)


def _delta(s: Shape) -> tuple[Tensor, ...]:
    b = torch.rand(*s.lead, device=s.device).to(s.dtype).requires_grad_()
    return *_vectors(s, unit=True), s.logs(dtype=torch.float32), b


def _pairs(s: Shape) -> tuple[Tensor, ...]:
    """What two writes of a step erase does not add up to more than all."""
    q, l, y = _vectors(s, unit=True)
    r = (-0.4 * l.detach()).requires_grad_()
    return q, l, r, y, s.logs(dtype=torch.float32)


def _momentum(s: Shape) -> tuple[Tensor, ...]:
    gates = [torch.rand(*s.lead, device=s.device) for _ in range(3)]
    gates = [0.9 + 0.1 * gates[0], 0.9 * gates[1], 0.1 * gates[2]]
    given = (x.to(s.dtype).requires_grad_() for x in gates)
    return *_vectors(s, unit=True), *given


OPERATIONS: Mapping[str, Operation] = {
    "gla": Operation(
        lambda s: (*_vectors(s), s.logs(s.K)),
        ours_outer,
        outer_loop,
        outer_chunks,
        gla_peers,
    ),
    "simple_gla": Operation(
        lambda s: (*_vectors(s), s.logs(dtype=torch.float32)),
        ours_outer,
        outer_loop,
        outer_chunks,
        simple_gla_peers,
    ),
    "gated_delta_rule": Operation(
        _delta, ours_delta, delta_loop, delta_chunks, delta_peers
    ),
    "two_erases": Operation(_pairs, ours_pairs, pairs_loop),
    "dplr": Operation(_dplr, ours_dplr, dplr_loop, dplr_chunks, dplr_peers),
    "momentum": Operation(
        _momentum, ours_momentum, momentum_loop, momentum_chunks, mixed=True
    ),
    "hgrn": Operation(_scanned, ours_scan, scan_loop, None, scan_peers),
}
