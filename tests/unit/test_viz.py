"""Pictures: what stands in a repeat is framed, and nothing else is inside the frame."""

from __future__ import annotations

import re

from seqdsl.analysis import analyze
from seqdsl.elaborate import elaborate_text
from seqdsl.viz import COLORS, svg
from seqdsl.viz_layout import HEIGHT, Box, Flow, lay_out

STACK = """
layer Stack(D, N):
    input x: [D]
    input skip: [D]
    before = tanh(linear(x, D))
    repeat n in N:
        state h: [D] = before
        u = linear(h[n-1], D)
        h = tanh(u) + skip
    output h[n = N]
"""


def test_a_repeat_is_framed() -> None:
    model = elaborate_text(STACK)
    text = svg(model, analyze(model).verdicts)
    assert "repeat n in N" in text and text.count("font-style") == 1
    assert COLORS["sequential"] in text


def test_nothing_else_is_inside_a_frame() -> None:
    boxes = [
        Box("x", "input", "", ""),
        Box("before", "value", "", ""),
        Box("u", "value", "", "", "n"),
        Box("v", "value", "", "", "n"),
        Box("h", "state", "", "", "n"),
        Box("out", "output", "", ""),
    ]
    flows = [Flow("x", "before"), Flow("before", "h"), Flow("u", "v"), Flow("v", "h")]
    flows += [Flow("h", "out"), Flow("h", "u", "n-1")]
    layout = lay_out(boxes, flows, 100)
    ((left, top), (right, bottom)) = layout.frames["n"]
    for box in boxes:
        x, y = layout.places[box.name]
        inside = left <= x and x + 100 <= right and top <= y and y + HEIGHT <= bottom
        outside = x + 100 < left or x > right or y > bottom or y + HEIGHT < top
        assert inside if box.frame else outside, box.name


def test_a_gradient_is_drawn_as_written() -> None:
    text = """
layer Learner(D, K):
    input x: [D]
    k = linear(x, K)
    state W: [K, D] = 0
    loss = sum[D](square(dot[K](k, W[t-1]) - x))
    W = W[t-1] - grad(loss, W[t-1])
    output W
"""
    model = elaborate_text(text)
    drawn = svg(model, analyze(model).verdicts)
    (box,) = re.findall(rf'fill="{COLORS["scannable"]}"[^\n]*\n[^\n]*>loss<', drawn)
    assert box
