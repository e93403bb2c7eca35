"""Recurrences as specs and as others write them, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import scans

Shape = tuple[int, ...]
Scan = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """One row: a spec, the dims of its inputs in order, and a step as JAX writes it.

    `flops` counts those of one step per sequence; `scan(carry, inputs)` returns the next
    carry and the output, `carry` is the shape of the state. `parallel(*inputs)` is all
    steps at once.
    """

    name: str
    text: str
    options: dict[str, int]
    inputs: tuple[tuple[str, Shape], ...]
    batch: int
    time: int
    flops: float
    carry: tuple[Shape, ...]
    scan: Scan | None = None
    parallel: Scan | None = None

    def tensors(self) -> list[Tensor]:
        """Inputs in ranges that keep states finite."""
        generator = torch.Generator().manual_seed(0)
        made: list[Tensor] = []
        for kind, shape in self.inputs:
            full = (self.batch, self.time, *shape)
            x = torch.randn(full, generator=generator)
            match kind:
                case "gate":
                    x = torch.sigmoid(x + 2)
                case "unit":
                    x = x / x.norm(dim=-1, keepdim=True)
                case _:
                    pass
            made.append(x)
        return made

    @property
    def numbers(self) -> int:
        """Entries read and written once: inputs and the output, for a vector state."""
        per_step = sum(_count(s) for _, s in self.inputs) + _count(self.inputs[-1][1])
        return self.batch * self.time * per_step


def _count(shape: Shape) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


_HEADS = {"heads": 4, "K": 64, "V": 64}
_KV = (4, 64)
_MATRIX = "\n    state S: [heads, K, V] = 0\n"


def _matrix(inputs: str, update: str) -> str:
    lines = "".join(f"    input {i}\n" for i in inputs.split("; "))
    body = f"layer Row(heads, K, V):\n{lines}{_MATRIX}"
    return f"{body}    {update}\n    output dot[K](q, S)\n"


_QKV = "q: [heads, K]; k: [heads, K]; v: [heads, V]"
_QKV_INPUTS = (("unit", _KV), ("unit", _KV), ("any", _KV))
_PER_HEAD, _PER_KEY, _UNIT = ("gate", (4,)), ("gate", _KV), ("unit", _KV)

_MATRICES: tuple[
    tuple[str, str, str, tuple[tuple[str, Shape], ...], int, Scan], ...
] = (
    ("linear attention", "", "S = S[t-1] + k * v", (), 4, scans.linear),
    (
        "delta rule",
        "; b: [heads]",
        "S = S[t-1] + b * k * (v - dot[K](k, S[t-1]))",
        (_PER_HEAD,),
        6,
        scans.plain_delta,
    ),
    (
        "gated linear attention",
        "; a: [heads, K]",
        "S = a * S[t-1] + k * v",
        (_PER_KEY,),
        5,
        scans.gla,
    ),
    (
        "gated delta rule",
        "; a: [heads]; b: [heads]",
        "S = a * S[t-1] + b * k * (v - dot[K](k, a * S[t-1]))",
        (_PER_HEAD, _PER_HEAD),
        7,
        scans.delta,
    ),
    (
        "RWKV-7",
        "; w: [heads, K]; a: [heads, K]; b: [heads, K]",
        "S = w * S[t-1] + b * dot[K](a, S[t-1]) + k * v",
        (_PER_KEY, _UNIT, _UNIT),
        9,
        scans.rwkv7,
    ),
)
"""Name, inputs beside q, k and v, update, their kinds, flops per entry, step in JAX."""

_MLSTM = """import std.mlstm: MLSTMCell
layer Row(heads, K, V):
    input q: [heads, K]
    input k: [heads, K]
    input v: [heads, V]
    input i: [heads]
    input f: [heads]
    output MLSTMCell(q, k, v, i, f)
"""

_MINGRU = """layer Row(H):
    input x: [H]
    input y: [H]
    state h: [H] = 0
    z = sigmoid(x)
    c = where(y >= 0, y + 0.5, sigmoid(y))
    h = (1 - z) * h[t-1] + z * c
    output h
"""

_AAREN = """layer Row(heads, K):
    input s: [heads]
    input v: [heads, K]
    state c: [heads] = -100
    state o: [heads, K] = 0
    c = logaddexp(c[t-1], s)
    o = exp(c[t-1] - c) * o[t-1] + exp(s - c) * v
    output o
"""

_HMM = """layer Row(N):
    input e: [N]
    dim M = N
    param A: [M, N] = 0
    state a: [N] = 1
    p = dot[M](a[t-1].(N -> M), A) * e
    a = p / sum[N](p)
    output log(a)
"""

_VITERBI = """layer Row(N):
    input e: [N]
    dim M = N
    param A: [M, N] = 0
    state a: [N] = 0
    a = max[M](a[t-1].(N -> M) + A) + e
    output a
"""


def cases(scale: int) -> list[Case]:
    """All rows; `scale` divides the lengths."""
    time = 2048 // scale
    pair = (("any", (512,)), ("any", (512,)))
    mingru = Case(
        "minGRU",
        _MINGRU,
        {"H": 512},
        pair,
        8,
        4096 // scale,
        4 * 512,
        ((512,),),
        scans.mingru,
        scans.mingru_parallel,
    )
    return [mingru, *_matrices(time), *_vectors(time)]


def _matrices(time: int) -> list[Case]:
    """States of 4 heads of 64 by 64."""
    size, state = 64 * 64 * 4, ((4, 64, 64),)
    rows = [
        Case(
            name,
            _matrix(f"{_QKV}{more}", update),
            _HEADS,
            (*_QKV_INPUTS, *kinds),
            2,
            time,
            flops * size,
            state,
            scan,
        )
        for name, more, update, kinds, flops, scan in _MATRICES
    ]
    gates = (("any", (4,)), ("any", (4,)))
    carry = ((4, 64, 64), (4, 64), (4,))
    inputs = (*_QKV_INPUTS, *gates)
    mlstm = Case("mLSTM", _MLSTM, _HEADS, inputs, 2, time, 5 * size, carry, scans.mlstm)
    return [*rows, mlstm]


def _vectors(time: int) -> list[Case]:
    """Other semirings, and products with a matrix of 64 states."""
    aaren = Case(
        "log-sum-exp (Aaren)",
        _AAREN,
        {"heads": 4, "K": 64},
        (("any", (4,)), ("any", _KV)),
        8,
        time,
        4 * 4 * 64,
        ((4,), (4, 64)),
        scans.aaren,
    )
    chains = (
        ("HMM forward (64 states)", _HMM, scans.hmm),
        ("Viterbi (64 states)", _VITERBI, scans.viterbi),
    )
    inputs, flops, carry = (("gate", (64,)),), 2 * 64 * 64, ((64,),)
    return [
        aaren,
        *(
            Case(name, text, {"N": 64}, inputs, 8, time, flops, carry, scan)
            for name, text, scan in chains
        ),
    ]


SLSTM = """layer Row(D, H):
    input x: [D]
    state h: [H] = 0
    state c: [H] = 0
    state n: [H] = 0
    state m: [H] = 0
    i = linear(x, H) + linear(h[t-1], H, bias = false)
    f = logsigmoid(linear(x, H) + linear(h[t-1], H, bias = false))
    m = max(f + m[t-1], i)
    c = exp(f + m[t-1] - m) * c[t-1] + exp(i - m) * tanh(linear(x, H) + linear(h[t-1], H))
    n = exp(f + m[t-1] - m) * n[t-1] + exp(i - m)
    h = sigmoid(linear(x, H) + linear(h[t-1], H)) * c / n
    output h
"""
"""An sLSTM whose recurrent weights are as large as an LSTM's."""
