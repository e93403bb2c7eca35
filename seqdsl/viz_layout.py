"""Where the boxes of a picture stand and which way its lines go.

Columns follow the flow within a step. A line that passes a column has a lane of its own
there, so that it runs behind no box; reads of other steps go around above all boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 150, 44, 70, 30, 30
LANE = 16
"""Height of the place of a line between boxes, and above them."""
PAD = 12
"""Between a frame and what it holds."""
_SWEEPS = 4


@dataclass(frozen=True)
class Box:
    """A value to draw, in the frame of the repeat `frame` if it stands in one."""

    name: str
    kind: str
    note: str
    color: str
    frame: str = ""


@dataclass(frozen=True)
class Flow:
    """`target` reads `source`, at another step where `shift` is not empty."""

    source: str
    target: str
    shift: str = ""


Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Left upper corners of boxes, points of lines, and the size of it all.

    `frames` are the left upper and right lower corners of those around repeats.
    """

    places: dict[str, Point]
    ways: dict[Flow, tuple[Point, ...]]
    frames: dict[str, tuple[Point, Point]]
    right: float
    bottom: float


def lay_out(boxes: Sequence[Box], flows: Sequence[Flow], width: int) -> Layout:
    """Places for boxes of one width, and ways for all flows."""
    columns = _columns([b.name for b in boxes], flows)
    shifted = [f for f in flows if f.shift]
    top = 2.2 * MARGIN + LANE * len(shifted)
    chains = {f: _chain(f, columns) for f in flows if not f.shift}
    rows = _rows([b.name for b in boxes], columns, chains)
    framed = _framed(boxes, rows, columns)
    heights = _heights(rows, top, framed)
    places = {b.name: (_left(columns[b.name], width), heights[b.name]) for b in boxes}
    ways = {f: _way(f, c, columns, heights, width) for f, c in chains.items()}
    for i, flow in enumerate(shifted):
        lane = top - LANE * (i + 1)
        ways[flow] = _around(flow, places, columns, width, lane)
    right = max(x for x, _ in places.values()) + width + MARGIN
    bottom = max(heights.values()) + HEIGHT + 2 * MARGIN
    frames = _frames(framed, columns, heights, width)
    return Layout(places, ways, frames, right + GAP_X / 2, bottom)


def _framed(
    boxes: Sequence[Box], rows: Iterable[Sequence[str]], columns: dict[str, int]
) -> dict[str, str]:
    """The frames that boxes are in, and lanes between the boxes of one."""
    found = {b.name: b.frame for b in boxes if b.frame}
    last = {f: max(columns[n] for n in found if found[n] == f) for f in found.values()}
    for column, names in enumerate(rows):
        for lane in names:
            frame = found.get(lane.partition("\n")[0])
            if "\n" in lane and frame is not None and column < last[frame]:
                found[lane] = frame
    return found


def _frames(
    framed: dict[str, str],
    columns: dict[str, int],
    heights: dict[str, float],
    width: int,
) -> dict[str, tuple[Point, Point]]:
    edges: dict[str, list[tuple[float, float, float]]] = {}
    for name, frame in framed.items():
        lane = name.rpartition("\n")[2]
        x = _left(int(lane) if "\n" in name else columns[name], width)
        tall = LANE if "\n" in name else HEIGHT
        edges.setdefault(frame, []).append((x, heights[name], heights[name] + tall))
    return {
        frame: (
            (min(x for x, _, _ in at) - PAD, min(y for _, y, _ in at) - PAD),
            (max(x for x, _, _ in at) + width + PAD, max(y for *_, y in at) + PAD),
        )
        for frame, at in edges.items()
    }


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


def _heights(
    rows: Sequence[Sequence[str]], top: float, framed: Mapping[str, str]
) -> dict[str, float]:
    """Upper edges; a lane is lower than a box.

    What stands in no frame is below all frames, in the columns where there are any.
    """
    heights: dict[str, float] = {}
    start = top
    for frame in dict.fromkeys(framed.values()):
        end = start
        for column in rows:
            own = [n for n in column if framed.get(n) == frame]
            end = max(end, _stacked(own, start, heights))
        start = end + PAD if end > start else start
    covered = [i for i, column in enumerate(rows) if any(n in framed for n in column)]
    for i, column in enumerate(rows):
        inside = bool(covered) and covered[0] <= i <= covered[-1]
        _stacked(
            [n for n in column if n not in heights], start if inside else top, heights
        )
    return heights


def _stacked(names: Iterable[str], y: float, heights: dict[str, float]) -> float:
    """Puts names below each other from `y` on; where the next one would stand."""
    for name in names:
        heights[name] = y
        y += LANE + GAP_Y / 2 if "\n" in name else HEIGHT + GAP_Y
    return y


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
