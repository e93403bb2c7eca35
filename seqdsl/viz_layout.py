"""Where the boxes of a picture stand and which way its lines go.

Columns follow the flow within a step. A line that passes a column has a lane of its own
there, so that it runs behind no box; reads of other steps go around above all boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 150, 44, 70, 30, 30
LANE = 16
"""Height of the place of a line between boxes, and above them."""
_SWEEPS = 4


@dataclass(frozen=True)
class Box:
    """A value to draw."""

    name: str
    kind: str
    note: str
    color: str


@dataclass(frozen=True)
class Flow:
    """`target` reads `source`, at another step where `shift` is not empty."""

    source: str
    target: str
    shift: str = ""


Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Left upper corners of boxes, points of lines, and the size of it all."""

    places: dict[str, Point]
    ways: dict[Flow, tuple[Point, ...]]
    right: float
    bottom: float


def lay_out(boxes: Sequence[Box], flows: Sequence[Flow], width: int) -> Layout:
    """Places for boxes of one width, and ways for all flows."""
    columns = _columns([b.name for b in boxes], flows)
    shifted = [f for f in flows if f.shift]
    top = 2.2 * MARGIN + LANE * len(shifted)
    chains = {f: _chain(f, columns) for f in flows if not f.shift}
    rows = _rows([b.name for b in boxes], columns, chains)
    heights = _heights(rows, top)
    places = {b.name: (_left(columns[b.name], width), heights[b.name]) for b in boxes}
    ways = {f: _way(f, c, columns, heights, width) for f, c in chains.items()}
    for i, flow in enumerate(shifted):
        lane = top - LANE * (i + 1)
        ways[flow] = _around(flow, places, columns, width, lane)
    right = max(x for x, _ in places.values()) + width + MARGIN
    bottom = max(heights.values()) + HEIGHT + 2 * MARGIN
    return Layout(places, ways, right + GAP_X / 2, bottom)


def _left(column: int, width: int) -> float:
    return MARGIN + GAP_X / 2 + column * (width + GAP_X)


# ---- Columns


def _columns(names: Sequence[str], flows: Iterable[Flow]) -> dict[str, int]:
    """The longest way from an input, over reads of the same step."""
    before: dict[str, list[str]] = {name: [] for name in names}
    for flow in flows:
        if not flow.shift and flow.source != flow.target:
            before[flow.target].append(flow.source)
    columns = dict.fromkeys(names, 0)
    for _ in names:
        # at most as many rounds as names, so that a circle through steps ends too
        grown = {n: max((columns[s] + 1 for s in before[n]), default=0) for n in names}
        if grown == columns:
            break
        columns = {n: min(c, len(names)) for n, c in grown.items()}
    used = {c: i for i, c in enumerate(sorted(set(columns.values())))}
    return {n: used[c] for n, c in columns.items()}


def _chain(flow: Flow, columns: dict[str, int]) -> tuple[str, ...]:
    """Names of the lanes that a line needs in the columns it passes.

    Lines from one box share their lanes.
    """
    first, last = columns[flow.source], columns[flow.target]
    return tuple(f"{flow.source}\n{c}" for c in range(first + 1, last))


# ---- Rows


def _rows(
    names: Sequence[str],
    columns: dict[str, int],
    chains: dict[Flow, tuple[str, ...]],
) -> list[list[str]]:
    """What stands in every column from top to bottom: boxes and lanes."""
    rows: list[list[str]] = [[] for _ in range(max(columns.values()) + 1)]
    for name in names:
        rows[columns[name]].append(name)
    links: dict[str, set[str]] = {}
    for flow, chain in chains.items():
        way = (flow.source, *chain, flow.target)
        for lane in chain:
            here = rows[int(lane.rpartition("\n")[2])]
            if lane not in here:
                here.append(lane)
        for a, b in pairwise(way):
            links.setdefault(a, set()).add(b)
            links.setdefault(b, set()).add(a)
    for sweep in range(_SWEEPS):
        order = rows[1:] if sweep % 2 == 0 else rows[-2::-1]
        for here in order:
            _sort(here, rows, links)
    return rows


def _sort(
    here: list[str], rows: Sequence[Sequence[str]], links: dict[str, set[str]]
) -> None:
    """Everything near the middle of what it is linked with."""
    at = {
        n: i / max(1, len(r) - 1) if len(r) > 1 else 0.0
        for r in rows
        for i, n in enumerate(r)
    }
    own = set(here)

    def middle(name: str) -> float:
        others = [at[n] for n in links.get(name, ()) if n not in own]
        return sum(others) / len(others) if others else at[name]

    here.sort(key=middle)


def _heights(rows: Iterable[Sequence[str]], top: float) -> dict[str, float]:
    """Upper edges; a lane is lower than a box."""
    heights: dict[str, float] = {}
    for column in rows:
        y = top
        for name in column:
            heights[name] = y
            y += LANE + GAP_Y / 2 if "\n" in name else HEIGHT + GAP_Y
    return heights


# ---- Ways


def _way(
    flow: Flow,
    chain: Iterable[str],
    columns: dict[str, int],
    heights: dict[str, float],
    width: int,
) -> tuple[Point, ...]:
    """From the right side of the source through its lanes to the target's left."""
    points = [_side(flow.source, columns, heights, width, right=True)]
    for lane in chain:
        x = _left(int(lane.rpartition("\n")[2]), width)
        y = heights[lane] + LANE / 2
        points += [(x, y), (x + width, y)]
    points.append(_side(flow.target, columns, heights, width, right=False))
    return tuple(points)


def _side(
    name: str,
    columns: dict[str, int],
    heights: dict[str, float],
    width: int,
    right: bool,
) -> Point:
    x = _left(columns[name], width) + (width if right else 0)
    return x, heights[name] + HEIGHT / 2


def _around(
    flow: Flow,
    places: dict[str, Point],
    columns: dict[str, int],
    width: int,
    lane: float,
) -> tuple[Point, ...]:
    """Up beside the source, along above all boxes, down beside the target."""
    (x1, y1), (x2, y2) = places[flow.source], places[flow.target]
    out = x1 + width + GAP_X * 0.25 + (lane / LANE % 3) * 4
    into = x2 - GAP_X * 0.3 - (lane / LANE % 3) * 4
    start, end = (x1 + width, y1 + HEIGHT * 0.25), (x2, y2 + HEIGHT * 0.25)
    return (start, (out, start[1]), (out, lane), (into, lane), (into, end[1]), end)
