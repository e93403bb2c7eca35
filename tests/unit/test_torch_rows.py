"""States along a copy of time in torch: what is proved, what grows, what is refused."""

from __future__ import annotations

import pytest
import torch

from seqdsl.api import loads
from seqdsl.diagnostics import UnsupportedError
from seqdsl.elaborate import elaborate_text
from seqdsl.schedule.rows import copies_of, still_initial

HEAD = """layer Rows(D):
    input x: [D]
    f = sigmoid(x)
    early = s < t
    state u: [D] = x[s]
"""


def text(update: str, output: str = "sum[s <= t](u)") -> str:
    """A layer whose state has a row for every step."""
    return f"{HEAD}    u = {update}\n    output {output}\n"


@pytest.mark.parametrize(
    ("update", "proved"),
    [
        ("u[t-1] * where(s < t, f, 1)", True),
        ("u[t-1] - where(s < t, f, 0) * x * sum[D](u[t-1])", True),
        ("where(early, tanh(u[t-1]), u[t-1])", True),
        ("where(s >= t, u[t-1], f)", True),
        ("where(not (s < t), u[t-1], f)", True),
        ("where(s < t or t > s + 2, f, u[t-1])", True),
        ("u[t-1] + (s < t) * f", True),
        ("(1 - (s < t) * f) * u[t-1]", True),
        ("max(u[t-1], where(s < t, f, -inf))", True),
        ("logaddexp(u[t-1], where(s < t, f, -inf))", True),
        ("u[t-1] * exp(where(s < t, f, 0))", True),
        ("u[t-1] * where(t - s < 3, f, 1)", False),
        ("u[t-1] * where(s <= t + 1, f, 1)", False),
        ("u[t-1] + f", False),
        ("where(s < t, f, tanh(u[t-1]))", False),
        ("where(s > t, f, u[t-1])", False),
        ("u[t-1] * where(x > 0, f, 1)", False),
    ],
)
def test_what_is_proved(update: str, proved: bool) -> None:
    model = elaborate_text(text(update))
    assert copies_of(model, "u") == ("s",)
    assert still_initial(model, "u", "s") == proved
    layer = loads(text(update)).Rows(D=2)
    x = torch.randn(1, 4, 2)
    if proved:
        _, state = layer(x, return_state=True)
        assert state["u"].shape == (1, 4, 2)
    else:
        with pytest.raises(UnsupportedError, match="`u` changes for a step `s`"):
            layer(x, return_state=True)


def test_a_window_forgets_rows() -> None:
    near = "sum[s <= t and t - s < 3](u)"
    layer = loads(text("u[t-1] * where(s < t, f, 1)", near)).Rows(D=2)
    state, x = layer.initial_state(1), torch.randn(1, 9, 2)
    whole, after = layer(x, return_state=True)
    steps: list[torch.Tensor] = []
    for t in range(9):
        y, state = layer.step(x[:, t], state)
        steps.append(y)
    torch.testing.assert_close(torch.stack(steps, 1), whole)
    assert state["u"].shape == after["u"].shape == (1, 2, 2)


def test_rows_beside_a_history_that_grows_are_refused() -> None:
    spec = loads(
        """layer Both(D):
    input x: [D]
    state h: [D] = 0
    state u: [D] = x[s]
    u = where(s < t, u[t-1] + h[t-1], u[t-1])
    h = tanh(sum[s <= t](u) + sum[r < t](h[r]))
    output h
"""
    )
    with pytest.raises(UnsupportedError, match="`u` has a value for every `s`"):
        spec.Both(D=2)


def test_rows_in_a_repeat_within_a_loop_are_refused() -> None:
    spec = loads(
        """layer Inner(D):
    input x: [D]
    state h: [D] = 0
    repeat n in 2:
        state y: [D] = h[t-1]
        state u: [D] = x[s]
        u = where(s < t, u[t-1] + y[n-1], u[t-1])
        y = tanh(sum[s <= t](u) + x)
    h = y[n = last]
    output h
"""
    )
    with pytest.raises(UnsupportedError, match="stands in a `repeat`"):
        spec.Inner(D=2)
