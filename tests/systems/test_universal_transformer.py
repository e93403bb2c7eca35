"""Universal Transformers: depth recurrence with halting at each position."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from systems_case import (
    changed,
    make,
    noise,
    same,
    seeded,
    set_all,
    shaken,
    std,
    text_of,
    train,
    verdicts,
)
from torch import Tensor

import seqdsl

UT = std("universal_transformer")
SIZES = {"D": 4, "heads": 2, "F": 6}


def places(time: int, start: int = 1, rows: int = 1) -> Tensor:
    return torch.arange(start, start + time).expand(rows, time)


def adaptive(**options: Any) -> Any:
    return shaken(make(UT.AdaptiveUniversal, **{**SIZES, "N": 6, **options}))


def halting(p: float, **options: Any) -> Any:
    """A module that halts with probability `p` at every step, whatever it sees."""
    return set_all(adaptive(**options), {"halt.w": 0, "halt.b": log(p / (1 - p))})


def total(p: float, **options: Any) -> tuple[float, float, float]:
    """Sum of the output's coefficients, steps used and remainder.

    The block returns its last norm's bias when that norm has no weight, so that the
    output is this bias times the sum.
    """
    module = halting(p, **options)
    (bias,) = [n for n in module.state_dict() if n == "block.out_layernorm.bias"]
    set_all(module, {bias: 1, bias.replace("bias", "weight"): 0})
    y = module(noise(1, 3, 4), places(3))
    o, used, remainder = (v.detach() for v in y[:3])
    same(o, o[:, :1, :1].expand_as(o))
    return float(o[0, 0, 0]), float(used[0, 0]), float(remainder[0, 0])


# ---- The verdict


def test_depth_is_sequential() -> None:
    found = verdicts(UT.UniversalTransformer)
    assert found["h"].verdict == "sequential"
    assert found["h"].recurrence.axis == "n"


# ---- Fixed depth

UNTIED = """
layer Untied(D, heads, F, N):
    input x: [D]
    input place: int
    repeat n in N:
        state h: [D] = x
        h = EncoderBlock(h[n-1] + coordinates[D](place, n), heads = heads, F = F) as block
    output h[n = N]
"""


def test_fixed_depth_equals_layers_that_hold_the_same_arrays() -> None:
    spec = seqdsl.loads(text_of("universal_transformer") + UNTIED)
    tied = shaken(make(spec.UniversalTransformer, **SIZES, N=3))
    layers = make(spec.Untied, **SIZES, N=3)
    weights = dict(tied.named_parameters())
    for name, value in layers.named_parameters():
        value.data = weights["block." + name.split(".", 3)[3]].detach().clone()
    x = noise(2, 5, 4)
    y, z = (m(x, places(5, rows=2)) for m in (tied, layers))
    same(y, z, within=1e-10)
    weigh = noise(*y.shape, seed=1)
    (y * weigh).sum().backward()
    (z * weigh).sum().backward()
    untied = dict(layers.named_parameters())
    for name, value in weights.items():
        rest = name.removeprefix("block.")
        parts = [v.grad for n, v in untied.items() if n.split(".", 3)[3] == rest]
        assert len(parts) == 3
        same(value.grad, torch.stack(parts).sum(0), name, within=1e-10)


def coordinates(place: Tensor, n: int) -> Tensor:
    j = 2 * (torch.arange(4) // 2)
    rate = 10000 ** (j / 4).double()
    a, b = place[..., None] / rate, n / rate
    return torch.where(torch.arange(4) % 2 == 0, a.sin() + b.sin(), a.cos() + b.cos())


def test_one_step_is_one_layer_with_coordinates() -> None:
    module = shaken(make(UT.UniversalTransformer, **SIZES, N=1))
    x, place = noise(1, 5, 4), places(5)
    same(module(x, place), module.block(x + coordinates(place, 1)))


# ---- Halting


def test_oracle_three_steps_of_0_4() -> None:
    assert total(0.4) == pytest.approx((0.712, 3, 0.2), abs=1e-12)
    assert total(0.4, rule="sum") == pytest.approx((1, 3, 0.2), abs=1e-12)


def test_oracle_one_step_of_0_995() -> None:
    for rule in ("interpolate", "sum"):
        assert total(0.995, rule=rule) == pytest.approx((1, 1, 1), abs=1e-12)


def test_oracle_twenty_steps_of_0_05() -> None:
    weight, used, _ = total(0.05, N=30)
    assert weight == pytest.approx(1 - 0.95**20, abs=1e-12)
    assert round(weight, 4) == 0.6415 and used == 20
    assert total(0.05, N=30, rule="sum")[0] == pytest.approx(1, abs=1e-12)


def test_the_cap_adds_no_remainder() -> None:
    weight, used, remainder = total(0.01, N=5, rule="sum")
    assert (weight, used, remainder) == pytest.approx((0.05, 5, 0), abs=1e-12)


def loops(module: Any, x: Tensor, place: Tensor, rule: str) -> Tensor:
    """The published listing, position by position."""
    time = x.shape[1]
    q, r, n = (torch.zeros(1, time, dtype=torch.float64) for _ in range(3))
    h, o = x, torch.zeros_like(x)
    for step in range(1, module.N + 1):
        s = h + coordinates(place, step)
        p = module.halt(s)
        running = (q < 1).double()
        halt = running * (q + p > 0.99).double()
        go = running - halt
        q = q + p * go
        r = r + halt * (1 - q)
        q = q + halt * r
        n = n + running
        w = (p * go + r * halt)[..., None]
        new = module.block(s)
        o = w * new + (o if rule == "sum" else (1 - w) * o)
        h = new
    return o


@pytest.mark.parametrize("rule", ["interpolate", "sum"])
def test_the_published_listing(rule: str) -> None:
    module = adaptive(rule=rule, frozen_=False)
    x, place = noise(1, 5, 4), places(5)
    same(module(x, place)[0], loops(module, x, place, rule))


def mixed(**options: Any) -> Any:
    """Positions that halt after different numbers of steps."""
    module = adaptive(N=8, **options)
    return set_all(module, {"halt.w": [1.5, -2.0, 2.5, 1.0], "halt.b": -1.5})


def test_frozen_and_updated_positions_differ_for_those_that_run() -> None:
    x, place = noise(1, 4, 4), places(4)
    frozen, updated = mixed(), mixed(frozen_=False)
    a, b = frozen(x, place), updated(x, place)
    assert len(set(a[1][0].tolist())) > 1
    latest = int(a[1][0].argmax())
    assert (a[0] - b[0])[0, latest].abs().max() > 1e-6


@pytest.mark.parametrize("frozen", [True, False])
def test_a_sequence_that_halts_late_changes_no_other(frozen: bool) -> None:
    module = mixed(frozen_=frozen)
    x = noise(6, 4, 4)
    together = module(x, places(4, rows=6))
    counts = together[1].amax(1)
    assert counts.min() < counts.max()
    for row in range(6):
        alone = module(x[row : row + 1], places(4))
        same(together[0][row : row + 1], alone[0])
        same(together[1][row : row + 1], alone[1])


def test_ponder_is_the_mean_of_steps_and_remainders() -> None:
    module = mixed()
    _, used, remainder, ponder = module(noise(1, 4, 4), places(4))
    same(ponder, 0.01 * (used + remainder).mean())
    (gradient,) = torch.autograd.grad(ponder, [module.halt.w])
    assert gradient.abs().max() > 0


# ---- Coordinates


def test_the_step_is_part_of_the_coordinates_and_counts_from_1() -> None:
    module = shaken(make(UT.UniversalTransformer, **SIZES, N=3))
    x, place = noise(1, 5, 4), places(5)
    for change in (("    b = n / rate", "    b = 0 * n"), ("b = n /", "b = (n - 1) /")):
        other = make(
            changed("universal_transformer", change).UniversalTransformer, **SIZES, N=3
        )
        other.load_state_dict(module.state_dict())
        assert (other(x, place) - module(x, place)).abs().max() > 1e-3


def test_permuted_positions_permute_the_outputs() -> None:
    module = mixed()
    x, place = noise(1, 5, 4), places(5, start=17)
    order = torch.tensor([3, 0, 4, 1, 2])
    same(module(x[:, order], place[:, order])[0], module(x, place)[0][:, order])
    assert (
        module(x[:, order], place)[0] - module(x, place)[0][:, order]
    ).abs().max() > 1e-3


# ---- The decoder


def test_the_decoder_streams_with_a_cache_for_every_step() -> None:
    module = shaken(make(UT.UniversalDecoder, **SIZES, N=3, S=5))
    x, place, c = noise(1, 6, 4), places(6), noise(1, 5, 4, seed=2)
    state, outputs = module.initial_state(1), list[Tensor]()
    for t in range(6):
        y, state = module.step(x[:, t], place[:, t], c, state=state)
        outputs.append(y)
    same(torch.stack(outputs, 1), module(x, place, c))
    with pytest.raises(seqdsl.UnsupportedError, match="later"):
        make(UT.UniversalTransformer, **SIZES, N=2).step(x[:, 0], place[:, 0], state={})


# ---- Training

REVERSE = """
layer Reverse(D = 32, heads = 4, F = 64, N = 4):
    input tokens: int
    input place: int
    y = UniversalTransformer(embed(tokens, 6, D), place, heads = heads, F = F, N = N)
    output linear(y, 6)
"""


@pytest.mark.slow
def test_tiny_training_reverses_strings() -> None:
    """4 symbols, up to 6 of them, anywhere among 40 places: 99 % of characters."""
    seeded(0)
    module = seqdsl.loads(text_of("universal_transformer") + REVERSE).Reverse()
    source = torch.Generator().manual_seed(1)

    def batch(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        lengths = torch.randint(1, 7, (rows, 1), generator=source)
        text = torch.randint(2, 6, (rows, 6), generator=source)
        inside = torch.arange(6) < lengths
        text = torch.where(inside, text, 0)
        back = text.gather(1, (lengths - 1 - torch.arange(6)).clamp(0))
        place = torch.randint(1, 40, (rows, 1), generator=source) + torch.arange(6)
        return text, place, torch.where(inside, back, 0), inside

    def loss() -> Tensor:
        text, place, back, inside = batch(128)
        logits = module(text, place)[inside]
        return torch.nn.functional.cross_entropy(logits, back[inside])

    train(module, 1000, loss, 5e-3)
    text, place, back, inside = batch(1000)
    right = (module(text, place).argmax(2) == back)[inside]
    assert right.double().mean() >= 0.99


HOPS = """
layer Hops(P = 6, D = 32, heads = 4, F = 64, N = 6, kinds = 4):
    input pointer: int
    input hops: int
    input place: int
    x = embed(pointer, P, D) + embed(hops, kinds, D) + embed(place - 1, P, D)
    y, used, _rest, ponder = AdaptiveUniversal(x, place, heads = heads, F = F, N = N)
    output linear(y, P)
    output used
    output ponder
"""


@pytest.mark.slow
def test_tiny_training_takes_more_steps_where_the_task_needs_more_hops() -> None:
    """Every place points at another: follow one, two or three pointers, as is asked."""
    seeded(0)
    module = seqdsl.loads(text_of("universal_transformer") + HOPS).Hops()
    source, places_ = torch.Generator().manual_seed(1), torch.arange(1, 7)

    def batch(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pointer = torch.rand(rows, 6, generator=source).argsort(1)
        hops = torch.randint(1, 4, (rows, 1), generator=source)
        goal = pointer
        for n in (2, 3):
            goal = torch.where(hops >= n, pointer.gather(1, goal), goal)
        return pointer, hops.expand(rows, 6), places_.expand(rows, 6), goal

    def loss() -> Tensor:
        *given, goal = batch(64)
        scores, _, ponder = module(*given)
        named = torch.nn.functional.cross_entropy(scores.flatten(0, 1), goal.flatten())
        return named + ponder

    train(module, 900, loss, 3e-3, clip=1.0)
    *given, goal = batch(1000)
    with torch.no_grad():
        scores, used, _ = module(*given)
    right = (scores.argmax(2) == goal).double()
    share, mean = (
        [float(x[given[1] == n].double().mean()) for n in (1, 2, 3)]
        for x in (right, used)
    )
    assert min(share) >= 0.7, share
    assert mean[0] < mean[1] < mean[2] and mean[2] >= mean[0] + 0.3, mean
