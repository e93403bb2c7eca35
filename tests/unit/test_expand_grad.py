"""`grad` written out as equations: what it looks like, and that it means the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqdsl.backends.reference import initial_params, interpret
from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import elaborate_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar
from seqdsl.ir.text import node_text
from seqdsl.ir.walk import subtree
from seqdsl.rewrite.expand_grad import expand_grad

HEAD = """
layer M(K, V):
    input k: [K]
    input v: [V]
    input g: []
    state M: [K, V] = 0
"""
SIZES: dict[str, Scalar] = {"K": 3, "V": 2}


def both(
    text: str, sizes: dict[str, Scalar] | None = None
) -> tuple[ir.Model, list[tuple[Tensor, Tensor]]]:
    """The expanded model, and every output interpreted before and after."""
    options: dict[str, Scalar] = SIZES if sizes is None else sizes
    model = elaborate_text(text)
    expanded = expand_grad(model)
    for equation in expanded.equations:
        assert not any(isinstance(n, ir.Grad) for n in subtree(equation.expr))
    make = torch.Generator().manual_seed(1)
    params = {
        n: torch.randn(p.shape, generator=make, dtype=torch.float64)
        for n, p in initial_params(model, options=options, seed=0).items()
    }
    inputs = {
        i.name: torch.randn(
            2,
            5,
            *(int(options[d]) for d in i.type.dims),
            generator=make,
            dtype=torch.float64,
        )
        for i in model.inputs
    }
    before, after = (
        interpret(m, options=options, params=params, inputs=inputs)
        for m in (model, expanded)
    )
    return expanded, [(before[n], after[n]) for n in before]


def agrees(text: str, sizes: dict[str, Scalar] | None = None) -> ir.Model:
    expanded, pairs = both(text, sizes)
    for before, after in pairs:
        assert torch.allclose(before, after, rtol=1e-9, atol=1e-11)
    return expanded


def test_the_delta_rule_comes_out_as_written_in_papers() -> None:
    text = HEAD + (
        "    M = M[t-1] - g * grad(sum[V](square(dot[K](k, M[t-1]) - v)), M[t-1])\n"
        "    output M\n"
    )
    model = agrees(text)
    shown = node_text(model.equation["M"].expr)
    assert shown == "M[t-1] - g * (2 * k * (dot[K](k, M[t-1]) - v))"
    assert len(model.equations) == 1


def test_a_loss_in_several_equations() -> None:
    text = HEAD + (
        "    e = dot[K](k, M[t-1]) - v\n"
        "    loss = sum[V](square(e)) + 0.5 * sum[K, V](square(M[t-1]))\n"
        "    M = M[t-1] - g * grad(loss, M[t-1])\n"
        "    output M\n"
    )
    shown = node_text(agrees(text).equation["M"].expr)
    assert "2 * k * e" in shown and "M[t-1]" in shown and "1 *" not in shown


def test_a_long_cotangent_gets_a_name_and_is_computed_once() -> None:
    text = HEAD + (
        "    e = silu(dot[K](k, M[t-1]) * sigmoid(dot[K](k, M[t-1])) - v)\n"
        "    loss = sum[V](log1p(square(e)) * e)\n"
        "    M = M[t-1] - g * tanh(grad(loss, M[t-1]))\n"
        "    output M\n"
    )
    model = agrees(text)
    added = [e for e in model.equations if e.name.startswith("loss_d_")]
    assert added and not any(e.written for e in added)


def test_momentum_and_decay() -> None:
    agrees(
        HEAD
        + "    state P: [K, V] = 0\n"
        + "    loss = sum[V](square(dot[K](k, M[t-1]) - v))\n"
        + "    P = 0.9 * P[t-1] - softplus(g) * grad(loss, M[t-1])\n"
        + "    M = sigmoid(g) * M[t-1] + P\n"
        + "    output M\n"
    )


def test_two_layers_deep_with_normalization() -> None:
    agrees(
        """
layer M(K, V, H):
    input k: [K]
    input v: [V]
    state A: [K, H] = normal(0, 1, seed = 1)
    state B: [H, V] = normal(0, 1, seed = 2)
    h = dot[K](k, A[t-1])
    a = gelu(h - mean[H](h)) / sqrt(mean[H](square(h)) + 0.1)
    y = dot[H](a, B[t-1])
    loss = sum[V](square(y - v))
    A = 0.9 * A[t-1] - 0.1 * grad(loss, A[t-1])
    B = 0.9 * B[t-1] - 0.1 * grad(loss, B[t-1])
    output A
    output B
""",
        {"K": 3, "V": 2, "H": 4},
    )


def test_a_gradient_of_a_gradient() -> None:
    agrees(
        HEAD
        + "    p = grad(sum[V](tanh(dot[K](k, M[t-1])) * v), M[t-1])\n"
        + "    M = 0.5 * M[t-1] - grad(sum[K, V](square(p) * M[t-1]), M[t-1])\n"
        + "    output M\n"
    )


def test_a_gradient_inside_a_gradient() -> None:
    agrees(
        HEAD
        + "    M = 0.5 * M[t-1] + grad(sum[K, V](sin(grad("
        + "sum[V](exp(dot[K](k, 0.1 * M[t-1])) * v), M[t-1]))), M[t-1])\n"
        + "    output M\n"
    )


def test_through_a_sub_layer_the_call_is_inlined() -> None:
    text = """
layer Net(D, H):
    input x: [D]
    output linear(silu(linear(x, H)), D)

layer M(D, H):
    input x: [D]
    net = Net(D, H)
    state z: [D] = 0
    y = net(z[t-1] + x)
    z = z[t-1] - 0.1 * grad(sum[D](square(y - x)), z[t-1])
    output z
"""
    model = agrees(text, {"D": 3, "H": 2})
    assert not model.calls


def test_a_call_beside_the_gradient_stays() -> None:
    text = """
layer Net(D):
    input x: [D]
    output tanh(linear(x, D))

layer M(D):
    input x: [D]
    net = Net(D)
    state z: [D] = 0
    y = net(x)
    z = z[t-1] - 0.1 * grad(sum[D](square(y - z[t-1])), z[t-1])
    output z
"""
    assert agrees(text, {"D": 3}).calls


def test_in_a_repeat_with_a_parameter_per_step() -> None:
    agrees(
        """
layer M(D, N):
    input x: [D]
    repeat n in N:
        param w: [D] = 1
        state z: [D] = x
        energy = sum[D](square(square(z[n-1]) - w * x))
        z = z[n-1] - 0.01 * grad(energy, z[n-1])
    output z[n = N]
""",
        {"D": 3, "N": 4},
    )


def test_what_does_not_depend_has_a_gradient_of_zero() -> None:
    text = HEAD + (
        "    M = M[t-1] + k * v\n    output grad(sum[V](square(v)), M[t-1])\n"
    )
    _, pairs = both(text)
    for before, after in pairs:
        assert before.shape == after.shape and not after.any()


def test_a_model_without_gradients_is_left_alone() -> None:
    model = elaborate_text(HEAD + "    M = M[t-1] + k * v\n    output M\n")
    assert expand_grad(model) is model


def test_a_loop_inside_a_gradient_is_refused() -> None:
    text = """
layer M(D, N):
    input x: [D]
    state z: [D] = 0
    repeat n in N:
        state u: [D] = z[t-1]
        u = tanh(u[n-1])
    z = z[t-1] - grad(sum[D](u[n = N]), z[t-1])
    output z
"""
    with pytest.raises(SpecError, match="E0315") as caught:
        expand_grad(elaborate_text(text))
    assert caught.value.diagnostics[0].span is not None


# ---- Random losses

UNARY = (
    "square({})",
    "tanh({})",
    "exp(0.2 * {})",
    "sigmoid({})",
    "abs({})",
    "-{}",
    "softmax[D]({} + 0 * x)",
    "cumsum[D]({} + 0 * x)",
    "logsumexp[D]({} + 0 * x)",
    "roll[D]({} + 0 * x, 1)",
    "dot[J](U, ({} + 0 * x).(D -> J))",
)
BINARY = (
    "({} + {})",
    "({} - {})",
    "({} * {})",
    "({} / (2 + square({})))",
    "max({}, {})",
    "where(x > 0, {}, {})",
)


def losses(depth: int, *names: str) -> st.SearchStrategy[str]:
    atoms = st.sampled_from(("z[t-1]", "z[t-1]", "x", "a", "2", *names))
    if depth == 0:
        return atoms
    below = losses(depth - 1, *names)
    one = st.tuples(st.sampled_from(UNARY), below).map(_filled)
    two = st.tuples(st.sampled_from(BINARY), below, below).map(_filled)
    return st.one_of(one, two, atoms)


def _filled(parts: tuple[str, ...]) -> str:
    form, *args = parts
    return form.format(*args)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(losses(2), losses(2, "u"), losses(2, "u", "g"))
def test_random_losses(u: str, first: str, second: str) -> None:
    agrees(
        f"""
layer M(D):
    input x: [D]
    input a: []
    dim J = D
    param U: [D, J]
    state z: [D] = 0.1
    u = {u} + 0 * x
    g = tanh(grad(sum[D]({first} + 0 * x), z[t-1]))
    z = 0.5 * z[t-1] - 0.1 * tanh(grad(sum[D]({second} + 0 * x), z[t-1]))
    output z
    output g
""",
        {"D": 3},
    )
