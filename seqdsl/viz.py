"""A picture of a layer: values as boxes, their flow from left to right, states in color.

The drawing is plain SVG. Columns follow the flow within one step; a dashed line is a
read of another step, labelled with the shift.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape

from seqdsl.analysis.verdict import Kind, Verdict, one_line
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, Type
from seqdsl.ir.walk import children

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 150, 44, 70, 30, 30
CHAR = 7.3
"""Width of a letter at the size used, which has fixed-width letters."""

COLORS: Mapping[Kind, str] = {
    "none": "#eeeeee",
    "fir": "#cfe3f7",
    "scannable": "#cdebcf",
    "sequential": "#fbdcb8",
    "opaque": "#d9d2e9",
}
KINDS = {
    "input": "#ffffff",
    "param": "#f4f1e4",
    "value": "#eeeeee",
    "output": "#ffffff",
}


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


def svg(model: ir.Model, verdicts: tuple[Verdict, ...]) -> str:
    """`model` as an SVG document."""
    boxes = list(_boxes(model, verdicts))
    names = {box.name for box in boxes}
    flows = list(dict.fromkeys(_flows(model, names)))
    columns = _columns([b.name for b in boxes], flows)
    width = max(WIDTH, *(int(CHAR * _letters(b)) + 20 for b in boxes))
    places = _places(boxes, columns, flows, width)
    return "\n".join(_document(model, boxes, flows, places, width, verdicts)) + "\n"


# ---- What there is to draw


def _boxes(model: ir.Model, verdicts: tuple[Verdict, ...]) -> Iterator[Box]:
    color = {
        name: COLORS[v.verdict]
        for v in verdicts
        if not v.recurrence.layer
        for name in v.recurrence.members
    }
    for i in model.inputs:
        yield Box(i.name, "input", _note(i.type), KINDS["input"])
    for p in model.params:
        if "." not in p.name:
            yield Box(p.name, "param", _note(p.type), KINDS["param"])
    for c in model.calls:
        layer = model.instance[c.instance].model.name
        yield Box(c.name, "layer", layer, KINDS["value"])
    for e in model.equations:
        if e.written:
            kind = "state" if e.name in model.state else "value"
            yield Box(e.name, kind, _note(e.expr.type), color.get(e.name, "#eeeeee"))
    for o in model.outputs:
        yield Box(f"output {o.name}", "output", _note(o.expr.type), KINDS["output"])


def _note(type_: Type) -> str:
    axes = [a for a in sorted(type_.axes) if a != BATCH]
    return f"{type_} {' '.join(axes)}".strip()


def _letters(box: Box) -> int:
    return max(len(box.name), len(box.note))


def _flows(model: ir.Model, names: set[str]) -> Iterator[Flow]:
    for c in model.calls:
        for _, node in c.args:
            yield from _reads(model, names, node, c.name)
    for e in model.equations:
        if e.written:
            yield from _reads(model, names, e.expr, e.name)
    for s in model.states:
        if s.name in names:
            yield from _reads(model, names, s.initial, s.name)
    for o in model.outputs:
        yield from _reads(model, names, o.expr, f"output {o.name}")


def _reads(
    model: ir.Model, names: set[str], node: ir.Node, target: str, shift: str = ""
) -> Iterator[Flow]:
    """What `node` reads; equations that the writer did not write are looked through."""
    stack = [(node, shift)]
    seen: set[tuple[str, str]] = set()
    while stack:
        current, shift = stack.pop()
        name = None
        match current:
            case ir.Ref(name=name):
                pass
            case ir.Result(call=name):
                pass
            case ir.Shift(axis=axis, offset=offset):
                shift = f"{axis}{offset:+d}"
            case ir.Copy(copy=copy):
                shift = copy
            case _:
                pass
        if name is None:
            stack.extend((child, shift) for child in children(current))
        elif name in names:
            yield Flow(name, target, shift)
        elif name in model.equation and (name, shift) not in seen:
            seen.add((name, shift))
            stack.append((model.equation[name].expr, shift))


# ---- Where it goes


def _columns(names: list[str], flows: list[Flow]) -> dict[str, int]:
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


Place = tuple[float, float]


def _places(
    boxes: list[Box], columns: dict[str, int], flows: list[Flow], width: int
) -> dict[str, Place]:
    """Left upper corners; within a column boxes stand near what they read."""
    row: dict[str, float] = {}
    places: dict[str, Place] = {}
    for column in sorted(set(columns.values())):
        here = [b.name for b in boxes if columns[b.name] == column]
        wanted = {name: _mean_row(name, flows, row) for name in here}
        here.sort(key=lambda name: wanted[name])
        for i, name in enumerate(here):
            row[name] = float(i)
            x = MARGIN + column * (width + GAP_X)
            places[name] = (x, 2.2 * MARGIN + i * (HEIGHT + GAP_Y))
    return places


def _mean_row(name: str, flows: list[Flow], row: dict[str, float]) -> float:
    rows = [row[f.source] for f in flows if f.target == name and f.source in row]
    return sum(rows) / len(rows) if rows else 1e9


# ---- Ink


def _document(
    model: ir.Model,
    boxes: list[Box],
    flows: list[Flow],
    places: dict[str, Place],
    width: int,
    verdicts: tuple[Verdict, ...],
) -> Iterator[str]:
    notes = [one_line(v) for v in verdicts] or ["no recurrence: parallel"]
    letters = max(len(note) for note in notes) + 4
    right = max(x for x, _ in places.values()) + width + MARGIN
    bottom = max(y for _, y in places.values()) + HEIGHT + 2 * MARGIN
    total_x = max(right, CHAR * letters + 2 * MARGIN)
    total_y = bottom + 22 * len(notes) + MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total_x:.0f}" '
        f'height="{total_y:.0f}" font-family="monospace" font-size="12">'
    )
    yield '<rect width="100%" height="100%" fill="white"/>'
    yield '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4"'
    yield ' orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>'
    yield _text(MARGIN, MARGIN, f"layer {model.name}", 'font-weight="bold"')
    for flow in flows:
        yield from _arrow(flow, places, width)
    for box in boxes:
        yield from _box(box, places[box.name], width)
    yield from _legend(verdicts, notes, bottom)


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(text)}</text>'


def _box(box: Box, place: Place, width: int) -> Iterator[str]:
    x, y = place
    border = 2.5 if box.kind == "state" else 1
    corner = 14 if box.kind in ("input", "output") else 3
    yield (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width}" height="{HEIGHT}" '
        f'rx="{corner}" fill="{box.color}" stroke="#555" stroke-width="{border}"/>'
    )
    yield _text(x + 10, y + 18, box.name, 'font-weight="bold"')
    yield _text(x + 10, y + 35, box.note, 'fill="#555"')


def _arrow(flow: Flow, places: dict[str, Place], width: int) -> Iterator[str]:
    (x1, y1), (x2, y2) = places[flow.source], places[flow.target]
    style = 'fill="none" stroke="#555" marker-end="url(#tip)"'
    if not flow.shift:
        a, b = x1 + width, y1 + HEIGHT / 2
        c, d = x2, y2 + HEIGHT / 2
        bend = max(GAP_X / 2, (c - a) / 2)
        path = f"M{a:.0f},{b:.0f} C{a + bend:.0f},{b:.0f} {c - bend:.0f},{d:.0f}"
        yield f'<path d="{path} {c:.0f},{d:.0f}" {style}/>'
        return
    # another step: out of the top of the source and into the top of the target
    a, c = x1 + width * 0.75, x2 + width * 0.25
    top = min(y1, y2) - GAP_Y * 0.8
    path = f"M{a:.0f},{y1:.0f} C{a:.0f},{top:.0f} {c:.0f},{top:.0f} {c:.0f},{y2:.0f}"
    yield f'<path d="{path}" {style} stroke-dasharray="5 3"/>'
    yield _text((a + c) / 2 - 10, top + 2, f"[{flow.shift}]", 'fill="#a33"')


def _legend(
    verdicts: tuple[Verdict, ...], notes: Iterable[str], top: float
) -> Iterator[str]:
    colors = [COLORS[v.verdict] for v in verdicts] or [COLORS["none"]]
    for i, (color, note) in enumerate(zip(colors, notes, strict=True)):
        y = top + 22 * i
        yield (
            f'<rect x="{MARGIN}" y="{y:.0f}" width="12" height="12" '
            f'fill="{color}" stroke="#555"/>'
        )
        yield _text(MARGIN + 20, y + 11, note)
    yield "</svg>"
