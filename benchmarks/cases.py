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
    carry and the output, `carry` is the shape of the state.
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


def cases(scale: int) -> list[Case]:
    """All rows; `scale` divides the lengths."""
    size, time = 64 * 64 * 4, 2048 // scale
    qkv = (("unit", _KV), ("unit", _KV), ("any", _KV))
    state = ((4, 64, 64),)
    return [
        Case(
            "minGRU",
            "layer Row(H):\n    input x: [H]\n    input y: [H]\n    state h: [H] = 0\n"
            "    z = sigmoid(x)\n    c = where(y >= 0, y + 0.5, sigmoid(y))\n"
            "    h = (1 - z) * h[t-1] + z * c\n    output h\n",
            {"H": 512},
            (("any", (512,)), ("any", (512,))),
            8,
            4096 // scale,
            4 * 512,
            ((512,),),
            scans.mingru,
        ),
        Case(
            "linear attention",
            _matrix(_QKV, "S = S[t-1] + k * v"),
            _HEADS,
            qkv,
            2,
            time,
            4 * size,
            state,
            scans.linear,
        ),
        Case(
            "delta rule",
            _matrix(
                f"{_QKV}; b: [heads]", "S = S[t-1] + b * k * (v - dot[K](k, S[t-1]))"
            ),
            _HEADS,
            (*qkv, ("gate", (4,))),
            2,
            time,
            6 * size,
            state,
            scans.plain_delta,
        ),
        Case(
            "gated linear attention",
            _matrix(f"{_QKV}; a: [heads, K]", "S = a * S[t-1] + k * v"),
            _HEADS,
            (*qkv, ("gate", _KV)),
            2,
            time,
            5 * size,
            state,
            scans.gla,
        ),
        Case(
            "gated delta rule",
            _matrix(
                f"{_QKV}; a: [heads]; b: [heads]",
                "S = a * S[t-1] + b * k * (v - dot[K](k, a * S[t-1]))",
            ),
            _HEADS,
            (*qkv, ("gate", (4,)), ("gate", (4,))),
            2,
            time,
            7 * size,
            state,
            scans.delta,
        ),
        Case(
            "RWKV-7",
            _matrix(
                f"{_QKV}; w: [heads, K]; a: [heads, K]; b: [heads, K]",
                "S = w * S[t-1] + b * dot[K](a, S[t-1]) + k * v",
            ),
            _HEADS,
            (*qkv, ("gate", _KV), ("unit", _KV), ("unit", _KV)),
            2,
            time,
            9 * size,
            state,
            scans.rwkv7,
        ),
        Case(
            "mLSTM",
            "import std.mlstm: MLSTMCell\nlayer Row(heads, K, V):\n    input q: [heads, K]\n"
            "    input k: [heads, K]\n    input v: [heads, V]\n    input i: [heads]\n"
            "    input f: [heads]\n    output MLSTMCell(q, k, v, i, f)\n",
            _HEADS,
            (*qkv, ("any", (4,)), ("any", (4,))),
            2,
            time,
            5 * size,
            ((4, 64, 64), (4, 64), (4,)),
            scans.mlstm,
        ),
        Case(
            "log-sum-exp (Aaren)",
            "layer Row(heads, K):\n    input s: [heads]\n    input v: [heads, K]\n"
            "    state c: [heads] = -100\n    state o: [heads, K] = 0\n"
            "    c = logaddexp(c[t-1], s)\n"
            "    o = exp(c[t-1] - c) * o[t-1] + exp(s - c) * v\n    output o\n",
            {"heads": 4, "K": 64},
            (("any", (4,)), ("any", _KV)),
            8,
            time,
            4 * 4 * 64,
            ((4,), (4, 64)),
            scans.aaren,
        ),
        Case(
            "HMM forward (64 states)",
            "layer Row(N):\n    input e: [N]\n    dim M = N\n"
            "    param A: [M, N] = 0\n    state a: [N] = 1\n"
            "    p = dot[M](a[t-1].(N -> M), A) * e\n    a = p / sum[N](p)\n"
            "    output log(a)\n",
            {"N": 64},
            (("gate", (64,)),),
            8,
            time,
            2 * 64 * 64,
            ((64,),),
            scans.hmm,
        ),
        Case(
            "Viterbi (64 states)",
            "layer Row(N):\n    input e: [N]\n    dim M = N\n"
            "    param A: [M, N] = 0\n    state a: [N] = 0\n"
            "    a = max[M](a[t-1].(N -> M) + A) + e\n    output a\n",
            {"N": 64},
            (("gate", (64,)),),
            8,
            time,
            2 * 64 * 64,
            ((64,),),
            scans.viterbi,
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
