"""What the interpreter draws: counter-based samples, dropout, initial values."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from reference_case import listed, noise, run, run_all

import seqdsl
from seqdsl.backends.reference import initial_params, interpret
from seqdsl.diagnostics import CallError, SpecError
from seqdsl.elaborate import elaborate_text
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sites import site_in
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.walk import subtree
from seqdsl.rewrite.inline import inline_calls
from seqdsl.runtime.random import random_normal, random_uniform

BOTH = frozenset({BATCH, TIME})

# ---- Chance


def sampled(kind: str, axes: frozenset[str], seed: int | None) -> ir.Model:
    """A layer whose output is a sample of dims [A, B]."""
    node = ir.Sample(
        kind="normal" if kind == "normal" else "uniform",
        seed=None if seed is None else Lit(seed),
        site=3,
        type=Type("float", ("A", "B"), axes),
    )
    x = build.ref("x", Type("float", (), BOTH))
    zero = build.map_("mul", x, build.const(0))
    return ir.Model(
        name="S",
        options=(),
        dims={"A": Lit(2), "B": Lit(3)},
        inputs=(ir.Input(name="x", type=Type("float", (), BOTH)),),
        params=(),
        states=(),
        equations=(),
        outputs=(ir.Output(name="y", expr=build.map_("add", node, zero)),),
    )


@pytest.mark.parametrize("axes", [BOTH, frozenset({BATCH}), frozenset({TIME})])
def test_samples_count_batch_time_and_element(axes: frozenset[str]) -> None:
    x, element = torch.zeros(2, 4), torch.arange(6).reshape(2, 3)
    batch = torch.arange(2)[:, None, None, None]
    time = torch.arange(4)[None, :, None, None]
    counters = [n for a, n in ((BATCH, batch), (TIME, time)) if a in axes]
    model = sampled("normal", axes, None)
    found = interpret(model, options={}, params={}, inputs={"x": x}, seed=5)["y"]
    wanted = random_normal(5, 3, [*counters, element]).expand(2, 4, 2, 3)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    fixed = sampled("uniform", axes, 8)
    found = interpret(fixed, options={}, params={}, inputs={"x": x}, seed=5)["y"]
    wanted = random_uniform(8, 3, [*counters, element]).expand(2, 4, 2, 3)
    assert torch.equal(found, wanted)


def test_samples_in_sub_layers_differ_by_call_and_by_step() -> None:
    text = """
layer Noisy(D):
    input x: [D]
    output x * 0 + uniform[D]()
layer Twice(D):
    input x: [D]
    noisy = Noisy(D)
    repeat l in 2:
        state h: [D] = x
        h = noisy(h[l-1]) + 2 * noisy(h[l-1])
    output h[l = 1]
    output last = h[l = 2]
"""
    model = elaborate_text(text)
    inputs = {"x": torch.zeros(2, 3, 4)}
    found = interpret(model, options={"D": 4}, params={}, inputs=inputs, seed=7)
    (inner,) = {i.model.name: i.model for i in model.instances}.values()
    sites = [
        site_in(c.name, n.site)
        for c in model.calls
        for o in inner.outputs
        for e in [*inner.equations, o]
        for n in _samples(e.expr)
    ]
    batch, time = torch.arange(2)[:, None, None], torch.arange(3)[:, None]
    for step, name in ((1, model.outputs[0].name), (2, "last")):
        counters = [batch, time, step, torch.arange(4)]
        first, second = (random_uniform(7, s, counters) for s in sites)
        both = (first + 2 * second, second + 2 * first)
        assert any(torch.allclose(found[name], b, rtol=0, atol=1e-15) for b in both)


def test_inlining_changes_no_number() -> None:
    text = """
layer Inner(D):
    input x: [D]
    repeat m in 2:
        state h: [D] = x
        h = h[m-1] + normal[D]()
    output h[m = 2]
layer Outer(D):
    input x: [D]
    inner = Inner(D)
    output inner(x) + 2 * inner(2 * x) + uniform[D]()
layer Twice(D):
    input x: [D]
    outer = Outer(D)
    repeat l in 2:
        state h: [D] = x
        h = outer(h[l-1]) + 2 * outer(h[l-1])
    output h[l = 2]
"""
    flat = model = elaborate_text(text)
    while flat.calls:
        flat = inline_calls(flat, [c.name for c in flat.calls])
    inputs = {"x": noise(2, 3, 4)}
    both = [
        interpret(m, options={"D": 4}, params={}, inputs=inputs, seed=2)
        for m in (model, flat)
    ]
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])


def _samples(node: ir.Node) -> list[ir.Sample]:
    return [n for n in subtree(node) if isinstance(n, ir.Sample)]


def test_dropout_only_in_training() -> None:
    text = """
layer Drop(D):
    input x: [D]
    output dropout(x, 0.25)
"""
    x = torch.ones(4, 50, 5)
    assert torch.equal(run(text, {"D": 5}, x=x), x.double())
    (wild,) = run_all(text, {"D": 5}, training=True, x=x).values()
    dropped = wild == 0
    torch.testing.assert_close(
        wild[~dropped], torch.full_like(wild[~dropped], 1 / 0.75)
    )
    assert abs(dropped.double().mean().item() - 0.25) < 0.06


# ---- Initial values


def test_initial_values_of_every_kind() -> None:
    text = """
layer Values(D, H, L = 2):
    input x: [D]
    param a: [H, D] ~ orthogonal(2)
    param b: [D] = 0.5
    param c: [H] ~ uniform(-1, 1)
    param e: [D] = b * index[D] frozen
    repeat l in L:
        state h: [H] = 0
        h = h[l-1] + linear(h[l-1], H)
    output dot[D](x * e, a) + c + h[l = L]
"""
    model = elaborate_text(text)
    params = initial_params(model, {"D": 3, "H": 6}, 4)
    shapes = {name: tuple(p.shape) for name, p in params.items()}
    assert shapes["a"] == (6, 3) and shapes["c"] == (6,)
    assert sum(name.startswith("l.0.") for name in shapes) == 2
    torch.testing.assert_close(params["a"].T @ params["a"], 4 * torch.eye(3).double())
    assert listed(params["e"]) == [0.0, 0.5, 1.0]
    assert len(set(params["c"].numpy())) == 6 and params["c"].abs().max() < 1
    (weight,) = [p for n, p in params.items() if n.startswith("l.0.") and p.dim() == 2]
    assert len(set(weight.numpy().ravel())) == 36, "each entry is drawn for itself"
    assert weight.abs().max() <= 1 / math.sqrt(6)
    again = initial_params(model, {"D": 3, "H": 6}, 4)
    assert all(torch.equal(params[name], again[name]) for name in params)
    other = initial_params(model, {"D": 3, "H": 6}, 5)
    assert not torch.equal(params["c"], other["c"])
    interpret(
        model, options={"D": 3, "H": 6}, params=params, inputs={"x": noise(1, 2, 3)}
    )


STARTS = """
layer Starts(D, H, K, forget = 1, shy = true):
    input x: [D]
    place = index[H] / (H - 1)
    grid = (0.5 * index[D]).(D -> [H, K])
    a = linear(x, H, bias = forget)
    b = linear(x, H, bias = 0.5 - place)
    c = linear(x, H, bias = shy)
    d = linear(x, H, bias = not shy)
    e = conv(x, width = 2, bias = -2)
    f = linear(x, [H, K], init = orthogonal(3), bias = grid)
    param g: [K, H] = (index[H] / (H - 1)) ** stack[K](1, 2)
    output a + b + c + d + sum[K](f) + sum[K](g)
    output e
"""


def test_where_biases_and_weights_of_several_dims_start() -> None:
    options = {"D": 6, "H": 3, "K": 2}
    model = elaborate_text(STARTS)
    params = initial_params(model, options, 0)
    module = cast(Any, seqdsl.loads(STARTS)).Starts(**options)
    assert listed(params["a.bias"]) == [1, 1, 1]
    assert listed(params["b.bias"]) == [0.5, 0, -0.5]
    assert params["c.bias"].abs().max() <= 1 / math.sqrt(6) and "d.bias" not in params
    assert listed(params["e.bias"]) == [-2] * 6
    assert params["f.bias"].shape == (3, 2) and listed(params["f.bias"][2]) == [2, 2.5]
    rows = params["f.weight"].reshape(6, 6)
    torch.testing.assert_close(rows @ rows.T, 9 * torch.eye(6).double())
    assert listed(params["g"][1]) == [0, 0.25, 1]
    kept = {"a.bias", "b.bias", "e.bias", "f.bias", "g"}
    for name, value in module.named_parameters():
        if name in kept:
            torch.testing.assert_close(value.data, params[name].float())
    rows = module.f.weight.data.reshape(6, 6)
    torch.testing.assert_close(rows @ rows.T, 9 * torch.eye(6))


@pytest.mark.parametrize("slope", ["x", "normal[D](0, 1)", "t * index[D]"])
def test_what_changes_at_run_time_starts_nothing(slope: str) -> None:
    text = f"""
layer Late(D):
    input x: [D]
    slope = {slope}
    output linear(x, D, bias = 2 * slope)
"""
    with pytest.raises(SpecError, match="E0209"):
        elaborate_text(text)


@pytest.mark.parametrize(
    "bias", ["param", "linear(x, D)", "rmsnorm[D](index[D] + 1.0)", "xavier()"]
)
def test_initial_values_have_no_parameters_and_fit(bias: str) -> None:
    text = f"layer L(D):\n    input x: [D]\n    output linear(x, D, bias = {bias})\n"
    with pytest.raises(SpecError, match="E0209"):
        elaborate_text(text)


def test_a_missing_parameter_is_named() -> None:
    text = "layer L(D):\n    input x: [D]\n    param w: [D]\n    output x * w\n"
    with pytest.raises(CallError, match="parameter `w` is missing"):
        run(text, {"D": 2}, x=noise(1, 1, 2))
    with pytest.raises(CallError, match=r"`w` is \[2\], but has shape \[3\]"):
        run(text, {"D": 2}, {"w": torch.ones(3)}, x=noise(1, 1, 2))
