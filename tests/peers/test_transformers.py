"""State space models, Hawk and RWKV-4 against Hugging Face transformers, on a CPU.

Their layers compute in single precision in places, so the bound is 1e-5 there. The name
maps say which of their weights are which of ours.
"""

from __future__ import annotations

import pytest
import torch
from hugging import SINGLE, back, config, double, heads, modeling
from peer import BATCH, TIME, Params, agree, noise, ours, shaken
from torch import Tensor

__all__ = ["double"]
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


def test_mamba() -> None:
    D, E, N, R = 6, 12, 4, 3
    made = config(
        "mamba", hidden_size=D, state_size=N, time_step_rank=R, num_hidden_layers=1
    )
    module = modeling("mamba").MambaMixer(made, 0).double().eval()
    w = shaken(module)
    u, z = torch.split(w["in_proj.weight"], E)
    dt, B, C = torch.split(w["x_proj.weight"], [R, N, N])
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
    z, u, B, C, dt = torch.split(w["in_proj.weight"], [E, E, G * N, G * N, E // P])
    conv = torch.split(w["conv1d.weight"][:, 0], [E, G * N, G * N])
    bias = torch.split(w["conv1d.bias"], [E, G * N, G * N])
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
    mixer, feed = f"{ours}u_mixer.", f"{ours}out_feed."
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
    params = hawk(shaken(module), "out.")
    places = torch.arange(TIME)[None].expand(BATCH, -1)

    def theirs(x: Tensor) -> Tensor:
        return module(x, places, torch.ones(BATCH, TIME), use_cache=False)

    options = {"D": D, "mixer": "Recurrent(heads = 2)"}
    x = noise(BATCH, TIME, D)
    agree(lambda x: ours("rglru", "Hawk", options, params, x=x), theirs, x, SINGLE)


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
