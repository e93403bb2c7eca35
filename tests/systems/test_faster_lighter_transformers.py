"""Faster and lighter Transformers: what sees what, at what cost, and whether it streams."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from systems_case import (
    changed,
    linear,
    make,
    moved_by,
    noise,
    numbers,
    pieces,
    same,
    shaken,
    std,
    stepped,
    strategies,
)
from torch import Tensor

import seqdsl

SPARSE, SEGMENTS = std("sparse_attention"), std("segment_memory")
D, HEADS, T = 8, 2, 12
SIZES = {"D": D, "heads": HEADS}
NONE = torch.zeros(1, T, dtype=torch.bool)


def made(layer: Any, **options: Any) -> Any:
    return shaken(make(layer, **SIZES, **options))


def attended(
    module: Any, x: Tensor, *, causal: bool = True, shared: bool = False
) -> Tensor:
    """Full softmax attention with a module's projections."""
    shape = (*x.shape[:2], HEADS, D // HEADS)
    query = module.own if hasattr(module, "own") else module.q
    key = query if shared else getattr(module, "keys", None) or module.k
    q, k, v = (linear(m, x).view(shape) for m in (query, key, module.v))
    if shared:
        k = k * (k.square().sum(-1, keepdim=True) + 1e-6).rsqrt()
    a = torch.einsum("bthk,bshk->bhts", q, k) / (D // HEADS) ** 0.5
    if shared:
        a = a - 1e5 * torch.eye(x.shape[1])
    if causal:
        hidden = torch.ones(a.shape[-2:], dtype=torch.bool).triu(1)
        a = a.masked_fill(hidden, -torch.inf)
    o = torch.einsum("bhts,bshv->bthv", a.softmax(-1), v).flatten(2)
    return linear(module.out, o)


# ---- Degenerate equalities


@pytest.mark.parametrize("causal", [True, False])
def test_longformer_with_a_long_window_is_full_attention(causal: bool) -> None:
    module, x = made(SPARSE.Longformer, window=T, causal=causal), noise(1, T, D)
    same(module(x, NONE), attended(module, x, causal=causal), within=1e-10)
    narrow = make(SPARSE.Longformer, **SIZES, window=3, causal=causal)
    narrow.load_state_dict(module.state_dict())
    assert (narrow(x, NONE) - module(x, NONE)).abs().max() > 1e-3


@pytest.mark.parametrize("fixed", [True, False])
def test_a_sparse_transformer_with_one_stride_is_full_attention(fixed: bool) -> None:
    module = made(SPARSE.SparseTransformer, stride=T, c=1, fixed=fixed)
    x = noise(1, T, D)
    same(module(x), attended(module, x), within=1e-10)
    sparse = make(SPARSE.SparseTransformer, **SIZES, stride=3, c=1, fixed=fixed)
    sparse.load_state_dict(module.state_dict())
    assert (sparse(x) - module(x)).abs().max() > 1e-3


def test_reformer_with_one_chunk_is_full_attention_with_shared_keys() -> None:
    module, x = made(SPARSE.Reformer, buckets=2, m=T), noise(1, T, D)
    same(module(x), attended(module, x, shared=True), within=1e-10)


def test_reformer_rounds_are_mixed_by_what_they_saw() -> None:
    module, x = made(SPARSE.Reformer, buckets=2, m=T, R=3), noise(1, T, D)
    same(module(x), attended(module, x, shared=True), within=1e-10)
    fine = made(SPARSE.Reformer, buckets=4, m=3, R=1)
    finer = made(SPARSE.Reformer, buckets=4, m=3, R=4)
    assert fine(x).isfinite().all() and finer(x).isfinite().all()


def test_linformer_with_all_columns_is_full_attention() -> None:
    module, x = made(SPARSE.Linformer, n=T, k=T), noise(1, T, D)
    with torch.no_grad():
        module.E.copy_(torch.eye(T))
        module.F.copy_(torch.eye(T))
    same(module(x), attended(module, x, causal=False), within=1e-10)


def xl(**options: Any) -> Any:
    return made(SEGMENTS.TransformerXL, **options)


def test_transformer_xl_with_a_long_memory_is_full_attention() -> None:
    module, x = xl(l=4, memory=T, relative=False), noise(1, T, D)
    with torch.no_grad():
        module.u.zero_()
    shape = (1, T, HEADS, D // HEADS)
    q, k, v = (
        linear(m, x).view(shape) for m in (module.q, module.key.proj, module.value.proj)
    )
    a = torch.einsum("bthk,bshk->bhts", q, k) / (D // HEADS) ** 0.5
    a = a.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -torch.inf)
    o = torch.einsum("bhts,bshv->bthv", a.softmax(-1), v).flatten(2)
    same(module(x), linear(module.out, o), within=1e-10)


def test_memory_is_read_without_a_gradient() -> None:
    module, x = xl(l=4, memory=4), noise(1, T, D).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[:, 8:].sum(), x)
    assert (gradient[:, :8] == 0).all() and (gradient[:, 8:] != 0).any()
    values = moved_by(module, x.detach(), 5)
    assert values[8:12].any()


def test_uncompressed_compressive_memory_is_a_longer_memory() -> None:
    module = made(SEGMENTS.CompressiveTransformer, l=3, memory=3, c=1, compressed=3)
    longer = make(SEGMENTS.TransformerXL, **SIZES, l=3, memory=6, relative=False)
    names = dict(longer.named_parameters())
    with torch.no_grad():
        module.squeezed.weight.copy_(torch.eye(D).view_as(module.squeezed.weight))
        longer.u.zero_()
        for theirs, ours in (
            ("q.weight", module.q.weight),
            ("key.proj.weight", module.key),
            ("value.proj.weight", module.value),
            ("out.weight", module.out.weight),
        ):
            names[theirs].copy_(ours.view_as(names[theirs]))
    x = noise(1, T, D)
    y, loss = module(x)
    same(y, longer(x), within=1e-10)
    assert abs(float(loss.detach())) < 1e-20


def test_the_reconstruction_loss_teaches_the_compressor_only() -> None:
    module = made(SEGMENTS.CompressiveTransformer, l=3, memory=3, c=2, compressed=2)
    _, loss = module(noise(1, T, D))
    loss.backward()
    taught = {
        n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert taught == {"squeezed.weight"}
    y, _ = module(noise(1, T, D))
    y.sum().backward()
    assert module.key.grad.any()


# ---- Kernels


def test_linear_transformer_parallel_recurrent_and_chunked_agree() -> None:
    layer = std("linear_attention").LinearAttention
    x = noise(1, T, D)
    first = make(layer, **SIZES)
    q, k = (
        torch.nn.functional.elu(linear(m, x).view(1, T, HEADS, 4)) + 1
        for m in (first.q, first.k)
    )
    v = linear(first.v, x).view(1, T, HEADS, 4)
    a = torch.einsum("bthk,bshk->bhts", q, k).tril()
    o = torch.einsum("bhts,bshv->bthv", a, v) / (a.sum(-1).mT[..., None] + 1e-6)
    for name, module in strategies(layer, SIZES):
        same(module(x), linear(first.out, o.flatten(2)), name, within=1e-10)


FAVOR = """
import std.performer: favor

layer Features(K = 4, M = 4):
    input x: [K]
    input omega: [M, K] per call
    output favor[K](x, omega)
    output biased = exp(dot[K](omega, x))
"""


def test_favor_features_are_unbiased_and_positive() -> None:
    module = make(seqdsl.loads(FAVOR).Features)
    q, k = 0.5 * noise(4, seed=1), 0.5 * noise(4, seed=2)
    both = (torch.stack([q, k]) / 4**0.25)[None]
    found: list[list[float]] = [[], []]
    for seed in range(2000):
        directions, sides = torch.linalg.qr(noise(4, 4, seed=seed))  # pyright: ignore
        directions = directions * sides.diagonal().sign()  # pyright: ignore
        lengths = noise(4, 4, seed=10_000 + seed).square().sum(1, keepdim=True).sqrt()
        omega = cast("Tensor", directions) * lengths
        for kind, phi in enumerate(module(both, omega)):
            assert (phi > 0).all()
            found[kind].append(float((phi[0, 0] * phi[0, 1]).mean()))
    exact = float(((q * k).sum() / 2).exp())
    right, biased = (torch.tensor(f, dtype=torch.float64) for f in found)
    error = 3 * float(right.std()) / 2000**0.5
    assert abs(float(right.mean()) - exact) < error
    assert abs(float(biased.mean()) - exact) > error


def in_logs(module: Any, x: Tensor) -> Tensor:
    """What a Performer estimates, by sums in logarithms over features and steps."""
    shape = (*x.shape[:2], HEADS, -1)
    q, k, v = (linear(getattr(module, n), x).view(shape) for n in "qkv")
    a, b = (
        torch.einsum("bthk,mk->bthm", y, module.omega) - y.square().sum(-1, True) / 2
        for y in (q / (D // HEADS) ** 0.25, k / (D // HEADS) ** 0.25)
    )
    logits = (a[:, :, None] + b[:, None]).logsumexp(-1)
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)[:, :, None]
    p = logits.masked_fill(hidden, -torch.inf).softmax(2)
    return linear(module.out, torch.einsum("btsh,bshv->bthv", p, v).flatten(2))


def test_trap_a_running_maximum_keeps_small_features() -> None:
    """It cancels but for eps; of long keys all plain features are 0, and so is their sum."""
    plain, x = made(std("performer").Performer, eps=0.0), noise(2, T, D)
    sizes: dict[str, Any] = {**SIZES, "eps": 0.0}
    assert plain(30 * x).isnan().any()
    for name, stable in strategies(std("performer").StablePerformer, sizes):
        stable.load_state_dict(plain.state_dict())
        same(stable(x), plain(x), name, within=1e-10)
        for given in (x, 30 * x):
            same(stable(given), in_logs(stable, given), name, within=1e-10)
            same(stepped(stable, given)[0], stable(given), name, within=1e-10)


# ---- Reversible blocks


def test_reversible_blocks_give_back_their_inputs() -> None:
    spec = std("reversible")
    forward = make(spec.Reversible, D=D)
    backward = make(spec.Inverse, D=D)
    backward.load_state_dict(forward.state_dict())
    a, b = noise(1, T, D), noise(1, T, D, seed=1)
    x1, x2 = backward(*forward(a, b))
    same(x1, a)
    same(x2, b)


def test_drift_of_48_reversible_layers_is_that_of_rounding() -> None:
    """As much larger in single precision as its numbers are further apart."""
    drifts = [
        drift(dtype) / torch.finfo(dtype).eps
        for dtype in (torch.float32, torch.float64)
    ]
    assert drifts[0] < 4 * drifts[1] and drifts[1] < 1e5


def drift(dtype: torch.dtype) -> float:
    """How far off inputs are that 48 layers have made and given back."""
    spec = std("reversible")
    layers = [make(spec.Reversible, seed=i, D=D).to(dtype) for i in range(48)]
    undo = make(spec.Inverse, D=D).to(dtype)
    given = noise(1, T, D).to(dtype), noise(1, T, D, seed=1).to(dtype)
    with torch.no_grad():
        x: tuple[Tensor, ...] = given
        for layer in layers:
            x = tuple(layer(*x))
        for layer in reversed(layers):
            undo.load_state_dict(layer.state_dict())
            x = tuple(undo(*x))
    return max(float((y - z).abs().max()) for y, z in zip(x, given, strict=True))


# ---- Causality and streaming

CAUSAL: dict[str, tuple[Any, dict[str, Any]]] = {
    "longformer": (SPARSE.Longformer, {"window": 3, "dilation": 2}),
    "reformer": (SPARSE.Reformer, {"buckets": 4, "m": 3}),
    "sparse, strided": (SPARSE.SparseTransformer, {"stride": 3}),
    "sparse, fixed": (SPARSE.SparseTransformer, {"stride": 4, "c": 1, "fixed": True}),
    "transformer-xl": (SEGMENTS.TransformerXL, {"l": 3, "memory": 3}),
    "compressive": (
        SEGMENTS.CompressiveTransformer,
        {"l": 3, "memory": 3, "c": 2, "compressed": 2},
    ),
    "performer": (std("performer").Performer, {}),
    "stable performer": (std("performer").StablePerformer, {}),
    "linear": (std("linear_attention").LinearAttention, {}),
}
STREAMS = tuple(name for name in CAUSAL if name != "reformer")


def runner(name: str) -> tuple[Any, Any]:
    layer, options = CAUSAL[name]
    module = made(layer, **options)

    def run(x: Tensor) -> Tensor:
        more = (torch.zeros(x.shape[:2], dtype=torch.bool),) * (name == "longformer")
        y = module(x, *more)
        return y if isinstance(y, Tensor) else y[0]

    return module, run


@pytest.mark.parametrize("name", CAUSAL)
def test_causality_by_perturbation(name: str) -> None:
    """Reformer too: its sorting sees later tokens, so it is causal only up to the sort."""
    module, run = runner(name)
    x = noise(1, T, D)
    del module
    for place in (4, 7):
        found = moved_by(run, x, place)
        assert found[place:].any()
        if name != "reformer":
            assert not found[:place].any()


@pytest.mark.parametrize("name", STREAMS)
def test_what_streams_equals_the_full_pass(name: str) -> None:
    module, run = runner(name)
    x = noise(1, T, D)
    more = (NONE,) * (name == "longformer")
    if name == "compressive":
        module = drop_loss(module)
    same(stepped(module, x, *more)[0], run(x), within=1e-10)
    same(pieces(module, (5,), x, *more), run(x), within=1e-10)


def drop_loss(module: Any) -> Any:
    """The same without its loss, which is a mean over all steps."""
    layer, options = CAUSAL["compressive"]
    del layer
    spec = changed("segment_memory", *LOSS)
    other = make(spec.CompressiveTransformer, **SIZES, **options)
    other.load_state_dict(module.state_dict())
    return other


LOSS = (
    ("    output reconstruction = mean(sum[heads, K](square(full - short)))\n", ""),
)


@pytest.mark.parametrize("name", ["performer", "stable performer", "linear"])
def test_kernels_stream_in_constant_memory(name: str) -> None:
    module, _ = runner(name)
    sizes = {numbers(stepped(module, noise(1, n, D))[1]) for n in (1, 5, 30)}
    assert len(sizes) == 1


@pytest.mark.parametrize("name", ["transformer-xl", "compressive"])
def test_segment_memories_stream_in_bounded_memory(name: str) -> None:
    module, _ = runner(name)
    module = drop_loss(module) if name == "compressive" else module
    sizes = [numbers(stepped(module, noise(1, n, D))[1]) for n in (20, 40, 60)]
    assert sizes[0] == sizes[1] == sizes[2]


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "linformer": (SPARSE.Linformer, {"n": T, "k": 4}, "all of time"),
    "reformer": (SPARSE.Reformer, {"buckets": 4, "m": 3}, "later"),
    "bigbird": (SPARSE.BigBird, {"b": 2, "r": 1, "blocks": 6}, "step"),
    "longformer both ways": (SPARSE.Longformer, {"causal": False}, "later"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_stream_says_why(name: str) -> None:
    layer, options, why = REFUSED[name]
    module = made(layer, **options)
    x = noise(1, T, D)
    more = (NONE,) * ("longformer" in name)
    with pytest.raises(seqdsl.UnsupportedError, match=why):
        module(x, *more, return_state=True)


# ---- Counts of visible pairs


def pairs(spec: seqdsl.Spec, layer: str, *given: Tensor, **options: Any) -> int:
    module = make(getattr(spec, layer), D=2, heads=1, **options)
    return int(module(noise(1, 256, 2), *given).sum())


def test_bigbird_sees_as_many_pairs_as_the_formula_says() -> None:
    seen = "known or edge or drawn[other = int(there)]"
    softmax = f"    p = softmax[{seen}](dot[K](q, k[s]) / sqrt(K))\n"
    read = "    output linear(dot[s](p, v[s]), D)\n\n# Kitaev"
    counted = f"    output sum[s](float({seen})) + 0 * sum[s, heads](p)\n\n# Kitaev"
    count = changed("sparse_attention", (softmax + read, softmax + counted))
    blocks = 2 * 16 + 2 * (4 + 3) + 12 * (5 + 3)
    assert pairs(count, "BigBird", b=16, r=3, blocks=16) == blocks * 16 * 16


@pytest.mark.parametrize("fixed", [True, False])
def test_a_sparse_transformer_sees_as_many_pairs_as_the_formula_says(
    fixed: bool,
) -> None:
    seen = "s <= t and (near or far)"
    softmax = f"    p = softmax[{seen}](dot[K](q, k[s]) / sqrt(K))\n"
    count = changed(
        "sparse_attention",
        (
            f"{softmax}    output linear(dot[s](p, v[s]), D)\n",
            f"{softmax}    output sum[s](float({seen})) + 0 * sum[s, heads](p) + 0 * sum[K](v)\n",
        ),
    )
    per_row = [
        t % 16 + 1 + 4 * (t // 16) if fixed else min(t + 1, 16) + t // 16
        for t in range(256)
    ]
    found = pairs(count, "SparseTransformer", stride=16, c=4, fixed=fixed)
    assert found == sum(per_row)


@pytest.mark.parametrize("dilation", [1, 2])
def test_longformer_sees_as_many_pairs_as_the_formula_says(dilation: int) -> None:
    condition = "seen and s <= t"
    text = "    p = softmax[seen and s <= t](a) if causal else softmax[seen](a)\n"
    count = changed(
        "sparse_attention",
        (text, f"    n = sum[s](float({condition}))\n    p = softmax[seen](a)\n"),
        ("    output linear(o, D)\n", "    output n + 0 * sum[heads, K](o)\n"),
    )
    w, n, g = 8, 256, 3
    marked = torch.zeros(1, n, dtype=torch.bool)
    marked[0, :g] = True
    local = sum(min(t // dilation, w) + 1 for t in range(n))
    seen_already = sum(
        t - s <= w * dilation and (t - s) % dilation == 0
        for t in range(n)
        for s in range(min(g, t + 1))
    )
    everything = sum(min(g, t + 1) for t in range(n)) - seen_already
    found = pairs(count, "Longformer", marked, window=w, dilation=dilation)
    assert found == local + everything
