"""Joining values along dims of their own, and states with a value for every copy of time."""

from __future__ import annotations

import pytest
import torch
from reference_case import layer, noise, run

from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import elaborate_text


def codes(text: str) -> list[str]:
    """Codes of the mistakes in a text."""
    with pytest.raises(SpecError) as caught:
        elaborate_text(text)
    return [d.code for d in caught.value.diagnostics]


JOINED = layer(
    "a: [K]; b: [J]",
    "output concat[1, K, J as P](2, a, b)",
    options="K = 2, J = 3, P = 1 + K + J",
)


def test_concat_along_dims_of_their_own() -> None:
    a, b = noise(1, 4, 2), noise(1, 4, 3, seed=2)
    two = torch.full((1, 4, 1), 2.0, dtype=torch.float64)
    torch.testing.assert_close(run(JOINED, a=a, b=b), torch.cat([two, a, b], -1))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("concat[K, J](a, b)", "E0204"),
        ("concat[K, J as P](a)", "E0401"),
        ("concat[K as Q, J as P](a, b)", "E0405"),
        ("concat[K, K as P](a, b)", "E0202"),
    ],
)
def test_concat_refuses(value: str, code: str) -> None:
    text = layer("a: [K]; b: [J]", f"output {value}", options="K = 2, J = 3, P = 5")
    assert code in codes(text)


def test_a_state_can_have_a_value_for_every_earlier_step() -> None:
    """What step s has written fades by the rates of the steps after it."""
    text = layer(
        "x: [D]; r: []",
        "state u: [D] = x[s]",
        "u = u[t-1] * where(s < t, r, 1)",
        "output sum[s <= t](u)",
        options="D",
    )
    x, r = noise(2, 5, 3), noise(2, 5, seed=2).sigmoid()
    expected = torch.zeros_like(x)
    for t in range(5):
        for s in range(t + 1):
            fade = r[:, s + 1 : t + 1].prod(1, keepdim=True)
            expected[:, t] += fade * x[:, s]
    torch.testing.assert_close(run(text, {"D": 3}, x=x, r=r), expected)


def test_a_state_that_starts_from_a_sum_has_one_value() -> None:
    text = layer(
        "x: [D]",
        "state u: [D] = sum[s < 2](x[s])",
        "u = u[t-1] + x",
        "output u",
        options="D",
    )
    x = noise(1, 4, 3)
    expected = x.cumsum(1) + x[:, :2].sum(1, keepdim=True)
    torch.testing.assert_close(run(text, {"D": 3}, x=x), expected)


def test_an_update_that_varies_with_a_copy_makes_the_state_vary() -> None:
    lines = ("state u: [D] = 0", "u = u[t-1] + x[s]")
    assert "E0424" in codes(layer("x: [D]", *lines, "output u", options="D"))
    x = noise(1, 4, 3)
    out = run(layer("x: [D]", *lines, "output sum[s](u)", options="D"), {"D": 3}, x=x)
    steps = torch.arange(1, 5, dtype=x.dtype)[:, None]
    torch.testing.assert_close(out, x.sum(1, keepdim=True) * steps)
