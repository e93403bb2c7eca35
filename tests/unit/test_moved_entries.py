"""States whose entries a step moves: scans by the matrix of the move, in any semiring."""

from __future__ import annotations

from functools import partial

import pytest

from seqdsl.elaborate import elaborate_text
from seqdsl.schedule.choose import Wish
from seqdsl.schedule.forms import MatrixScan
from seqdsl.schedule.make import plan
from seqdsl.schedule.plan import Parallel, walk
from seqdsl.testing.cases import Case
from seqdsl.testing.layers import compiled, subject
from seqdsl.testing.properties.gradients import gradients_equal_reference
from seqdsl.testing.properties.values import segments_equal_reference

HEAD = """\
layer L(D = 3, H = 2, K = 3, V = 2):
    input x: [D]
    input f: [D]
    input k: [K]
    input v: [V]
    input y: [M]
    dim M = H * K
    dim J = D
    dim A = D
"""

MOVED = {
    "rolled": ("state h: [D] = 0.2", "h = sigmoid(f) * roll[D](h[t-1], 1) + x"),
    "shifted": (
        "state h: [D] = 0.2",
        "h = sigmoid(f) * shift[D](h[t-1], 1) + 0.3 * h[t-1] + x",
    ),
    "max-plus": ("state h: [D] = -inf", "h = max(roll[D](h[t-1], 1) + f, x)"),
    "log": (
        "state h: [D] = -1",
        "h = logaddexp(logaddexp(h[t-1], roll[D](h[t-1], 1) + f), x)",
    ),
    "boolean": (
        "state h: bool [D] = true",
        "h = (roll[D](h[t-1], 1) and f > 0) or x > 1",
    ),
    "split": (
        "state h: [M] = 0.3",
        "h = (sigmoid(v[V = 0]) * roll[H](h[t-1].(M -> [H, K]), 1)).([H, K] -> M) + y",
    ),
    "transposed": (
        "state h: [D, J] = 0.1",
        "h = sigmoid(x) * h[t-1].(D -> A).(J -> D).(A -> J) + x * f.(D -> J)",
    ),
    "transposed max-plus": (
        "state h: [D, J] = 0.1",
        "h = max(h[t-1].(D -> A).(J -> D).(A -> J) + f, x * f.(D -> J))",
    ),
    "with columns": (
        "state h: [K, V] = 0.1",
        "h = sigmoid(k) * roll[K](h[t-1], 1) + k * v",
    ),
    "summed": (
        "state h: [K, V] = 0.1",
        "h = 0.5 * k * sum[K](k * roll[K](h[t-1], 1)) + roll[K](h[t-1], -1) + k * v",
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_moved_entries_are_scanned(name: str) -> None:
    lines = (*MOVED[name], "output h")
    model = elaborate_text(HEAD + "".join(f"    {line}\n" for line in lines))
    steps = plan(model, Wish(strategy="scan")).steps
    (form,) = (s.form for s in walk(steps) if isinstance(s, Parallel))
    assert isinstance(form, MatrixScan)
    scanned = subject(model, {}, build=partial(compiled, strategy="scan"))
    case = Case(seed=1, batch=2, time=7, runs=((3, 4), (7,)))
    segments_equal_reference(scanned, case)
    gradients_equal_reference(scanned, case)
