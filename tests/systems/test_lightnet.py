"""LightNet: additive linear recurrence, over time and over several axes at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from systems_case import (
    changed,
    make,
    noise,
    numbers,
    pieces,
    same,
    seeded,
    shaken,
    std,
    stepped,
    strategies,
    text_of,
    train,
    verdicts,
)
from torch import Tensor

import seqdsl

LIGHT = std("lightnet")
CELL = {"heads": 2, "K": 3, "V": 4}


def given(time: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (noise(batch, time, 2, n, seed=i) for i, n in enumerate((3, 3, 4)))
    return q, 3 * k, v


def prefix_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every key channel is a softmax over the prefix."""
    rows: list[Tensor] = []
    for t in range(q.shape[1]):
        p = k[:, : t + 1].softmax(1)
        S = torch.einsum("bshk,bshv->bhkv", p, v[:, : t + 1])
        rows.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S))
    return torch.stack(rows, 1)


def test_both_recurrences_are_scans_and_the_log_sum_has_identity_structure() -> None:
    found = verdicts(LIGHT.LightNetCell)
    assert (found["z"].structure, found["z"].semiring) == ("identity", "log")
    assert (found["S"].structure, found["S"].semiring) == ("diagonal", "real")


def test_commutativity_is_found_by_the_checker() -> None:
    """Steps of LightNet may come in any order, so one pass does for any number of axes;
    those of a multiplicative gate may not.
    """
    assert all(v.commutes for v in verdicts(LIGHT.LightNetCell).values())
    assert all(v.commutes for v in verdicts(LIGHT.LightNet).values())
    assert not verdicts(std("gla").GLA)["S"].commutes
    assert not verdicts(std("retnet").Retention)["S"].commutes


@pytest.mark.parametrize("time", [1, 5, 13])
def test_oracle_the_causal_form_is_a_softmax_over_every_prefix(time: int) -> None:
    data = given(time)
    for name, module in strategies(LIGHT.LightNetCell, CELL):
        same(module(*data), prefix_softmax(*data), name)


def test_the_input_gate_is_tied_to_the_decay() -> None:
    """S = gamma S + (1 - gamma) v: gated linear attention whose gates sum to 1."""
    q, k, v = given(9)
    memory, rows = torch.zeros(2, 2, 3, 4, dtype=torch.float64), list[Tensor]()
    z = torch.full((2, 2, 3), -torch.inf, dtype=torch.float64)
    for t in range(9):
        after = torch.logaddexp(z, k[:, t])
        gamma = (z - after).exp()[..., None]
        memory = gamma * memory + (1 - gamma) * v[:, t, :, None]
        rows.append(torch.einsum("bhk,bhkv->bhv", q[:, t], memory))
        z = after
    same(make(LIGHT.LightNetCell, **CELL)(q, k, v), torch.stack(rows, 1))


# ---- Several axes


def grid(**options: Any) -> Any:
    sizes = {"D": 8, "heads": 2, "I": 3, "J": 4, "rank": 2}
    return shaken(make(LIGHT.LightNet2D, **sizes, **options))


def test_the_whole_grid_is_the_last_step_of_the_causal_form() -> None:
    module, x = grid(encoded=False), noise(1, 1, 3, 4, 8)
    flat = x.reshape(1, 12, 8)
    shape = (1, 12, 2, 4)
    q, k, v = (
        (flat @ getattr(module, n).weight.reshape(8, 8).mT).view(shape) for n in "qkv"
    )
    cell = make(LIGHT.LightNetCell, heads=2, K=4, V=4)
    query = torch.nn.functional.silu(q[:, -1:])
    last = cell(query.expand(shape), k, v)[:, -1]
    S = torch.einsum("bshk,bshv->bhkv", k.softmax(1), v)
    same(last, torch.einsum("bhk,bhkv->bhv", query[:, 0], S))


def test_one_pass_does_not_depend_on_the_order_of_the_cells() -> None:
    module, x = grid(encoded=False), noise(1, 1, 3, 4, 8)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))

    def permuted(y: Tensor) -> Tensor:
        return y.reshape(1, 1, 12, 8)[:, :, order].reshape(y.shape)

    same(module(permuted(x)), permuted(module(x)))


def test_near_miss_a_multiplicative_gate_depends_on_the_order() -> None:
    """The last state of GLA changes when the tokens before are permuted; LightNet's not."""
    x = noise(1, 9, 8)
    order = [3, 0, 7, 1, 5, 2, 6, 4, 8]
    light = shaken(make(LIGHT.LightNet, D=8, heads=2))
    gla = shaken(make(std("gla").GLA, D=8, heads=2))
    same(light(x)[:, -1], light(x[:, order])[:, -1])
    assert (gla(x)[:, -1] - gla(x[:, order])[:, -1]).abs().max() > 1e-3


ENCODINGS = """
layer Encoded(I = 5, J = 6, K = 8, K2 = 2 * K):
    input x: [K]
    y = x * (1 + 0 * index[I] * index[J])
    output narrow = lrpe[I, J, K](y)
    output wide = cosine[I, J, K, K2](y)
"""


@pytest.mark.parametrize("which", [0, 1])
def test_md_lrpe_depends_on_the_difference_along_each_axis(which: int) -> None:
    module = make(seqdsl.loads(text_of("lightnet") + ENCODINGS).Encoded)
    q, k = (module(noise(1, 1, 8, seed=s))[which][0, 0] for s in (0, 1))
    places = [q.shape.index(5), q.shape.index(6)]
    q, k = (x.movedim(places, (0, 1)) for x in (q, k))
    scores = torch.einsum("ijk,mnk->ijmn", q, k)
    same(scores[0, 0, 1, 2], scores[3, 3, 4, 5])
    same(scores[2, 1, 0, 0], scores[4, 4, 2, 3])
    for other in (scores[3, 3, 3, 5], scores[3, 3, 4, 4]):
        assert (scores[0, 0, 1, 2] - other).abs() > 1e-3


def answered(spec: Any) -> Tensor:
    """Where the position encoding of a grid answers a delta at (1, 2)."""
    module = shaken(make(spec.TPE2D, D=2, I=4, J=5))
    x = torch.zeros(1, 1, 4, 5, 2, dtype=torch.float64)
    x[0, 0, 1, 2] = 1
    return module(x)[0, 0].abs().amax(-1) > 1e-9


def test_md_tpe_answers_a_delta_on_its_two_rays() -> None:
    rays = torch.zeros(4, 5, dtype=torch.bool)
    rays[1:, 2] = True
    rays[1, 2:] = True
    assert torch.equal(answered(LIGHT), rays)


def test_near_miss_a_full_filter_of_two_axes_answers_in_a_quadrant() -> None:
    """One filter after the other instead of their sum."""
    full = changed("lightnet", ("filtered[J, R](x, gain", "filtered[J, R](x + a, gain"))
    quadrant = torch.zeros(4, 5, dtype=torch.bool)
    quadrant[1:, 2:] = True
    assert torch.equal(answered(full), quadrant)


# ---- One axis


def test_the_new_share_falls_like_1_over_t() -> None:
    """t times the mean of 1 - gamma stays near 1 for exchangeable keys."""
    k = noise(1, 2000, 512)
    z = k.logcumsumexp(1)
    share = 1 - (z[:, :-1] - z[:, 1:]).exp()
    for t in (10, 100, 1000, 1999):
        assert 0.8 < t * float(share[0, t - 1].mean()) < 1.3


def test_streaming_carries_z_and_s() -> None:
    module = shaken(make(LIGHT.LightNet, D=8, heads=2))
    x = noise(1, 9, 8)
    whole, state = module(x, return_state=True)
    same(stepped(module, x)[0], whole)
    for cut in (1, 4, 8):
        same(pieces(module, (cut,), x), whole)
    assert numbers(state) == 2 * (4 + 4 * 4)


# ---- Training

QUADRANT = """
layer Quadrant(D = 32, I = 8, J = 8, encoded = true):
    input x: [I, J]
    y = x * param([D], normal(0, 1)) + param([D], normal(0, 1))
    o = y + LightNet2D(y, heads = 2, I = I, J = J, encoded = encoded)
    u = relu(linear[D](o, 64))
    output linear(mean[I, J](u), 4)
"""


@pytest.mark.slow
@pytest.mark.parametrize("encoded", [True, False])
def test_tiny_training_finds_the_fullest_quadrant(encoded: bool) -> None:
    seeded(0)
    text = text_of("lightnet") + QUADRANT
    module = seqdsl.loads(text).Quadrant(encoded=encoded)
    source = torch.Generator().manual_seed(1)

    def batch(rows: int) -> tuple[Tensor, Tensor]:
        label = torch.randint(0, 4, (rows,), generator=source)
        chance = torch.full((rows, 2, 4, 2, 4), 0.3)
        chance[torch.arange(rows), label // 2, :, label % 2] = 0.6
        x = torch.bernoulli(chance, generator=source)
        most = x.sum((2, 4)).flatten(1)
        return x.reshape(rows, 1, 8, 8), most.argmax(1)

    def loss() -> Tensor:
        x, label = batch(64)
        return torch.nn.functional.cross_entropy(module(x)[:, 0], label)

    train(module, 500, loss, 1e-2)
    x, label = batch(1000)
    right = float((module(x)[:, 0].argmax(1) == label).double().mean())
    assert right >= 0.9 if encoded else right <= 0.4
