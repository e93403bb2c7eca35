"""Members of the family of linear recurrences that are special cases of others.

Where two layers differ in what stands around the memory, their states are compared.
"""

from __future__ import annotations

from typing import Any

import pytest
import stdlib_plain as plain
import torch
from stdlib_case import BATCH, TIME, noise
from torch import Tensor

import seqdsl
from seqdsl.analysis import analyze
from seqdsl.elaborate import elaborate, elaborate_text, load_std


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def made(file: str, layer: str, **options: Any) -> Any:
    """A layer in double precision, its parameters a little off their initial values."""
    module = getattr(getattr(seqdsl.std, file), layer)(dtype=torch.float64, **options)
    for i, value in enumerate(module.parameters()):
        value.data += 0.1 * noise(*value.shape, seed=i)
    return module


def share(target: Any, source: Any, *keys: str) -> None:
    """Parameters of `source` in `target`, under the same keys."""
    theirs, own = source.state_dict(), target.state_dict()
    target.load_state_dict(
        {**own, **{k: theirs[k].reshape(own[k].shape) for k in keys}}
    )


def states(module: Any, x: Tensor) -> Tensor:
    """The memory `S` after every step."""
    found: list[Tensor] = []
    state = module.initial_state(batch=len(x))
    for t in range(x.shape[1]):
        _, state = module.step(x[:, t], state)
        found.append(state["S"])
    return torch.stack(found, 1)


PROJECTED = ("q_x.weight", "k_x.weight", "v_x.weight")
CONVOLVED = tuple(f"{n}_shortconv.filter.weight" for n in "qkv")


def test_gla_with_equal_channels_is_a_scalar_decay() -> None:
    text = (load_std("gla").spec.source.text).replace(
        "[heads, K])) / tau", "heads)) / tau"
    )
    scalar = seqdsl.loads(text).GLA(D=6, heads=2, K=3, rank=2, dtype=torch.float64)
    (verdict,) = scalar.verdicts
    assert verdict.structure == "scalar"
    gla = made("gla", "GLA", D=6, heads=2, K=3, rank=2)
    for part in ("weight", "bias"):
        value = gla.get_parameter(f"log_alpha_linear.{part}")
        value.data[:] = value.data[:, :1]
    weights = gla.state_dict()
    for part in ("weight", "bias"):
        name = f"log_alpha_linear.{part}"
        weights[name] = weights[name][:, 0]
    scalar.load_state_dict(weights)
    x = noise(BATCH, TIME, 6)
    close(gla(x), scalar(x))


def test_kda_with_equal_channels_is_gated_deltanet() -> None:
    gated = made("gated_deltanet", "GatedDeltaNet", D=6, heads=2, V=3)
    kda = made("kda", "KDA", D=6, heads=2)
    share(kda, gated, *PROJECTED, *CONVOLVED, "A_log", "b.weight")
    # one decay for all channels: rank V = 3 is enough for the map of two heads
    a = gated.a.weight.data[:, 0]
    kda.f_x.weight.data[:] = torch.cat([a, torch.zeros(1, 6)])
    kda.f_linear.weight.data[:] = torch.eye(3)[:2, None].expand(2, 3, 3)
    kda.dt_bias.data[:] = gated.dt_bias.data
    x = noise(BATCH, TIME, 6)
    close(states(kda, x), states(gated, x)[:, :, :, 0])


def test_gated_deltanet_without_decay_is_deltanet() -> None:
    gated = made("gated_deltanet", "GatedDeltaNet", D=6, heads=2, V=3)
    gated.A_log.data[:] = -1000
    delta = made("deltanet", "DeltaNet", D=6, heads=2)
    share(delta, gated, *PROJECTED, *CONVOLVED)
    delta.beta.weight.data[:] = gated.b.weight.data[:, 0]
    x = noise(BATCH, TIME, 6)
    close(states(delta, x), states(gated, x)[:, :, :, 0])


def test_rwkv7_at_full_rate_is_a_delta_rule() -> None:
    """a = 1, no decay, keys of length one: each token replaces what its key returns."""
    layer = made("rwkv7", "RWKV7", D=4, K=4, is_first=True)
    for name, value in (("w0", -1000.0), ("a0", 1000.0)):
        layer.get_parameter(name).data[:] = value
    layer.k_k.data[:] = 1
    layer.mu.data[2] = 0
    layer.k0.weight.data[0] = torch.eye(4)
    x = torch.nn.functional.normalize(noise(BATCH, TIME, 4), dim=-1)
    mixed = x + (plain.before(x) - x) * layer.mu[3]
    k, v = x[:, :, None], (mixed @ layer.own.weight.T)[:, :, None]
    ones = torch.ones((), dtype=torch.float64)
    read = noise(BATCH, 4, seed=4)[:, None, None].expand(BATCH, TIME, 1, 4)
    _, state = layer(x, x, return_state=True)
    expected = plain.delta(read, k, v, ones.expand(k.shape[:-1]), ones)[:, -1]
    found = torch.einsum("bhk,bhkv->bhv", read[:, -1], state["S"])
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


LEARNER = """
layer Learner(K, V):
    input k: [K]
    input v: [V]
    input eta: []
    state W: [K, V] = 0
    loss = sum[V](square(dot[K](k, W[t-1]) - v)) / 2
    W = W[t-1] - eta * grad(loss, W[t-1])
    output W
"""


def test_a_linear_learner_is_a_delta_rule() -> None:
    """TTT without layer norm, on mini-batches of one token."""
    (verdict,) = analyze(elaborate_text(LEARNER)).verdicts
    assert verdict.structure == "scalar_plus_low_rank"
    k, v = noise(BATCH, TIME, 3), noise(BATCH, TIME, 2, seed=1)
    eta = noise(BATCH, TIME, seed=2).sigmoid()
    learner: Any = seqdsl.loads(LEARNER).Learner(K=3, V=2, dtype=torch.float64)
    ones = torch.ones((), dtype=torch.float64)
    read = noise(BATCH, TIME, 1, 3, seed=3)
    expected = plain.delta(read, k[:, :, None], v[:, :, None], eta[..., None], ones)
    found = torch.einsum("btk,btkv->btv", read[:, :, 0], learner(k, v, eta))
    close(found, expected[:, :, 0])


def test_mlstm_does_not_depend_on_its_stabilizer() -> None:
    """A state whose m is larger by c, and C and n smaller by exp(c), is the same state."""
    cell: Any = seqdsl.std.mlstm.MLSTMCell(heads=2, K=3, V=2, dtype=torch.float64)
    q, k = noise(BATCH, TIME, 2, 3), noise(BATCH, TIME, 2, 3, seed=1)
    v = noise(BATCH, TIME, 2, 2, seed=2)
    i, f = (4 * noise(BATCH, TIME, 2, seed=s) for s in (3, 4))
    _, state = cell(q, k, v, i, f, return_state=True)
    shift = 7 * noise(BATCH, 2, seed=5)
    moved = dict(state)
    moved["m"] = state["m"] + shift
    moved["C"] = state["C"] * torch.exp(-shift)[..., None, None]
    moved["n"] = state["n"] * torch.exp(-shift)[..., None]
    torch.testing.assert_close(
        cell(q, k, v, i, f, state=state), cell(q, k, v, i, f, state=moved)
    )


HOUSEHOLDER = """
layer Householder(K):
    input k: [K]
    input beta: []
    state S: [K] = 1
    S = S[t-1] - beta * k * dot[K](k, S[t-1])
    output S
"""


def test_a_strength_of_two_reflects() -> None:
    """The state's sign is the parity of the ones so far; up to strength 1 it never turns."""
    module: Any = seqdsl.loads(HOUSEHOLDER).Householder(K=1, dtype=torch.float64)
    bits = (noise(BATCH, 40) > 0).double()
    k = torch.ones(BATCH, 40, 1, dtype=torch.float64)
    parity = 1 - 2 * (bits.cumsum(1) % 2)
    close(module(k, 2 * bits)[..., 0], parity)
    assert (module(k, bits * noise(BATCH, 40, seed=1).sigmoid()) > 0).all()


@pytest.mark.parametrize(
    ("file", "layer"),
    [("deltanet", "DeltaNet"), ("kda", "KDA"), ("longhorn", "ExactLonghorn")],
)
def test_an_erasing_memory_is_not_diagonal(file: str, layer: str) -> None:
    analyzed = analyze(elaborate(load_std(file), layer).model)
    (verdict,) = [v for v in analyzed.verdicts if v.recurrence.states == ("S",)]
    assert verdict.structure is not None and "low_rank" in verdict.structure
    assert verdict.rank == 1
