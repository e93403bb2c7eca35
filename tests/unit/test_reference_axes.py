"""The interpreter along depth, sub-layers, segments and batch."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from reference_case import made, noise
from reference_case import run_all as run
from torch import Tensor

from seqdsl.ir.sizes import Scalar

# ---- Depth

DEPTH = """
layer Depth(D, N):
    input x: [D]
    OUTSIDE
    repeat n in N:
        state h: [D] = x
        INSIDE
        h = h[n-1] + tanh(a * h[n-1])
        twice = 2 * h
    output h = h[n = N]
    output first = h[n = 1] - h[n = 0]
    output steps = stack[n as M](twice)
"""


@pytest.mark.parametrize("tied", [True, False])
def test_depth_with_weights_tied_and_untied(tied: bool) -> None:
    where = "OUTSIDE" if tied else "INSIDE"
    text = DEPTH.replace(where, "param a: [D] ~ normal(0, 1)")
    text = text.replace("OUTSIDE", "").replace("INSIDE", "")
    options: dict[str, Scalar] = {"D": 3, "N": 4}
    params = made(text, options)
    assert set(params) == ({"a"} if tied else {f"n.{i}.a" for i in range(4)})
    x = noise(2, 3, 3)
    h, steps = x, list[Tensor]()
    for n in range(4):
        h = h + torch.tanh(params["a" if tied else f"n.{n}.a"] * h)
        steps.append(2 * h)
    found = run(text, options, params, x=x)
    torch.testing.assert_close(found["h"], h)
    torch.testing.assert_close(found["first"], steps[0] / 2 - x)
    torch.testing.assert_close(found["steps"], torch.stack(steps, 2))


def test_no_step_at_all_is_the_initial_value() -> None:
    text = """
layer Fewer(D, N):
    input x: [D]
    repeat n in N - 1:
        state h: [D] = x
        h = 2 * h[n-1]
        y = 3 * h
    output h = h[n = last]
    output y = y[n = last]
"""
    x = noise(2, 3, 3)
    found = run(text, {"D": 3, "N": 1}, x=x)
    torch.testing.assert_close(found["h"], x)
    torch.testing.assert_close(found["y"], torch.zeros_like(x))
    torch.testing.assert_close(run(text, {"D": 3, "N": 3}, x=x)["y"], 12 * x)


HALTING = """
layer Halting(N):
    input x: []
    repeat n in N while q[n-1] < 1:
        state q: [] = 0
        state h: [] = x
        q = q[n-1] + abs(h[n-1])
        h = h[n-1] * 1.5 + q
    output h = h[n = N]
    output q = q[n = last]
"""


@pytest.mark.parametrize("most", [3, 100_000])
def test_every_position_halts_on_its_own(most: int) -> None:
    x = noise(3, 5)
    found = run(HALTING, {"N": most}, x=x)
    for row in range(3):
        for t in range(5):
            q, h, n = torch.zeros((), dtype=torch.float64), x[row, t], 0
            while n < most and q < 1:
                q = q + h.abs()
                h, n = h * 1.5 + q, n + 1
            torch.testing.assert_close(found["h"][row, t], h)
            torch.testing.assert_close(found["q"][row, t], q)
    (gradient,) = torch.autograd.grad(found["h"].sum(), x)
    assert bool(gradient.isfinite().all())


def test_trip_count_at_run_time() -> None:
    text = """
layer Counted(D):
    input x: [D]
    input count: int per call
    repeat n in count:
        state h: [D] = x
        h = 2 * h[n-1]
    output h[n = count]
"""
    x = noise(1, 2, 2)
    for count in (0, 1, 700):
        y = run(text, {"D": 2}, x=x, count=torch.tensor(count))["h"]
        torch.testing.assert_close(y, x * 2.0**count)


# ---- Sub-layers

STACKED = """
layer Cell(D, J = D):
    input x: [D]
    input y: [J]
    state h: [D] = 0
    h = tanh(linear(x, D) + 0.5 * h[t-1] + y.(J -> D))
    output h
    output last = h[t-1]
layer Model(E, L):
    input x: [E]
    shared = Cell(E)
    repeat l in L:
        state z: [E] = x
        own = Cell(z[l-1], x)
        z = shared(z[l-1], x).h + own.last
    output z[l = L]
"""


def cell(params: Mapping[str, Tensor], prefix: str, x: Tensor, y: Tensor) -> Tensor:
    weight, bias = params[f"{prefix}.weight"], params[f"{prefix}.bias"]
    h = torch.zeros_like(x[:, 0])
    found = [h]
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ weight.T + bias + 0.5 * h + y[:, t])
        found.append(h)
    return torch.stack(found, 1)


def test_sub_layers_tied_and_untied_have_states_of_their_own() -> None:
    options: dict[str, Scalar] = {"E": 3, "L": 2}
    params = made(STACKED, options)
    assert len(params) == 6
    x = noise(2, 5, 3)
    z = x
    for step in range(2):
        (own,) = {k.rsplit(".", 1)[0] for k in params if k.startswith(f"l.{step}.")}
        (tied,) = {k.rsplit(".", 1)[0] for k in params if not k.startswith("l.")}
        z = cell(params, tied, z, x)[:, 1:] + cell(params, own, z, x)[:, :-1]
    torch.testing.assert_close(run(STACKED, options, params, x=x)["z"], z)


# ---- Segments and batch

MIXED = """
layer Mixed(D):
    input x: [D]
    state f: [D] = 0.5
    state b: [D] = 0
    f = 0.9 * f[t-1] + x
    b = 0.8 * b[t+1] + x
    p = softmax[s <= t](sum[D](x[s] * x))
    a = dot[s](p, x[s])
    length = sum[s](where(s == s, 1, 0))
    output conv(f, width = 3) + b * float(t) + a * length
"""


def test_segments_are_sequences_of_their_own() -> None:
    params = made(MIXED, {"D": 2})
    x = noise(2, 8, 2)
    ids = torch.tensor([[4, 4, 4, 1, 1, 1, 1, 4], [0, 0, 0, 0, 0, 0, 0, 0]])
    found = run(MIXED, {"D": 2}, params, ids, x=x)["out"]
    for row, start, end in ((0, 0, 3), (0, 3, 7), (0, 7, 8), (1, 0, 8)):
        piece = x[row : row + 1, start:end]
        alone = run(MIXED, {"D": 2}, params, x=piece)["out"]
        torch.testing.assert_close(found[row : row + 1, start:end], alone)


def test_mean_over_batch_and_time_takes_every_position() -> None:
    text = """
layer Balance(E):
    input x: [E]
    p = softmax[E](x)
    output y = x - mean(p)
    output loss = E * sum[E](mean(p) * mean(p > 0.3))
"""
    x = noise(3, 4, 5)
    p = torch.softmax(x, -1)
    mean, share = p.mean((0, 1)), (p > 0.3).double().mean((0, 1))
    ids = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0], [2, 1, 1, 0]])
    for segments in (None, ids):
        found = run(text, {"E": 5}, segments=segments, x=x)
        torch.testing.assert_close(found["y"], x - mean)
        torch.testing.assert_close(found["loss"], 5 * (mean * share).sum())


def test_one_value_a_sequence_is_that_of_the_last_segment() -> None:
    text = """
layer Final(D):
    input x: [D]
    state h: [D] = 0
    h = h[t-1] + x
    output h[t = last]
"""
    x = noise(2, 4, 2)
    ids = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0]])
    torch.testing.assert_close(run(text, {"D": 2}, x=x)["h"], x.sum(1))
    found = run(text, {"D": 2}, segments=ids, x=x)["h"]
    torch.testing.assert_close(found, torch.stack([x[0, 2:].sum(0), x[1].sum(0)]))
