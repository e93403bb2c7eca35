"""Memory caching: recurrences whose states at the ends of segments are kept."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from systems_case import (
    changed,
    make,
    moved_by,
    noise,
    numbers,
    pieces,
    same,
    shaken,
    std,
    stepped,
    text_of,
    verdicts,
)
from torch import Tensor

import seqdsl

MC = std("memory_caching")
K, V, T = 3, 4, 11
BASES = ("LinearBase", "WindowBase", "GradientBase")
SIZES = {"K": K, "V": V}
Given = tuple[Tensor, ...]


def given(time: int = T, every: int = 4, batch: int = 2) -> Given:
    """q, k, v, u, tokens to pool, and where segments end."""
    q, k, v, u = (noise(batch, time, n, seed=i) for i, n in enumerate((K, K, V, K)))
    ends = ((torch.arange(time) + 1) % every == 0).expand(batch, time)
    return q, k, v, u, k, ends


def caching(variant: str, base: str = "LinearBase", **options: Any) -> Any:
    if variant == "sparse":
        layer: Any = MC.SparseCaching
    else:
        layer, options = MC.Caching, {**options, "variant": variant}
    return make(layer, **SIZES, base=getattr(MC, base), **options)


def deep(**options: Any) -> Any:
    return shaken(make(MC.DeepCaching, **SIZES, F=5, **options))


def memory(base: str, data: Given, checkpoint: bool = False) -> Tensor:
    """The memory after every step, restarted where a segment begins."""
    first = torch.zeros_like(data[5])
    if not checkpoint:
        first[:, 1:] = data[5][:, :-1]
    first[:, 0] = True
    return make(getattr(MC, base), **SIZES)(data[1], data[2], first)


# ---- Verdicts


@pytest.mark.parametrize("base", BASES)
def test_the_class_of_the_base_does_not_change(base: str) -> None:
    alone = verdicts(getattr(MC, base))["M"]
    inside = verdicts(MC.Caching, {**SIZES, "base": getattr(MC, base)})["M"]
    assert alone.verdict == inside.verdict == "scannable"
    assert alone.structure == inside.structure


def test_the_deep_memory_runs_in_parallel_where_segments_begin_anew() -> None:
    found = verdicts(MC.DeepCaching)["W1, W2"]
    assert found.verdict == "sequential"
    assert "silu" in found.reasons[0].message or "silu" in str(found.reasons)


# ---- Equivalences


def test_linear_memory_with_residual_reading_is_linear_attention() -> None:
    q, k, v, *_ = data = given()
    expected = torch.einsum("btk,bsk,bsv->btsv", q, k, v)
    expected = (expected * torch.ones(T, T).tril()[:, :, None]).sum(2)
    same(caching("residual")(*data), expected)


@pytest.mark.parametrize("base", BASES)
def test_soup_equals_the_gate_for_matrix_memories(base: str) -> None:
    data = given()
    same(caching("soup", base)(*data), caching("gated", base)(*data))


def test_soup_differs_from_the_gate_for_a_deep_memory() -> None:
    data = given()
    soup, gated = deep(soup=True), deep()
    soup.load_state_dict(gated.state_dict())
    assert (soup(*data) - gated(*data)).abs().max() > 1e-3


@pytest.mark.parametrize("base", BASES)
def test_picking_all_cached_memories_is_the_gate(base: str) -> None:
    data = given()
    same(caching("sparse", base, picks=T)(*data), caching("gated", base)(*data))
    few = caching("sparse", base, picks=1)(*data)
    differs = (few - caching("gated", base)(*data)).abs().amax((0, 2)) > 1e-6
    assert differs.tolist() == [t >= 8 for t in range(T)]


@pytest.mark.parametrize("variant", ["residual", "gated", "soup", "sparse"])
@pytest.mark.parametrize("base", BASES)
def test_one_segment_is_the_base(variant: str, base: str) -> None:
    data = given(every=100)
    expected = torch.einsum("btk,btkv->btv", data[0], memory(base, data))
    same(caching(variant, base)(*data), expected)


def test_constant_gates_are_the_residual_form_scaled() -> None:
    q, k, v, u, token, ends = given()
    y = caching("gated")(q, k, v, 0 * u, token, ends)
    read = 1 + torch.arange(T) // 4
    expected = caching("residual")(q, k, v, u, token, ends) / read[:, None]
    same(y, expected)


def test_checkpoints_count_early_segments_several_times() -> None:
    q, k, v, _, _, ends = data = given()
    segment = torch.arange(T) // 4
    ramp = (segment[:, None] - segment[None, :] + 1).clamp(0).double()
    weight = ramp * torch.ones(T, T).tril()
    expected = torch.einsum("btk,bsk,ts,bsv->btv", q, k, weight, v)
    same(caching("residual", checkpoint=True)(*data), expected)
    assert ends.any()


SEGMENTS = """
layer Ends(L):
    input x: []
    output float(binary_parts(L)) + 0 * x
"""


@pytest.mark.parametrize(
    ("length", "parts"), [(37, [32, 4, 1]), (8, [8]), (7, [4, 2, 1])]
)
def test_logarithmic_segments(length: int, parts: list[int]) -> None:
    spec = seqdsl.loads(text_of("memory_caching") + SEGMENTS)
    ends = make(spec.Ends, L=length)(torch.zeros(1, length).double())[0].nonzero()[:, 0]
    starts = torch.cat([torch.tensor([-1]), ends])
    assert torch.equal(starts[1:] - starts[:-1], torch.tensor(parts))


# ---- The gate does not collapse


def test_no_fixed_matrix_reproduces_the_gated_reading() -> None:
    """The same history, two present tokens: a matrix fitted to one fails on the other."""
    _, k, v, _, token, ends = given(time=9, batch=1)
    questions = noise(K + 2, K, seed=7)
    module = caching("gated")

    def last(u: Tensor) -> Tensor:
        rows: list[Tensor] = []
        for q in questions:
            asked = torch.zeros(1, 9, K, dtype=torch.float64)
            asked[0, -1] = q
            rows.append(module(asked, k, v, u.expand(1, 9, K), token, ends)[0, -1])
        return torch.stack(rows)

    one, two = last(noise(K, seed=8)), last(3 * noise(K, seed=9))
    inverse = cast("Tensor", torch.linalg.pinv(questions))  # pyright: ignore
    fitted = inverse @ one
    same(questions @ fitted, one, within=1e-9)
    assert (questions @ fitted - two).abs().max() > 1e-3


# ---- Capacity without training


def capacity(variant: str, seed: int) -> float:
    """128 pairs in segments of 16 that share a direction: share of values recalled."""
    pairs, d, size = 128, 16, 16
    unit = torch.nn.functional.normalize
    direction = unit(noise(pairs // size, d, seed=seed), dim=-1)
    keys = unit(noise(pairs, d, seed=100 + seed), dim=-1)
    keys = unit(keys + direction.repeat_interleave(size, 0), dim=-1)
    values = unit(noise(pairs, d, seed=200 + seed), dim=-1)
    ends = (torch.arange(pairs) + 1) % size == 0
    layer: Any = MC.SparseCaching if variant == "sparse" else MC.Caching
    more: dict[str, Any] = {"picks": 1} if variant == "sparse" else {"variant": variant}
    module = make(layer, K=d, V=d, **more)
    silent = torch.zeros(pairs, d, dtype=torch.float64)
    zero = torch.zeros(pairs, dtype=torch.bool)
    _, state = module(
        *(x[None] for x in (silent, keys, values, silent, keys, ends)),
        return_state=True,
    )
    y = module(
        *(x[None] for x in (keys, silent, silent, 8 * keys, silent, zero)), state=state
    )[0]
    nearest = (y @ values.mT).argmax(1)
    return float((nearest == torch.arange(pairs)).double().mean())


def test_capacity_grows_with_gates() -> None:
    mean = {
        variant: sum(capacity(variant, seed) for seed in range(10)) / 10
        for variant in ("residual", "gated", "sparse")
    }
    assert mean["gated"] >= 2 * mean["residual"], mean
    assert mean["sparse"] >= 2 * mean["residual"], mean


# ---- Causality and streaming

WAYS = [
    *[(v, b, c) for v in ("residual", "gated", "soup", "sparse") for b in BASES[::2]
      for c in (False, True)],
    ("gated", "WindowBase", False), ("gated", "WindowBase", True),
    ("deep", "gated", False), ("deep", "gated", True),
    ("deep", "soup", False), ("deep", "soup", True),
]  # fmt: skip


def way(variant: str, base: str, checkpoint: bool) -> Any:
    if variant == "deep":
        return deep(soup=base == "soup", checkpoint=checkpoint)
    return caching(variant, base, checkpoint=checkpoint)


@pytest.mark.parametrize(("variant", "base", "checkpoint"), WAYS)
def test_streaming_equals_the_full_sequence(
    variant: str, base: str, checkpoint: bool
) -> None:
    module, data = way(variant, base, checkpoint), given(time=9)
    whole = module(*data)
    same(stepped(module, *data)[0], whole, within=1e-10)
    same(pieces(module, (3, 4), *data), whole, within=1e-10)


@pytest.mark.parametrize(("variant", "base", "checkpoint"), WAYS[::3])
def test_the_state_grows_with_segments_and_not_with_tokens(
    variant: str, base: str, checkpoint: bool
) -> None:
    """After every whole segment of 4 one memory more and what its gate reads."""
    module, data = way(variant, base, checkpoint), given(time=16)
    sizes: list[int] = []
    state = module.initial_state(batch=2, dtype=torch.float64)
    for t in range(16):
        _, state = module.step(*(x[:, t] for x in data), state=state)
        sizes.append(numbers(state))
    _, whole = module(*data, return_state=True)
    assert numbers(whole) == sizes[-1]
    growth = [b - a for a, b in pairwise(sizes)]
    (each,) = {g for t, g in enumerate(growth, 1) if t % 4 == 3}
    assert {g for t, g in enumerate(growth, 1) if t % 4 != 3} == {0}
    memories = K * 5 + 5 * V if variant == "deep" else K * V
    descriptors = {"residual": 0, "sparse": 2 * K}.get(variant, K)
    assert each == memories + descriptors


def test_rows_whose_segments_end_at_different_steps_stream_together() -> None:
    module, data = caching("gated"), given(time=12)
    data[5][0] = (torch.arange(12) + 1) % 3 == 0
    ids = torch.tensor([[0] * 5 + [1] * 7, [0] * 12])
    whole, out, state = module(*data, segments=ids), list[Tensor](), None
    for piece in (slice(0, 0), slice(0, 4), slice(4, 7), slice(7, 7), slice(7, 12)):
        part = [x[:, piece] for x in data]
        y, state = module(*part, state=state, segments=ids[:, piece], return_state=True)
        out.append(y)
    same(torch.cat(out, 1), whole)
    assert state is not None
    # segments end at 8 and 11 in the first row, at 3, 7 and 11 in the second
    assert state["past_t"].shape[1] == 4
    same(whole[:1, 5:], module(*(x[:1, 5:] for x in data)))


@pytest.mark.parametrize("variant", ["gated", "soup", "sparse"])
def test_no_output_depends_on_a_later_token(variant: str) -> None:
    spec, more = MC, dict[str, Any](variant=variant)
    if variant == "sparse":
        call = "(q, k, v, u, x, every(C), variant = variant, base = base)"
        spec = changed(
            "memory_caching",
            ("Caching" + call, "SparseCaching(q, k, v, u, x, every(C), base = base)"),
            (', C = 256, variant = "gated", base', ", C = 256, base"),
        )
        more = dict[str, Any]()
    module = make(spec.MemoryCaching, D=4, K=3, V=3, C=4, **more)
    for place in (5, 7, 8):
        found = moved_by(module, noise(1, 10, 4), place)
        assert not found[:place].any() and found[place:].all()


def test_near_miss_the_pool_of_the_whole_segment_sees_the_future() -> None:
    wrong = changed(
        "memory_caching",
        (
            "    output mean_ = total / n",
            "    output mean_ = (total + token[t+1]) / (n + 1)",
        ),
    )
    module = make(wrong.MemoryCaching, D=4, K=3, V=3, C=4)
    assert moved_by(module, noise(1, 10, 4), 6)[5]
