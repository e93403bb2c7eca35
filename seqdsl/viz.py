"""A picture of a layer: values as boxes, their flow from left to right, states in color.

The drawing is plain SVG. A dashed line is a read of another step, labelled with the
shift. What belongs to a recurrence has the color of its verdict, and so has a layer
that holds one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from itertools import pairwise

from seqdsl.analysis.graph import components, edges_of
from seqdsl.analysis.one_line import one_line
from seqdsl.analysis.verdict import Kind, Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.text import node_text
from seqdsl.ir.types import BATCH, Type
from seqdsl.ir.walk import children, references
from seqdsl.viz_layout import (
    GAP_X,
    HEIGHT,
    MARGIN,
    WIDTH,
    Box,
    Flow,
    Layout,
    Point,
    lay_out,
)

CHAR = 7.9
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


def svg(model: ir.Model, verdicts: tuple[Verdict, ...]) -> str:
    """`model` as an SVG document."""
    boxes = list(_boxes(model, verdicts))
    names = {box.name for box in boxes}
    flows = list(dict.fromkeys(_flows(model, names)))
    width = max([WIDTH, *(int(CHAR * _letters(b)) + 20 for b in boxes)])
    layout = lay_out(boxes, flows, width)
    return "\n".join(_document(model, boxes, layout, width, verdicts)) + "\n"


# ---- What there is to draw


def _boxes(model: ir.Model, verdicts: tuple[Verdict, ...]) -> Iterator[Box]:
    color = _colors(model, verdicts)
    for i in model.inputs:
        yield Box(i.name, "input", _note(i.type), KINDS["input"])
    for p in model.params:
        if "." not in p.name:
            frame = next((r.axis for r in model.repeats if r.axis in p.type.axes), "")
            yield Box(p.name, "param", _note(p.type), KINDS["param"], frame)
    for c in model.calls:
        layer = model.instance[c.instance].model.name
        inside = _inside(c.instance, verdicts)
        own = color.get(c.name, COLORS["none"])
        shown = own if inside == "none" else COLORS[inside]
        yield Box(c.name, "layer", layer, shown, _outermost(c.scope))
    for e in model.equations:
        if e.written:
            kind = "state" if e.name in model.state else "value"
            own = color.get(e.name, COLORS["none"])
            yield Box(e.name, kind, _note(e.expr.type), own, _outermost(e.scope))
    for o in model.outputs:
        yield Box(f"output {o.name}", "output", _note(o.expr.type), KINDS["output"])


def _colors(model: ir.Model, verdicts: Iterable[Verdict]) -> dict[str, str]:
    """Colors of what belongs to a recurrence, also by what the compiler put between."""
    own = [v for v in verdicts if not v.recurrence.layer]
    color = {n: COLORS[v.verdict] for v in own for n in v.recurrence.members}
    for members in components(edges_of(model)):
        known = [color[s] for v in own for s in v.recurrence.states if s in members]
        for name in members if known else ():
            color.setdefault(name, known[0])
    for equation in model.equations:
        hidden = [
            color[r.name]
            for r in references(equation.expr)
            if isinstance(r, ir.Ref)
            and r.name in color
            and r.name in model.equation
            and not model.equation[r.name].written
        ]
        if equation.written and hidden:
            color.setdefault(equation.name, hidden[0])
    return color


def _outermost(scope: tuple[str, ...]) -> str:
    return scope[0] if scope else ""


def _inside(instance: str, verdicts: Iterable[Verdict]) -> Kind:
    """The verdict inside a layer that matters most."""
    paths = [(f"{v.recurrence.layer}.", v.verdict) for v in verdicts]
    found = {kind for path, kind in paths if path.startswith(f"{instance}.")}
    order: tuple[Kind, ...] = ("opaque", "sequential", "scannable", "fir", "none")
    return next(kind for kind in order if kind in found or kind == "none")


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


# ---- Ink


def _document(
    model: ir.Model,
    boxes: list[Box],
    layout: Layout,
    width: int,
    verdicts: tuple[Verdict, ...],
) -> Iterator[str]:
    notes = [one_line(v) for v in verdicts] or ["no recurrence: parallel"]
    letters = max(len(note) for note in notes) + 4
    bottom = layout.bottom
    total_x = max(layout.right, CHAR * letters + 2 * MARGIN)
    total_y = bottom + 22 * len(notes) + MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total_x:.0f}" '
        f'height="{total_y:.0f}" font-family="monospace" font-size="12">'
    )
    yield '<rect width="100%" height="100%" fill="white"/>'
    yield '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4"'
    yield ' orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>'
    yield _text(MARGIN, MARGIN, f"layer {model.name}", 'font-weight="bold"')
    for repeat in model.repeats:
        if repeat.axis in layout.frames:
            yield from _frame(repeat, *layout.frames[repeat.axis])
    for flow, way in layout.ways.items():
        yield from _around(flow, way) if flow.shift else _arrow(way)
    for box in boxes:
        yield from _box(box, layout.places[box.name], width)
    yield from _legend(verdicts, notes, bottom)


def _frame(repeat: ir.Repeat, start: Point, end: Point) -> Iterator[str]:
    (x, y), (right, bottom) = start, end
    yield (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{right - x:.0f}" '
        f'height="{bottom - y + 14:.0f}" rx="8" fill="#fafafa" stroke="#aaa"/>'
    )
    count = repeat.count
    times = node_text(count) if isinstance(count, ir.Base) else str(count)
    words = f"repeat {repeat.axis} in {times}"
    yield _text(x + 8, bottom + 9, words, 'fill="#777" font-style="italic"')


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(text)}</text>'


def _box(box: Box, place: Point, width: int) -> Iterator[str]:
    x, y = place
    border = 2.5 if box.kind == "state" else 1
    corner = 14 if box.kind in ("input", "output") else 3
    yield (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width}" height="{HEIGHT}" '
        f'rx="{corner}" fill="{box.color}" stroke="#555" stroke-width="{border}"/>'
    )
    yield _text(x + 10, y + 18, box.name, 'font-weight="bold"')
    yield _text(x + 10, y + 35, box.note, 'fill="#555"')


_LINE = 'fill="none" stroke="#555" marker-end="url(#tip)"'


def _arrow(way: tuple[Point, ...]) -> Iterator[str]:
    """A smooth line: bent between columns, straight where it passes one."""
    path = [f"M{way[0][0]:.0f},{way[0][1]:.0f}"]
    for i, ((a, b), (c, d)) in enumerate(pairwise(way)):
        if i % 2:
            path.append(f"L{c:.0f},{d:.0f}")
            continue
        bend = max(GAP_X / 2, (c - a) / 2)
        path.append(f"C{a + bend:.0f},{b:.0f} {c - bend:.0f},{d:.0f} {c:.0f},{d:.0f}")
    yield f'<path d="{" ".join(path)}" {_LINE}/>'


def _around(flow: Flow, way: tuple[Point, ...]) -> Iterator[str]:
    """A dashed line of straight pieces with its label above the target."""
    path = " L".join(f"{x:.0f},{y:.0f}" for x, y in way)
    yield f'<path d="M{path}" {_LINE} stroke-dasharray="5 3" stroke-linejoin="round"/>'
    label = f"[{flow.shift}]"
    half = CHAR * len(label) / 2
    x, y = min(way[2][0], way[3][0]) + half + 12, way[2][1]
    yield (
        f'<rect x="{x - half:.0f}" y="{y - 8:.0f}" width="{2 * half:.0f}" height="14" '
        'fill="white"/>'
    )
    yield _text(x - half + 3, y + 4, label, 'fill="#a33"')


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
