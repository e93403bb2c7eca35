"""Layers of the standard library against those of Hugging Face transformers, on a CPU.

Their layers compute in single precision in places, so the bound is 1e-5 there. The name
maps below say which of their weights are which of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peer import BATCH, TIME, Params, agree, noise, ours, peer, shaken
from torch import Tensor

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

SINGLE = 1e-5


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """Modules are made in double precision; what casts to float by itself stays single."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def modeling(name: str) -> Any:
    return peer(f"transformers.models.{name}.modeling_{name}", "transformers")


def config(name: str, **given: Any) -> Any:
    module = peer(f"transformers.models.{name}.configuration_{name}", "transformers")
    found = [
        getattr(module, n)
        for n in dir(module)
        if n.lower() == f"{name}config".replace("_", "")
    ]
    return found[0](**given)


def heads(w: Tensor, *shape: int) -> Tensor:
    """Rows split into dims: `[H * K, D]` to `[H, K, D]`."""
    return w.reshape(*shape, *w.shape[1:])


def back(w: Tensor, *shape: int) -> Tensor:
    """Columns split into dims: `[D, H * K]` to `[D, H, K]`."""
    return w.reshape(w.shape[0], *shape)


def test_mamba() -> None:
    D, E, N, R = 6, 12, 4, 3
    made = config(
        "mamba", hidden_size=D, state_size=N, time_step_rank=R, num_hidden_layers=1
    )
    module = modeling("mamba").MambaMixer(made, 0).double().eval()
    w = shaken(module)
    u, z = w["in_proj.weight"].split(E)
    dt, B, C = w["x_proj.weight"].split([R, N, N])
    params = {
        "u_x.weight": u,
        "z.weight": z,
        "u_conv.weight": w["conv1d.weight"][:, 0],
        "u_conv.bias": w["conv1d.bias"],
        "dt_u.weight": dt,
        "B.weight": B,
        "C.weight": C,
        "dt_linear.weight": w["dt_proj.weight"],
        "dt_bias": w["dt_proj.bias"],
        "A_log": w["A_log"],
        "skip": w["D"],
        "out.weight": w["out_proj.weight"],
    }
    options = {"D": D, "N": N, "R": R}
    x = noise(BATCH, TIME, D)
    agree(lambda x: ours("mamba", "Mamba", options, params, x=x), module, x, SINGLE)


def test_mamba2() -> None:
    D, E, P, N, G = 8, 16, 4, 5, 2
    made = config(
        "mamba2",
        hidden_size=D,
        state_size=N,
        head_dim=P,
        num_heads=E // P,
        n_groups=G,
        chunk_size=4,
        num_hidden_layers=1,
    )
    module = modeling("mamba2").Mamba2Mixer(made, 0).double().eval()
    w = shaken(module)
    per = E // P // G
    z, u, B, C, dt = w["in_proj.weight"].split([E, E, G * N, G * N, E // P])
    conv = w["conv1d.weight"][:, 0].split([E, G * N, G * N])
    bias = w["conv1d.bias"].split([E, G * N, G * N])
    params = {
        "z.weight": heads(z, G, per, P),
        "u_x.weight": heads(u, G, per, P),
        "B_x.weight": heads(B, G, N),
        "C_x.weight": heads(C, G, N),
        "dt.weight": heads(dt, G, per),
        "u_conv.weight": heads(conv[0], G, per, P),
        "B_conv.weight": heads(conv[1], G, N),
        "C_conv.weight": heads(conv[2], G, N),
        "u_conv.bias": bias[0].reshape(G, per, P),
        "B_conv.bias": bias[1].reshape(G, N),
        "C_conv.bias": bias[2].reshape(G, N),
        "dt_bias": w["dt_bias"].reshape(G, per),
        "A_log": w["A_log"].reshape(G, per),
        "skip": w["D"].reshape(G, per),
        "norm": w["norm.weight"].reshape(G, per, P),
        "out.weight": back(w["out_proj.weight"], G, per, P),
    }
    options = {"D": D, "P": P, "N": N, "groups": G}
    x = noise(BATCH, TIME, D)
    agree(lambda x: ours("mamba2", "Mamba2", options, params, x=x), module, x, SINGLE)


def rglru(w: Params, ours: str, theirs: str) -> dict[str, Tensor]:
    """Their gate matrices are `[head, in, out]`."""
    return {
        f"{ours}Lambda": w[f"{theirs}recurrent_param"],
        f"{ours}r.weight": w[f"{theirs}recurrent_gate_weight"].mT,
        f"{ours}r.bias": w[f"{theirs}recurrent_gate_bias"],
        f"{ours}i.weight": w[f"{theirs}input_gate_weight"].mT,
        f"{ours}i.bias": w[f"{theirs}input_gate_bias"],
    }


def hawk(w: Params, ours: str = "") -> dict[str, Tensor]:
    """Their norms multiply by 1 + weight."""
    mixer, feed = f"{ours}u_recurrent.", f"{ours}out_ge_glu."
    params = {
        f"{ours}u_rmsnorm.weight": 1 + w["temporal_pre_norm.weight"],
        f"{ours}out_rmsnorm.weight": 1 + w["channel_pre_norm.weight"],
        f"{mixer}u_conv.weight": w["temporal_block.conv_1d.weight"][:, 0],
        f"{mixer}u_conv.bias": w["temporal_block.conv_1d.bias"],
        **rglru(w, f"{mixer}u_rglru.", "temporal_block.rg_lru."),
    }
    for part in ("weight", "bias"):
        for mine, theirs in (
            ("y", "linear_y"),
            ("u_x", "linear_x"),
            ("out", "linear_out"),
        ):
            params[f"{mixer}{mine}.{part}"] = w[f"temporal_block.{theirs}.{part}"]
        for name in ("gate", "up", "down"):
            params[f"{feed}{name}.{part}"] = w[f"mlp_block.{name}_proj.{part}"]
    return params


def test_hawk() -> None:
    D = 8
    made = config(
        "recurrent_gemma",
        hidden_size=D,
        lru_width=D,
        num_attention_heads=2,
        head_dim=4,
        intermediate_size=6 * D,
        num_hidden_layers=3,
        block_types=("recurrent", "recurrent", "attention"),
    )
    module = modeling("recurrent_gemma").RecurrentGemmaDecoderLayer(made, 0).double()
    params = hawk(shaken(module))
    places = torch.arange(TIME)[None].expand(BATCH, -1)

    def theirs(x: Tensor) -> Tensor:
        return module(x, places, torch.ones(BATCH, TIME), use_cache=False)

    options = {"D": D, "heads": 2}
    x = noise(BATCH, TIME, D)
    agree(lambda x: ours("rglru", "Hawk", options, params, x=x), theirs, x, SINGLE)


def test_mlstm() -> None:
    D, H, K, V = 8, 2, 2, 4
    made = config(
        "xlstm",
        hidden_size=D,
        num_heads=H,
        num_hidden_layers=1,
        qk_dim_factor=0.5,
        v_dim_factor=1.0,
        mode="inference",
        chunk_size=4,
        eps=1e-12,
    )
    module = modeling("xlstm").xLSTMLayer(made).double()
    w = shaken(module)
    params = {
        "q.weight": heads(w["q.weight"], H, K),
        "k.weight": heads(w["k.weight"], H, K),
        "v.weight": heads(w["v.weight"], H, V),
        "o.weight": heads(w["ogate_preact.weight"], H, V),
        "i.weight": w["igate_preact.weight"],
        "i_bias": w["igate_preact.bias"],
        "f.weight": w["fgate_preact.weight"],
        "f_bias": w["fgate_preact.bias"],
        "norm": w["multihead_norm.weight"].reshape(H, V),
        "out.weight": back(w["out_proj.weight"], H, V),
    }
    options = {"D": D, "heads": H}
    x = noise(BATCH, TIME, D)
    agree(
        lambda x: ours("mlstm", "MLSTM", options, params, x=x),
        lambda x: module(x)[0],
        x,
        1e-4,
    )


def test_gated_deltanet() -> None:
    """Qwen3-Next: two value heads per key head; its projections lie interleaved by head."""
    D, H, G, K, V = 8, 2, 2, 3, 4
    made = config(
        "qwen3_next",
        hidden_size=D,
        linear_num_value_heads=H * G,
        linear_num_key_heads=H,
        linear_key_head_dim=K,
        linear_value_head_dim=V,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
        rms_norm_eps=1e-5,
    )
    module = modeling("qwen3_next").Qwen3NextGatedDeltaNet(made, 0).double()
    w = shaken(module)
    q, k, v, z = heads(w["in_proj_qkvz.weight"], H, 2 * K + 2 * G * V).split(
        [K, K, G * V, G * V], 1
    )
    b, a = heads(w["in_proj_ba.weight"], H, 2 * G).split([G, G], 1)
    conv = w["conv1d.weight"][:, 0].split([H * K, H * K, H * G * V])
    params = {
        "q_x.weight": q,
        "k_x.weight": k,
        "v_x.weight": v.reshape(H, G, V, D),
        "y_x.weight": z.reshape(H, G, V, D),
        "a.weight": a,
        "b.weight": b,
        "q_shortconv.filter.weight": heads(conv[0], H, K),
        "k_shortconv.filter.weight": heads(conv[1], H, K),
        "v_shortconv.filter.weight": heads(conv[2], H, G, V),
        "A_log": w["A_log"].reshape(H, G),
        "dt_bias": w["dt_bias"].reshape(H, G),
        "y_rmsnorm.weight": w["norm.weight"],
        "out.weight": back(w["out_proj.weight"], H, G, V),
    }
    options = {"D": D, "heads": H, "groups": G, "K": K, "V": V}
    x = noise(BATCH, TIME, D)
    agree(
        lambda x: ours("gated_deltanet", "GatedDeltaNet", options, params, x=x),
        module,
        x,
        SINGLE,
    )


def test_kda() -> None:
    """Their output gate has no bias; ours, as published, has one: zero here."""
    D, H, K = 8, 2, 4
    made = config(
        "kimi_linear",
        hidden_size=D,
        linear_num_heads=H,
        linear_head_dim=K,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
        rms_norm_eps=1e-5,
    )
    module = modeling("kimi_linear").KimiLinearDeltaAttention(made, 0).double()
    w = shaken(module)
    conv = w["conv1d.weight"][:, 0].split(H * K)
    params = {
        f"{n}_x.weight": heads(w[f"{n}_proj.weight"], H, K) for n in ("q", "k", "v")
    } | {
        f"{n}_shortconv.filter.weight": heads(taps, H, K)
        for n, taps in zip(("q", "k", "v"), conv, strict=True)
    }
    params |= {
        "f_x.weight": w["forget_gate.f_a_proj.weight"],
        "f_linear.weight": heads(w["forget_gate.f_b_proj.weight"], H, K),
        "dt_bias": w["forget_gate.dt_bias"].reshape(H, K),
        "A_log": w["forget_gate.A_log"].flatten(),
        "b.weight": w["b_proj.weight"],
        "g_x.weight": w["g_a_proj.weight"],
        "g_linear.weight": heads(w["g_b_proj.weight"], H, K),
        "g_linear.bias": torch.zeros(H, K),
        "y.weight": w["o_norm.weight"],
        "out.weight": back(w["o_proj.weight"], H, K),
    }
    options = {"D": D, "heads": H, "K": K}
    x = noise(BATCH, TIME, D)
    agree(lambda x: ours("kda", "KDA", options, params, x=x), module, x, SINGLE)


def test_lightning() -> None:
    """MiniMax' slopes 2^(-8h/H) (1 - l/(L-1)) are not the paper's: they are loaded."""
    D, H, K = 8, 2, 4
    made = config(
        "minimax",
        hidden_size=D,
        num_attention_heads=H,
        head_dim=K,
        num_hidden_layers=3,
        block_size=4,
    )
    module = modeling("minimax").MiniMaxLightningAttention(made, 1).double()
    w = shaken(module)
    q, k, v = heads(w["qkv_proj.weight"], H, 3 * K).split(K, 1)
    params = {
        "slope": module.slope_rate.flatten(),
        "q.weight": q,
        "k.weight": k,
        "v.weight": v,
        "o_x.weight": w["output_gate.weight"],
        "o_rmsnorm.weight": w["norm.weight"],
        "out.weight": w["out_proj.weight"],
    }
    options = {"D": D, "heads": H}
    x = noise(BATCH, TIME, D)
    agree(
        lambda x: ours("lightning", "LightningAttention", options, params, x=x),
        lambda x: module(x, None, None)[0],
        x,
        SINGLE,
    )


def test_rwkv4() -> None:
    D = 6
    made = config("rwkv", hidden_size=D, num_hidden_layers=2, vocab_size=5)
    module = modeling("rwkv").RwkvBlock(made, 1).double()
    w = shaken(module)
    params: dict[str, Tensor] = {}
    for mine, theirs in (("y_layernorm", "ln1"), ("out_layernorm", "ln2")):
        for part in ("weight", "bias"):
            params[f"{mine}.{part}"] = w[f"{theirs}.{part}"]
    for mine, theirs in (
        ("y_rwkv4", "attention"),
        ("out_rwkv4_channel_mix", "feed_forward"),
    ):
        names = (
            ("key", "value", "receptance")
            if theirs == "attention"
            else ("key", "receptance")
        )
        for name in names:
            params[f"{mine}.mu_{name[0]}"] = w[f"{theirs}.time_mix_{name}"].flatten()
            params[f"{mine}.{name[0]}.weight"] = w[f"{theirs}.{name}.weight"]
    params["y_rwkv4.decay"] = w["attention.time_decay"]
    params["y_rwkv4.u"] = w["attention.time_first"]
    params["y_rwkv4.out.weight"] = w["attention.output.weight"]
    params["out_rwkv4_channel_mix.out.weight"] = w["feed_forward.value.weight"]
    x = noise(BATCH, TIME, D)
    agree(
        lambda x: ours("rwkv4", "RWKV4Block", {"D": D}, params, x=x),
        lambda x: module(x)[0],
        x,
        SINGLE,
    )


@pytest.mark.parametrize(("name", "window"), [("llama", None), ("mistral", 4)])
def test_grouped_attention(name: str, window: int | None) -> None:
    D, G, Q, K = 16, 2, 2, 4
    given = {"sliding_window": window} if window else {}
    made = config(
        name,
        hidden_size=D,
        num_attention_heads=G * Q,
        num_key_value_heads=G,
        head_dim=K,
        num_hidden_layers=1,
        attn_implementation="eager",
        **given,
    )
    code = modeling(name)
    kind = "Llama" if name == "llama" else "Mistral"
    module = getattr(code, f"{kind}Attention")(made, 0).double()
    rotary = getattr(code, f"{kind}RotaryEmbedding")(made).double()
    w = shaken(module)
    params = {
        "q.weight": heads(w["q_proj.weight"], G, Q, K),
        "k.weight": heads(w["k_proj.weight"], G, K),
        "v.weight": heads(w["v_proj.weight"], G, K),
        "out.weight": back(w["o_proj.weight"], G, Q, K),
    }
    n = torch.arange(TIME)
    gap = n[:, None] - n
    seen = (gap >= 0) & (gap < (window or TIME))
    mask = torch.zeros(1, 1, TIME, TIME).masked_fill(~seen, float("-inf"))

    def theirs(x: Tensor) -> Tensor:
        places = rotary(x, n[None])
        return module(x, position_embeddings=places, attention_mask=mask)[0]

    options: dict[str, int | float] = {"D": D, "kv": G, "group": Q, "base": 10000}
    if window:
        options["window"] = window
    x = noise(BATCH, TIME, D)
    agree(lambda x: ours("attention", "GQA", options, params, x=x), theirs, x, SINGLE)
