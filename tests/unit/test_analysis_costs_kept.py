"""What a recurrence keeps where it reads more than the step before, and chunks of its own."""

from __future__ import annotations

from seqdsl.analysis import analyze
from seqdsl.analysis.costs import costs
from seqdsl.elaborate import elaborate_text

HEAD = "layer L(D, K, C = 16):\n    input x: [D]\n    input k: [K]\n"


def of(*lines: str) -> tuple[str, bool, list[str]]:
    text = HEAD + "".join(f"    {line}\n" for line in lines)
    analyzed = analyze(elaborate_text(text))
    found = next(v for v in analyzed.verdicts if v.verdict == "sequential")
    cost = costs(analyzed.model, found)
    return str(cost.state), cost.grows, [row.strategy for row in cost.rows]


def test_a_step_that_attends_to_all_of_its_past_keeps_it() -> None:
    state, grows, _ = of(
        "state h: [D] = 0",
        "a = dot[s](softmax[s < t](dot[D](x, h[s])), h[s])",
        "h = tanh(x + a)",
        "output h",
    )
    assert grows
    assert state == "D*(T + 1)"


def test_a_step_that_convolves_its_past_keeps_a_window() -> None:
    state, grows, _ = of(
        "state h: [D] = 0",
        "h = tanh(x + conv(h[t-1], width = 4))",
        "output h",
    )
    assert not grows
    assert state == "4*D"


MEMORY = (
    "state W: [K, D] = param",
    "state W0: [K, D] = 0",
    "W0 = where(t % C == 0, W[t-1], W0[t-1])",
    "loss = sum[D](square(tanh(dot[K](k, W0)) - x))",
    "W = 0.9 * W[t-1] - 0.1 * grad(loss, W0)",
    "output dot[K](k, W)",
)


def test_a_scan_per_chunk_has_its_costs() -> None:
    state, grows, rows = of(*MEMORY)
    assert (state, grows) == ("2*D*K", False)
    assert rows == ["loop", "newton", "per_chunk"]


def test_the_depth_of_a_scan_per_chunk_is_that_of_its_chunks() -> None:
    text = HEAD + "".join(f"    {line}\n" for line in MEMORY)
    analyzed = analyze(elaborate_text(text))
    (found,) = (v for v in analyzed.verdicts if v.per_chunk is not None)
    row = costs(analyzed.model, found).rows[-1]
    assert str(row.depth) == "T*(2*log2(C)/C + 1/C)"
    assert row.work.order() == costs(analyzed.model, found).rows[0].work.order()
