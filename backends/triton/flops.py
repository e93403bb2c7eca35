"""Floating-point operations of the matrix products of a kernel, from its Triton IR.

A product counts as often as the loops around it run: loops over the chunks of a segment
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


def flops(text: str, named: Mapping[str, Any]) -> float:
    """Operations of one program, whose arguments are `named`."""
    total, blocks = 0.0, [Block(1.0, False)]
    for line in text.splitlines():
        code = line.split(" loc(")[0].strip()
        if code.startswith("}") and len(blocks) > 1:
            blocks.pop()
        if found := _DOT.search(code):
            total += blocks[-1].times * 2 * prod(map(int, found.groups()))
        if code.endswith("{"):
            blocks.append(_inside(blocks[-1], code, named))
    return total


class Block(NamedTuple):
    """How often a block runs, and whether it stands in a loop."""

    times: float
    looped: bool


def _inside(around: Block, code: str, named: Mapping[str, Any]) -> Block:
    """The block that `code` begins."""
    if "scf.if" in code or code.startswith("} else"):
        return Block(around.times / 2, around.looped)
    found = _LOOP.search(code)
    if found is None:
        return around
    number = _NUMBER.search(found[1])
    if number is not None:
        return Block(around.times * float(number[1]), True)
    return Block(around.times * (1.0 if around.looped else _steps(named)), True)


def _steps(named: Mapping[str, Any]) -> float:
    """How many chunks a program goes through, on average; else how many segments."""
    segments = int(named.get("segments") or 1)
    if "C" in named and "T" in named:
        return -(-int(named["T"]) // int(named["C"])) / segments
    return float(max(1, segments - 1))
