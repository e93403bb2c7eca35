"""Floating-point operations of a kernel, from its Triton IR.

An operation counts as often as the loops around it run: loops over the chunks of a segment
by the arguments of the launch, others by their bounds. Of the two sides of a branch each
counts half: kernels give some programs the one kind of work and some the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

_LOOP = re.compile(r"scf\.for .*? to %(\S+)")
_DOT = re.compile(r"tt\.dot .*: tensor<(\d+)x(\d+)x\w+> \* tensor<\d+x(\d+)x\w+>")
_NUMBER = re.compile(r"c(\d+)_i(?:32|64)$")
_PLAIN = re.compile(
    r"= (?:arith\.(?:addf|subf|mulf|divf|negf|maximumf|minimumf|maxnumf|minnumf)"
    r"|math\.\w+|tt\.(?:precise_\w+|extern_elementwise)) .*[:>] (?:tensor<([\dx]*)x)?(?:f32|bf16|f16)>?$"
)
_GATHERED = re.compile(r"\}\) : \((?:tensor<([\dx]+)x(?:f32|bf16|f16)>)")


class Work(NamedTuple):
    """Operations of matrix products, and all others."""

    products: float
    others: float


def flops(text: str, named: Mapping[str, Any]) -> Work:
    """Operations of one program, whose arguments are `named`."""
    products = others = 0.0
    blocks = [Block(1.0, False)]
    for line in text.splitlines():
        code = line.split(" loc(")[0].strip()
        if code.startswith("}") and len(blocks) > 1:
            blocks.pop()
        times = blocks[-1].times
        if found := _DOT.search(code):
            products += times * 2 * prod(map(int, found.groups()))
        elif found := _PLAIN.search(code) or _GATHERED.search(code):
            others += times * prod(map(int, (found[1] or "1").split("x")))
        if code.endswith("{"):
            blocks.append(_inside(blocks[-1], code, named))
    return Work(products, others)


class Block(NamedTuple):
    """How often a block runs, and whether it stands in a loop."""

    times: float
    looped: bool


def _inside(around: Block, code: str, named: Mapping[str, Any]) -> Block:
    """The block that `code` begins."""
    if "scf.if" in code or code.startswith("} else"):
        return Block(around.times / 2, around.looped)
    if code.endswith("({"):  # of a reduction or a scan, which counts where it ends
        return Block(0.0, around.looped)
    found = _LOOP.search(code)
    if found is None:
        return around
    number = _NUMBER.search(found[1])
    if number is not None:
        return Block(around.times * float(number[1]), True)
    if isinstance(named.get(found[1]), int):
        return Block(around.times * named[found[1]], True)
    return Block(around.times * (1.0 if around.looped else _steps(named)), True)


def _steps(named: Mapping[str, Any]) -> float:
    """How many chunks a program goes through, on average; else how many segments."""
    segments = int(named.get("segments") or 1)
    if "C" in named and "T" in named:
        return -(-int(named["T"]) // int(named["C"])) / segments
    return float(max(1, segments - 1))
