"""Recurrences and sizes over which `auto` is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A form: its spec, its inputs by kind and dims, and the sizes to try."""

    name: str
    text: str
    sizes: tuple[Mapping[str, int], ...]


OTHERS: Mapping[str, tuple[int, ...]] = {"matrix": (3, 12, 24), "rotations": (20, 300)}
CHANNELS = (24, 200, 900)
"""Sizes of the grid that is held out, by kind; of all others with channels."""


def held_out(kind: Kind) -> tuple[Mapping[str, int], ...]:
    """Sizes that the cost model was not fitted to."""
    if "H" in kind.sizes[0]:
        return {"H": 2, "K": 24, "V": 40}, {"H": 8, "K": 48, "V": 32}
    return tuple({"D": d} for d in OTHERS.get(kind.name, CHANNELS))


def _layer(options: str, *lines: str) -> str:
    return f"layer Row({options}):\n" + "".join(f"    {line}\n" for line in lines)


_CHANNELS = ({"D": 8}, {"D": 64}, {"D": 512})
_HEADS = (
    {"H": 1, "K": 16, "V": 16},
    {"H": 4, "K": 32, "V": 32},
    {"H": 4, "K": 64, "V": 64},
)
_QKV = ("input q: [H, K]", "input k: [H, K]", "input v: [H, V]", "input a: [H]")
_STATE = "state S: [H, K, V] = 0"

KINDS = (
    Kind(
        "diagonal",
        _layer(
            "D", "input a: [D]", "input x: [D]", "state h: [D] = 0",
            "h = a * h[t-1] + x", "output h",
        ),
        _CHANNELS,
    ),
    Kind(
        "invariant",
        _layer(
            "D", "input x: [D]", "param w: [D] = 0.9", "state h: [D] = 0",
            "h = w * h[t-1] + x", "output h",
        ),
        _CHANNELS,
    ),
    Kind(
        "matrix",
        _layer(
            "D", "input a: [D, D as J]", "input x: [D]", "state h: [D] = 0",
            "h = dot[J](a, h[t-1].(D -> J)) + x", "output h",
        ),
        ({"D": 2}, {"D": 4}, {"D": 8}, {"D": 16}, {"D": 32}),
    ),
    Kind(
        "rotations",
        _layer(
            "D", "input a: [D, 2, 2 as J]", "input x: [D, 2]",
            "state h: [D, 2] = 0", "h = dot[J](a, h[t-1].(2 -> J)) + x", "output h",
        ),
        ({"D": 8}, {"D": 128}),
    ),
    Kind(
        "maximum",
        _layer(
            "D", "input a: [D]", "input x: [D]", "state h: [D] = 0",
            "h = max(h[t-1] - a, x)", "output h",
        ),
        _CHANNELS,
    ),
    Kind(
        "log-sum-exp",
        _layer(
            "D", "input a: [D]", "input x: [D]", "state h: [D] = 0",
            "h = logaddexp(h[t-1] - a, x)", "output h",
        ),
        _CHANNELS,
    ),
    Kind(
        "clamp",
        _layer(
            "D", "input a: [D]", "input x: [D]", "state h: [D] = 0",
            "h = min(max(h[t-1] + x, -a), a)", "output h",
        ),
        _CHANNELS,
    ),
    Kind(
        "linear attention",
        _layer(
            "H, K, V", *_QKV, _STATE, "S = a * S[t-1] + k * v", "output dot[K](q, S)"
        ),
        _HEADS,
    ),
    Kind(
        "delta rule",
        _layer(
            "H, K, V", *_QKV, _STATE,
            "S = a * S[t-1] + k * (v - dot[K](k, a * S[t-1]))", "output dot[K](q, S)",
        ),
        _HEADS,
    ),
)  # fmt: skip
