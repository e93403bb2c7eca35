"""What a recurrence that is no scan still allows: per chunk, in open loop, in a wavefront."""

from __future__ import annotations

import pytest
from verdicts import by_name, lines

from seqdsl.analysis import Verdict, analyze
from seqdsl.elaborate import elaborate, load_std

MEMORY = """
layer Memory(D, K, V, H, C = 16):
    input x: [D]
    input start: bool
    k = linear(x, K)
    v = linear(x, V)
    r = sigmoid(linear(x, []))
    state A: [K, H] = param
    state B: [H, V] = param
    state A0: [K, H] = 0
    state B0: [H, V] = 0
    {held}
    loss = sum[V](square(dot[H](silu(dot[K](k, A0)), B0) - v))
    A = {decay} * A[t-1] - r * grad(loss, A0)
    B = {decay} * B[t-1] - r * grad(loss, B0)
    output dot[H](silu(dot[K](k, A)), B)
"""


def memory(border: str, decay: str = "1") -> Verdict:
    held = (
        f"A0 = where({border}, A[t-1], A0[t-1])\n"
        f"    B0 = where({border}, B[t-1], B0[t-1])"
    )
    (found,) = by_name(MEMORY.format(held=held, decay=decay)).values()
    return found


def test_a_gradient_frozen_at_chunk_starts_is_a_scan_per_chunk() -> None:
    found = memory("t % C == 0")
    assert (found.verdict, found.structure) == ("sequential", None)
    assert found.per_chunk is not None
    assert found.per_chunk.held == ("A0", "B0") and str(found.per_chunk.size) == "C"
    inner = {v.recurrence.states: v.structure for v in found.per_chunk.verdicts}
    assert inner == {("A",): "identity", ("B",): "identity"}


@pytest.mark.parametrize(
    ("border", "size"),
    [("t % 8 == 0", "8"), ("t % (2 * C) == 1", "2 * C"), ("start", "None")],
)
def test_where_the_borders_are(border: str, size: str) -> None:
    found = memory(border).per_chunk
    assert found is not None and str(found.size) == size


def test_a_decay_beside_the_frozen_gradient() -> None:
    found = memory("t % C == 0", "(1 - r)").per_chunk
    assert found is not None
    assert {v.structure for v in found.verdicts} == {"scalar"}


def test_held_the_other_way_round() -> None:
    held = (
        "A0 = where(t % C != 0, A0[t-1], A[t-1])\n"
        "    B0 = where(t % C != 0, B0[t-1], B[t-1])"
    )
    (found,) = by_name(MEMORY.format(held=held, decay="1")).values()
    assert found.per_chunk is not None and found.per_chunk.held == ("A0", "B0")


@pytest.mark.parametrize("border", ["sum[K, H](A[t-1]) > 0"])
def test_a_border_that_depends_on_the_state_is_none(border: str) -> None:
    assert memory(border).per_chunk is None


def test_what_is_nonlinear_within_a_chunk_is_no_scan_there() -> None:
    text = """
layer L(D, C = 4):
    input x: [D]
    state w: [D] = 0
    state w0: [D] = 0
    w0 = where(t % C == 0, w[t-1], w0[t-1])
    w = tanh(w[t-1] + w0 * x)
    output w
"""
    (found,) = by_name(text).values()
    assert found.per_chunk is None


def test_ttt_in_the_library() -> None:
    model = elaborate(load_std("ttt"), "TTTLinear").model
    (found,) = (v for v in analyze(model).verdicts if "W" in v.recurrence.states)
    assert found.per_chunk is not None and str(found.per_chunk.size) == "minibatch"
    json = found.to_json()["per_chunk"]
    assert isinstance(json, dict) and json["held"] == ["W0", "b0"]


def test_an_affine_recurrence_with_held_states_is_both() -> None:
    text = """
layer L(D, K, V, C):
    input x: [D]
    k = linear(x, K)
    state W: [K, V] = 0
    state held: [K, V] = 0
    held = where(t % C == 0, W[t-1], held[t-1])
    W = W[t-1] - grad(sum[V](square(dot[K](k, held) - linear(x, V))), held)
    output dot[K](k, W)
"""
    (found,) = by_name(text).values()
    assert found.structure == "scalar_plus_low_rank" and found.per_chunk is not None


# ---- Open loop

CLOSED = """
layer L(D):
    input x: [D]
    input open: bool
    input forcing: float per call
    state y: [D] = 0
    state h: [D] = 0
    u = {fed}
    z = sigmoid(linear(u, D))
    h = {update}
    y = linear(h, D)
    output y
"""
GATED = "(1 - z) * h[t-1] + z * linear(u, D)"


@pytest.mark.parametrize(
    ("fed", "condition"),
    [
        ("where(open, x, y[t-1])", "`open` holds"),
        ("where(open, y[t-1], x)", "`open` does not hold"),
        ("where(t < 5, x, y[t-1])", "`t < 5` holds"),
        ("forcing * x + (1 - forcing) * y[t-1]", "`forcing` is 1"),
        ("x + forcing * (y[t-1] - x)", "`forcing` is 0"),
    ],
)
def test_parallel_when_teacher_forced(fed: str, condition: str) -> None:
    (found,) = (
        v for v in by_name(CLOSED.format(fed=fed, update=GATED)).values() if v.forced
    )
    assert found.verdict == "sequential"
    assert [f.condition for f in found.forced] == [condition]
    ((inner,),) = (f.verdicts for f in found.forced)
    assert (inner.recurrence.states, inner.structure) == (("h",), "diagonal")


@pytest.mark.parametrize("fed", ["where(open, 0, y[t-1])", "where(t == 0, 1, y[t-1])"])
def test_a_reset_is_no_open_loop(fed: str) -> None:
    assert all(
        not v.forced for v in by_name(CLOSED.format(fed=fed, update=GATED)).values()
    )


def test_a_cell_that_is_sequential_by_itself_stays_so() -> None:
    text = CLOSED.format(
        fed="where(open, x, y[t-1])", update="z * tanh(linear(h[t-1], D))"
    )
    assert all(not v.forced for v in by_name(text).values())


# ---- Two axes


def test_a_wavefront_over_depth_and_time() -> None:
    text = """
layer Grid(D, N):
    input x: [D]
    repeat n in N:
        state y: [D] = x
        state h: [D] = 0
        h = tanh(linear(y[n-1], D) + linear(h[t-1], D))
        y = h
    output y[n = N]
"""
    found = by_name(text).values()
    fronts = [v.wavefront for v in found]
    assert len(fronts) == 2
    assert all(w is not None and w.axes == ("t", "n") for w in fronts)
    assert not any(w is not None and w.speculative for w in fronts)


def test_a_wavefront_that_must_guess() -> None:
    text = """
layer Feedback(D, N):
    input x: [D]
    state top: [D] = 0
    repeat n in N:
        state h: [D] = x + top[t-1]
        h = tanh(linear(h[n-1], D))
    top = h[n = N]
    output top
"""
    found = by_name(text)
    assert any("speculative wavefront over t and n" in line for line in lines(text))
    fronts = [v.wavefront for v in found.values() if v.wavefront is not None]
    assert fronts and all(w.speculative for w in fronts)


def test_depth_inside_of_time_is_no_wavefront() -> None:
    text = """
layer Deep(D, N):
    input x: [D]
    state h: [D] = 0
    h = tanh(x + h[t-1])
    repeat n in N:
        state y: [D] = h
        y = tanh(linear(y[n-1], D))
    output y[n = N]
"""
    assert all(v.wavefront is None for v in by_name(text).values())
