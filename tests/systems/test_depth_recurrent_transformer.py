"""Depth-recurrent Transformers: gated steps, as many as the call asks for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from systems_case import (
    changed,
    linear,
    make,
    noise,
    same,
    set_all,
    shaken,
    std,
    train,
    verdicts,
)
from torch import Tensor

from examples.tasks import reachability

DRT = std("depth_recurrent")
N, D = 10, 4
SIZES = {"D": D, "heads": 2, "F": 6, "N": N, "table": 12}


def graph(**options: Any) -> Any:
    return shaken(make(DRT.DepthRecurrentGraph, **{**SIZES, **options}))


def run(module: Any, *given: Any) -> Any:
    """A call whose last argument is the number of steps; there are no steps of time."""
    return module(*given[:-1], torch.tensor(given[-1]), time=1)


def path_mask() -> Tensor:
    """Edges 0 -> 1 -> 2 ... and every node to itself."""
    here = torch.eye(N, dtype=torch.bool)
    return (here | here.roll(-1, 1).tril(-1))[None]


def twin(module: Any, *changes: tuple[str, str], **options: Any) -> Any:
    """A near miss with the same weights."""
    spec = changed("depth_recurrent", *changes) if changes else DRT
    other = make(spec.DepthRecurrentGraph, **{**SIZES, **options})
    other.load_state_dict(module.state_dict(), strict=False)
    return other


def test_depth_is_sequential_with_a_count_given_at_run_time() -> None:
    (found,) = verdicts(DRT.DepthRecurrentGraph).values()
    assert (found.verdict, found.recurrence.axis) == ("sequential", "n")


# ---- The light cone


@pytest.mark.parametrize("steps", range(1, 10))
def test_light_cone_is_exact(steps: int) -> None:
    """After T steps nodes more than T hops downstream are bit-identical."""
    module, nodes = graph(), noise(1, N, D)
    other = nodes.clone()
    other[0, 0] += noise(D, seed=3)
    a, b = (run(module, x, path_mask(), steps) for x in (nodes, other))
    assert torch.equal(a[0, steps + 1 :], b[0, steps + 1 :])
    everywhere = torch.ones(1, N, N, dtype=torch.bool)
    a, b = (run(module, x, everywhere, steps) for x in (nodes, other))
    assert not torch.equal(a[0, -1], b[0, -1])


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_light_cone_is_reached(steps: int) -> None:
    """The Jacobian at exactly T hops is not zero, beyond it is."""
    module = graph()

    nodes = noise(1, N, D).requires_grad_()
    last = run(module, nodes, path_mask(), steps)[0].sum(1)
    slopes = [torch.autograd.grad(y, nodes, retain_graph=True)[0] for y in last]
    reach = torch.stack([s[0, 0].abs().max() for s in slopes])
    assert (reach[: steps + 1] > 0).all() and (reach[steps + 1 :] == 0).all()


# ---- Oracles


def attention(block: Any, X: Tensor, mask: Tensor) -> Tensor:
    """The block in plain loops over heads and nodes; `X` [nodes, D]."""
    norm = torch.nn.functional.layer_norm
    y = norm(X, (D,), block.scale1, block.shift1)
    q, k, v = (linear(getattr(block, n), y).view(N, 2, 2) for n in "qkv")
    rows: list[Tensor] = []
    for i in range(N):
        mixed: list[Tensor] = []
        for h in range(2):
            score = [float(q[i, h] @ k[j, h]) / 2**0.5 for j in range(N)]
            top = max(s for j, s in enumerate(score) if mask[i, j])
            w = [
                torch.tensor(s - top, dtype=torch.float64).exp()
                if mask[i, j]
                else torch.tensor(0.0)
                for j, s in enumerate(score)
            ]
            mixed.append(sum((w[j] / sum(w) * v[j, h] for j in range(N)), 0 * v[0, h]))
        rows.append(linear(block.Y, torch.cat(mixed)))
    Y = X + torch.stack(rows)
    u = linear(block.up, norm(Y, (D,), block.scale2, block.shift2)).relu()
    return Y + linear(block.down, u)


def test_step_by_step_in_plain_loops() -> None:
    with torch.no_grad():
        module, h = graph(), noise(N, D)
        expected = h
        for n in range(3):
            new = attention(module.block, expected + module.e[n], path_mask()[0])
            z = linear(module.gate.z_new, new) + linear(module.gate.z_old, expected)
            z = (z + module.gate.b).sigmoid()
            expected = z * new + (1 - z) * expected
        same(run(module, h[None], path_mask(), 3)[0], expected, within=1e-10)


def test_no_steps_and_a_closed_gate_return_the_start() -> None:
    module, nodes = graph(), noise(2, N, D)
    mask = path_mask().expand(2, N, N)
    assert torch.equal(run(module, nodes, mask, 0), nodes)
    set_all(module, {"gate.b": -1e4})
    assert torch.equal(run(module, nodes, mask, 7), nodes)


def test_an_open_gate_is_the_plain_tied_transformer() -> None:
    module, nodes = set_all(graph(), {"gate.b": 1e4}), noise(1, N, D)
    plain = nodes
    for n in range(3):
        plain = module.block(plain + module.e[n], path_mask(), time=1)
    same(run(module, nodes, path_mask(), 3), plain)


# ---- Composition and near misses


def test_steps_compose_when_their_indices_go_on() -> None:
    module, nodes = graph(), noise(1, N, D)
    first = run(module, nodes, path_mask(), 2)
    later = twin(module)
    set_all(later, {"e": torch.roll(module.e.detach(), -2, 0)})
    same(run(later, first, path_mask(), 3), run(module, nodes, path_mask(), 5))
    restarted = run(module, first, path_mask(), 3)
    assert (restarted - run(module, nodes, path_mask(), 5)).abs().max() > 1e-4


def test_steps_beyond_the_table_share_its_last_row() -> None:
    module = graph(table=2)
    longer = make(DRT.DepthRecurrentGraph, **{**SIZES, "table": 5})
    weights = module.state_dict()
    e = module.e.detach()
    longer.load_state_dict({**weights, "e": torch.cat([e, e[1:].expand(3, D)])})
    same(
        run(longer, noise(1, N, D), path_mask(), 5),
        run(module, noise(1, N, D), path_mask(), 5),
    )


@pytest.mark.parametrize(
    "change",
    [
        ("linear[D](new, D, bias = false) + linear[D](old, D, bias = false) + b",
         "linear[D](new, D, bias = false) + 0 * linear[D](old, D, bias = false) + b"),
        ("h = gate(block(X, mask), h[n-1])", "h = gate(block(X, mask), X)"),
    ],
    ids=["the gate reads the candidate only", "the state keeps the step's embedding"],
)  # fmt: skip
def test_near_misses(change: tuple[str, str]) -> None:
    module, nodes = graph(), noise(1, N, D)
    wrong = twin(module, change)
    gap = (
        (run(wrong, nodes, path_mask(), 4) - run(module, nodes, path_mask(), 4))
        .abs()
        .max()
    )
    assert gap > 1e-4


def test_retention_after_20_steps() -> None:
    """The gate starts at 0.119; with a bias of 0 nothing would be left of the start."""
    kept: list[float] = []
    for bias in (-2.0, 0.0):
        gate = make(DRT.Gate, D=1, bias=bias)
        set_all(gate, {n: 0 for n in gate.state_dict() if "weight" in n})
        h = torch.ones(1, 1, dtype=torch.float64)
        for _ in range(20):
            h = gate(0 * h, h, time=1)
        kept.append(float(h.detach()))
    assert kept[0] == pytest.approx(0.079, abs=1e-3)
    assert kept[1] == pytest.approx(1e-6, rel=0.1)


# ---- The two objectives


def reachability_model(alpha: float) -> Any:
    return shaken(make(DRT.Reachability, **SIZES, alpha=alpha))


def test_silent_thinking_gives_earlier_steps_no_gradient_through_the_head() -> None:
    """The loss is the last step's alone; with alpha = 1 it is the mean of all steps."""
    g = reachability.sample(4, N, 3, seed=0)
    inputs = (g.mask, g.source, g.target, g.label)
    silent, loud = reachability_model(0.0), reachability_model(1.0)
    per_step: list[Tensor] = []
    for steps in (1, 2, 3):
        score, loss = run(silent, *inputs, steps)
        sign = torch.where(g.label, -1.0, 1.0).double()
        same(loss, torch.nn.functional.softplus(sign * score).mean())
        per_step.append(loss)
    same(run(loud, *inputs, 3)[1], torch.stack(per_step).mean())
    last = torch.autograd.grad(
        run(silent, *inputs, 3)[1], list(silent.head.parameters())
    )
    alone = torch.autograd.grad(per_step[2], list(silent.head.parameters()))
    every = torch.autograd.grad(run(loud, *inputs, 3)[1], list(loud.head.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(last, alone, strict=True))
    gaps = [(a - b).abs().max() for a, b in zip(last, every, strict=True)]
    assert max(gaps) > 1e-4


def test_text_branches_start_at_1e_4_and_padding_is_not_read() -> None:
    module = make(DRT.DepthRecurrentText, D=8, heads=2, F=8, table=4)
    x, real = noise(1, 6, 8), torch.tensor([[True] * 4 + [False] * 2])
    block = module.block
    set_all(block, {"b": 1e4})
    moved = block(x, module.e[0], real) - x - module.e[0]
    assert 0 < moved.abs().max() < 1e-2
    shaken(module)
    other = x.clone()
    other[:, 4:] += 1
    same(
        module(x, real, torch.tensor(3))[:, :4],
        module(other, real, torch.tensor(3))[:, :4],
    )


# ---- The task


def test_graphs_are_what_they_say() -> None:
    g = reachability.sample(40, 8, 3, seed=5)
    again = reachability.sample(40, 8, 3, seed=5)
    assert torch.equal(g.mask, again.mask)
    counts = g.mask.flatten(1).sum(1)
    assert (counts == counts[0]).all()
    for row in range(40):
        edges = {(int(u), int(v)) for v, u in g.mask[row].nonzero() if u != v}
        found = reachability.distance(edges, int(g.source[row]), int(g.target[row]), 8)
        assert found == (3 if g.label[row] else None)


@pytest.mark.slow
def test_tiny_training_follows_paths() -> None:
    """8 nodes, 1 to 3 hops: T = 3 finds pairs 3 hops apart, T = 1 does not."""
    module = make(DRT.Reachability, D=32, heads=2, F=64, N=8, table=20).float()
    step = iter(range(1_000_000))

    def loss() -> Tensor:
        seed = next(step)
        g = reachability.sample(64, 8, 1 + seed % 3, seed)
        return run(module, g.mask, g.source, g.target, g.label, 3 + seed % 2)[1]

    train(module, 1500, loss, 3e-3)
    g = reachability.sample(500, 8, 3, seed=-1)

    def right(steps: int) -> float:
        score = run(module, g.mask, g.source, g.target, g.label, steps)[0]
        return float(((score > 0) == g.label).double().mean())

    assert right(3) >= 0.95
    assert right(1) <= 0.60
