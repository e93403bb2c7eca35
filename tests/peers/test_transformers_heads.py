"""Matrix states and attention against Hugging Face transformers, on a CPU.

Their layers compute in single precision in places, so the bound is 1e-5 there. The name
maps say which of their weights are which of ours.
"""

from __future__ import annotations

import sys

import pytest
import torch
from hugging import SINGLE, back, config, double, heads, modeling
from peer import BATCH, TIME, agree, noise, ours, peer, shaken
from torch import Tensor

__all__ = ["double"]
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


def test_mlstm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own code, not that of the package `xlstm`, to which they hand over."""
    utilities = peer("transformers.utils", "transformers")
    monkeypatch.setattr(utilities, "is_xlstm_available", lambda: False)
    for part in ("configuration", "modeling"):
        module = f"transformers.models.xlstm.{part}_xlstm"
        monkeypatch.delitem(sys.modules, module, raising=False)
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
    q, k, v, z = torch.split(
        heads(w["in_proj_qkvz.weight"], H, 2 * K + 2 * G * V), [K, K, G * V, G * V], 1
    )
    b, a = torch.split(heads(w["in_proj_ba.weight"], H, 2 * G), [G, G], 1)
    conv = torch.split(w["conv1d.weight"][:, 0], [H * K, H * K, H * G * V])
    params = {
        "q_x.weight": q,
        "k_x.weight": k,
        "v_x.weight": v.reshape(H, G, V, D),
        "g.weight": z.reshape(H, G, V, D),
        "a.weight": a,
        "b.weight": b,
        "q_shortconv.filter.weight": heads(conv[0], H, K),
        "k_shortconv.filter.weight": heads(conv[1], H, K),
        "v_shortconv.filter.weight": heads(conv[2], H, G, V),
        "A_log": w["A_log"].reshape(H, G),
        "dt_bias": w["dt_bias"].reshape(H, G),
        "y.weight": w["norm.weight"],
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
    conv = torch.split(w["conv1d.weight"][:, 0], H * K)
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
    q, k, v = torch.split(heads(w["qkv_proj.weight"], H, 3 * K), K, 1)
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
