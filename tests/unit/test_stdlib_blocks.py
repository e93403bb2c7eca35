"""The standard library: blocks and shells, and layers that are special cases of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import stdlib_cells as cells
import stdlib_matrix as matrix
import stdlib_plain as plain
import torch
from stdlib_case import BATCH, TIME, model_of, moved, noise, run
from torch import Tensor

import seqdsl
from seqdsl.backends.reference import initial_params, interpret
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar

# ---- Blocks: residuals and norms around layers that are tested above


def below(params: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in params.items()
        if name.startswith(prefix)
    }


def layernorm(p: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return plain.standard(x) * p[f"{name}.weight"] + p[f"{name}.bias"]


def test_the_lru_block() -> None:
    options: dict[str, Scalar] = {"D": 3, "N": 4}
    params = moved(initial_params(model_of("lru", "LRUBlock", options), options, 1))
    x = noise(BATCH, TIME, 3)
    y = plain.lru(below(params, "y_lru."), layernorm(params, "y_layernorm", x))
    y = torch.nn.functional.gelu(y)
    value = y @ params["value.weight"].T + params["value.bias"]
    gate = (y @ params["gate.weight"].T + params["gate.bias"]).sigmoid()
    ours = run("lru", "LRUBlock", options, params, x)
    torch.testing.assert_close(ours, x + value * gate, atol=1e-10, rtol=1e-10)


def test_the_s5_block() -> None:
    options: dict[str, Scalar] = {"D": 3, "P": 4}
    params = moved(initial_params(model_of("s5", "S5Block", options), options, 1))
    x = noise(BATCH, TIME, 3)
    y = plain.s5(below(params, "y_s5."), layernorm(params, "y_layernorm", x))
    y = torch.nn.functional.gelu(y)
    gate = (y @ params["gate.weight"].T + params["gate.bias"]).sigmoid()
    ours = run("s5", "S5Block", options, params, x)
    torch.testing.assert_close(ours, x + y * gate, atol=1e-10, rtol=1e-10)


def test_the_slstm_block() -> None:
    options: dict[str, Scalar] = {"D": 6, "heads": 2}
    params = moved(initial_params(model_of("slstm", "SLSTMBlock", options), options, 1))
    x = noise(BATCH, TIME, 6)
    u = x + cells.slstm(below(params, "u_slstm."), layernorm(params, "u_layernorm", x))
    y = layernorm(params, "y", u)
    h = torch.nn.functional.gelu(y @ params["gate.weight"].T) * (
        y @ params["up.weight"].T
    )
    ours = run("slstm", "SLSTMBlock", options, params, x)
    expected = u + h @ params["out.weight"].T
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


def gelu_unit(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
    gate = x @ p["gate.weight"].T + p["gate.bias"]
    gate = torch.nn.functional.gelu(gate, approximate="tanh")
    h = gate * (x @ p["up.weight"].T + p["up.bias"])
    return h @ p["down.weight"].T + p["down.bias"]


def test_griffin_is_two_hawk_blocks_and_attention() -> None:
    options: dict[str, Scalar] = {
        "D": 8,
        "recurrent": "Recurrent(heads = 2)",
        "attention": "LocalAttention(heads = 2, window = 3)",
    }
    params = moved(initial_params(model_of("rglru", "Griffin", options), options, 1))
    x = y = noise(BATCH, TIME, 8)
    hawk: dict[str, Scalar] = {"D": 8, "mixer": "Recurrent(heads = 2)"}
    for name in ("first.", "second."):
        own = {f"out.{k}": v for k, v in below(params, name).items()}
        y = run("rglru", "Hawk", hawk, own, y)
    inner = plain.rms(y, params["third.u_rmsnorm.weight"])
    mixer = below(params, "third.u_mixer.")
    u = y + matrix.attention(mixer, inner, window=3, rotary=0.5)
    inner = plain.rms(u, params["third.out_rmsnorm.weight"])
    expected = u + gelu_unit(below(params, "third.out_feed."), inner)
    ours = run("rglru", "Griffin", options, params, x)
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


def test_hawk_is_a_recurrent_mixer_and_a_gated_layer() -> None:
    options: dict[str, Scalar] = {"D": 6, "mixer": "Recurrent(heads = 2)"}
    params = moved(initial_params(model_of("rglru", "Hawk", options), options, 1))
    x = noise(BATCH, TIME, 6)
    p = below(params, "out.u_mixer.")
    inner = plain.rms(x, params["out.u_rmsnorm.weight"])
    gate = torch.nn.functional.gelu(
        inner @ p["y.weight"].T + p["y.bias"], approximate="tanh"
    )
    wide = inner @ p["u_x.weight"].T + p["u_x.bias"]
    h = plain.rglru(
        below(p, "u_rglru."), plain.short(wide, p["u_conv.weight"], p["u_conv.bias"])
    )
    u = x + (h * gate) @ p["out.weight"].T + p["out.bias"]
    inner = plain.rms(u, params["out.out_rmsnorm.weight"])
    expected = u + gelu_unit(below(params, "out.out_feed."), inner)
    ours = run("rglru", "Hawk", options, params, x)
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


def test_floors_of_hgrn_rise_from_zero() -> None:
    options: dict[str, Scalar] = {"D": 4, "L": 3}
    params = moved(initial_params(model_of("hgrn", "HGRNStack", options), options, 1))
    share = params["bounds"].softmax(0)
    x = y = noise(BATCH, TIME, 4)
    for l in range(3):
        low = share[1 : l + 1].sum(0)
        own = below(params, f"l.{l}.")
        inner = plain.rms(y, own["u_rmsnorm.weight"])
        y = y + plain.hgrn(below(own, "u_hgrn."), inner, low)
        inner, feed = plain.rms(y, own["y_rmsnorm.weight"]), below(own, "y_swi_glu.")
        gate = torch.nn.functional.silu(inner @ feed["gate.weight"].T)
        y = y + (gate * (inner @ feed["up.weight"].T)) @ feed["down.weight"].T
    ours = run("hgrn", "HGRNStack", options, params, x)
    torch.testing.assert_close(ours, y, atol=1e-10, rtol=1e-10)


# ---- Members of the family that are special cases of others


def test_one_step_of_deltaproduct_is_gated_deltanet() -> None:
    options: dict[str, Scalar] = {"D": 6, "heads": 2, "steps": 1}
    model = model_of("gated_deltaproduct", "GatedDeltaProduct", options)
    params = moved(initial_params(model, options, 1))
    x = noise(BATCH, TIME, 6)
    same = {name.removeprefix("j.0."): value for name, value in params.items()}
    same |= {name: same[name][:, None] for name in ("A_log", "dt_bias")}
    for name in ("a", "b", "v_x", "v_shortconv.filter", "y_x"):
        same[f"{name}.weight"] = same[f"{name}.weight"][:, None]
    same |= {"g.weight": same["y_x.weight"], "y.weight": same["y_rmsnorm.weight"]}
    same["out.weight"] = same["out.weight"][:, :, None]
    torch.testing.assert_close(
        run("gated_deltaproduct", "GatedDeltaProduct", options, params, x),
        run(
            "gated_deltanet", "GatedDeltaNet", {"D": 6, "heads": 2, "most": 2}, same, x
        ),
    )


def test_path_without_reflections_is_attention() -> None:
    options: dict[str, Scalar] = {"D": 6, "heads": 2}
    params = moved(initial_params(model_of("path", "PaTH", options), options, 1))
    params["beta.weight"] *= 0
    params["beta.bias"] = torch.full((2,), -1000.0, dtype=torch.float64)
    x = noise(BATCH, TIME, 6)
    same = {f"{n}.weight": params[f"{n}.weight"] for n in ("q", "k", "v", "out")}
    same |= {f"{n}.bias": torch.zeros(2, 3) for n in ("q", "k", "v")}
    same["out.bias"] = torch.zeros(6)
    torch.testing.assert_close(
        run("path", "PaTH", options, params, x),
        run("attention", "MHA", options, same, x),
    )


def test_mlstm_stays_finite_with_extreme_gates() -> None:
    model = model_of("mlstm", "MLSTMCell", {"heads": 1, "K": 2})
    gates = 80 * noise(BATCH, TIME, 1).sign()
    inputs = {name: noise(BATCH, TIME, 1, 2, seed=ord(name)) for name in "qkv"}
    inputs |= {"i": gates, "f": -gates}
    outputs = interpret(model, options={"heads": 1, "K": 2}, params={}, inputs=inputs)
    assert torch.isfinite(next(iter(outputs.values()))).all()


# ---- Shells


def test_the_language_model_is_causal() -> None:
    options: dict[str, Scalar] = {
        "vocab": 5,
        "D": 8,
        "L": 2,
        "mixer": "GatedDeltaNet(heads = 2)",
    }
    model = model_of("language_model", "LanguageModel", options)
    params = initial_params(model, options, 1)
    tokens = torch.tensor([[0, 1, 2, 3, 4]])
    other = torch.tensor([[0, 1, 2, 0, 0]])
    a, b = (
        run("language_model", "LanguageModel", options, params, x)
        for x in (tokens, other)
    )
    torch.testing.assert_close(a[:, :3], b[:, :3])
    assert a.shape == (1, 5, 5)
    assert not torch.allclose(a[:, 3], b[:, 3])


def test_the_classifier_reads_the_whole_sequence() -> None:
    options: dict[str, Scalar] = {"F": 2, "classes": 3, "D": 8, "L": 1}
    model = model_of("classifier", "Classifier", options)
    params = initial_params(model, options, 1)
    x = noise(BATCH, TIME, 2)
    scores = run("classifier", "Classifier", options, params, x)
    x[:, 0] += 1
    assert scores.shape == (BATCH, 3)
    changed = run("classifier", "Classifier", options, params, x)
    assert (changed != scores).all()


def test_the_forecaster_follows_the_units_of_its_window() -> None:
    options: dict[str, Scalar] = {"C": 2, "horizon": 3, "D": 8, "L": 1}
    model = model_of("forecaster", "Forecaster", options)
    params = initial_params(model, options, 1)
    x = 100 * noise(BATCH, TIME, 2)
    forecast = run("forecaster", "Forecaster", options, params, x)
    assert forecast.shape == (BATCH, 3, 2)
    moved_ = run("forecaster", "Forecaster", options, params, 2 * x + 7)
    torch.testing.assert_close(moved_, 2 * forecast + 7, atol=1e-5, rtol=1e-5)


MIXERS = """
ema:EMA mingru:MinGRU minlstm:MinLSTM lru:LRU lru:LRUBlock s4d:S4D s5:S5 s5:S5Block rglru:RGLRU
rglru:Recurrent rglru:Hawk rglru:Griffin hgrn:HGRNMixer hgrn:HGRNStack hgrn2:HGRN2Mixer
retnet:Retention lightning:LightningAttention linear_attention:LinearAttention based:Based
performer:Performer gla:GLA mamba:Mamba mamba2:Mamba2 rwkv4:RWKV4 rwkv4:RWKV4Block rwkv5:RWKV5
rwkv6:RWKV6 rwkv7:RWKV7Mixer mlstm:MLSTM mlstm:MLSTMBlock slstm:SLSTM slstm:SLSTMBlock
deltanet:DeltaNet gated_deltanet:GatedDeltaNet gated_deltaproduct:GatedDeltaProduct kda:KDA
longhorn:Longhorn longhorn:ExactLonghorn ttt:TTTLinear path:PaTH attention:MHA attention:GQA
attention:SlidingWindow attention:TransformerBlock cells:ElmanMixer cells:LSTMMixer
cells:GRUMixer cells:BidirectionalGRUMixer s5:BidirectionalS5
"""

PROJECTED = """
elman:Elman jordan:Jordan lstm:LSTM lstm:PeepholeLSTM gru:GRU gru:ResetBeforeGRU
bidirectional:BidirectionalElman bidirectional:BidirectionalGRU
bidirectional:BidirectionalMinGRU bidirectional:Bidirectional(mixer=std.ema:EMA)
"""


def test_every_published_layer_is_a_mixer() -> None:
    names = [f"std.{name}" for name in MIXERS.split()]
    names += [f"std.cells:Projected(inner = std.{name})" for name in PROJECTED.split()]
    for name in names:
        options: dict[str, Scalar] = {"D": 64, "vocab": 5, "L": 1, "mixer": name}
        assert bind_sizes(model_of("language_model", "LanguageModel", options), options)
    for name in names[::20]:
        options = {"D": 64, "L": 1, "mixer": name}
        assert bind_sizes(model_of("classifier", "Classifier", options), options)
        assert bind_sizes(model_of("forecaster", "Forecaster", options), options)


def test_a_mixer_may_be_made_of_blocks() -> None:
    """Hawk is a `PreNorm` itself, and what it holds is looked up where it stands."""
    mixer = (
        "std.rglru:Hawk(mixer = Recurrent(heads = 2), feed = std.moe:MoEFeed(E = 3))"
    )
    shell = seqdsl.std.language_model.LanguageModel
    block = "std.blocks:PreNorm(feed = std.moe:MoEFeed(E = 3))"
    module: Any = shell(vocab=5, D=4, L=1, mixer=mixer, block=block)
    logits = module(torch.tensor([[0, 1, 2]]))
    assert logits.shape == (1, 3, 5) and torch.isfinite(logits).all()


@pytest.mark.parametrize("mixer", ["std.gla:GLA(heads = 2)", "std.cells:GRUMixer"])
def test_any_mixer_runs_in_both_directions(mixer: str) -> None:
    """The second half is the mixer on the reversed sequence; packed, on each of them."""
    layer = seqdsl.std.bidirectional.Bidirectional
    module: Any = layer(D=4, mixer=mixer, dtype=torch.float64)
    x = noise(BATCH, TIME, 4)
    y = module(x)
    torch.testing.assert_close(y[..., :4], module.forth(x))
    torch.testing.assert_close(y[..., 4:], module.back(x.flip(1)).flip(1))
    packed = module(x, segments=torch.tensor([[0] * 3 + [1] * (TIME - 3)] * BATCH))
    torch.testing.assert_close(packed[:, :3], module(x[:, :3]))
    torch.testing.assert_close(packed[:, 3:], module(x[:, 3:]))
