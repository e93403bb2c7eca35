"""Initial values of layers against those of published code, where they are not drawn."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
import torch
from hugging import config, modeling
from peer import peer
from torch import Tensor

from seqdsl.backends.reference import initial_params
from seqdsl.elaborate import elaborate, load_std
from seqdsl.ir.sizes import Scalar

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


def start(file: str, layer: str, **options: Scalar) -> dict[str, Tensor]:
    model = elaborate(load_std(file), layer, options).model
    return initial_params(model, options, seed=0)


def same(ours: Tensor, theirs: Any) -> None:
    torch.testing.assert_close(
        ours, torch.as_tensor(theirs).to(ours), atol=1e-6, rtol=1e-6
    )


def test_rwkv4_starts_as_released() -> None:
    """The first of three layers. Theirs has ones for the bonus, by an `ones_like` around what
    the authors add up: log 0.3, and 0.5 more or less in turns."""
    D = 6
    made = config("rwkv", hidden_size=D, num_hidden_layers=3, vocab_size=5)
    block = modeling("rwkv").RwkvModel(made).blocks[0]
    ours = start("rwkv4", "RWKV4Block", D=D, depth=0)
    for mine, theirs, names in (
        ("y_rwkv4", block.attention, ("key", "value", "receptance")),
        ("out_rwkv4_channel_mix", block.feed_forward, ("key", "receptance")),
    ):
        for name in names:
            mix = getattr(theirs, f"time_mix_{name}").data.flatten()
            same(ours[f"{mine}.mu_{name[0]}"], mix)
    same(ours["y_rwkv4.decay"], block.attention.time_decay.data)
    turns = math.log(0.3) + torch.tensor([0, 0.5, -0.5, 0, 0.5, -0.5])
    same(ours["y_rwkv4.u"], turns)


def test_rwkv7_starts_as_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of three layers, by flash-linear-attention's copy of the release."""
    D, K = 8, 4
    monkeypatch.delitem(sys.modules, "fla")  # making its layer needs no GPU
    module = peer("fla.layers.rwkv7", "flash-linear-attention").RWKV7Attention
    options = {"hidden_size": D, "head_dim": K, "layer_idx": 0, "num_hidden_layers": 3}
    theirs = module(
        **options, decay_low_rank_dim=2, gate_low_rank_dim=2, a_low_rank_dim=2
    )
    ours = start("rwkv7", "RWKV7", D=D, K=K, depth=0, is_first=True)
    names = ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g")
    mixes = [getattr(theirs, n).data.flatten() for n in names]
    same(ours["mu"], torch.stack(mixes))
    for mine, value in (
        ("w0", theirs.w_lora.lora[2].bias),
        ("a0", theirs.a_lora.lora[2].bias),
        ("k_k", theirs.k_k),
        ("k_a", theirs.k_a),
        ("r_k", theirs.r_k),
        ("out.weight", theirs.o_proj.weight),
        ("rate.low.weight", theirs.w_lora.lora[0].weight),
    ):
        same(ours[mine].flatten()[: value.numel()], value.data.flatten())
    for mine, gain in (("r", 1), ("k0", 0.1), ("own", 1)):
        weight = ours[f"{mine}.weight"].reshape(D, D)
        same(weight @ weight.T, gain**2 * torch.eye(D))


def test_mamba_starts_as_released() -> None:
    made = config("mamba", hidden_size=6, state_size=4, num_hidden_layers=1)
    mixer = modeling("mamba").MambaModel(made).layers[0].mixer
    ours = start("mamba", "Mamba", D=6, N=4)
    same(ours["A_log"], mixer.A_log.data)
    same(ours["skip"], mixer.D.data)
    for bias in (ours["dt_bias"], mixer.dt_proj.bias.data):
        step = torch.nn.functional.softplus(bias)
        assert (step > 0.00099).all() and (step < 0.1001).all()


def test_slstm_starts_as_released() -> None:
    package = peer("xlstm.blocks.slstm.layer", "xlstm")
    made = package.sLSTMLayerConfig(
        embedding_dim=8,
        num_heads=2,
        conv1d_kernel_size=4,
        backend="vanilla",
        dropout=0.0,
    )
    made._block_idx, made._num_blocks = 0, 2
    module = package.sLSTMLayer(made)
    module.reset_parameters()
    bias = module.slstm_cell._bias_.data.reshape(4, 2, 4)
    ours = start("slstm", "SLSTM", D=8, heads=2)
    same(ours["f_bias"], bias[1])
    for name, theirs in (("i", 0), ("z", 2), ("o", 3)):
        same(ours[f"{name}_headwise_2.bias"], bias[theirs])


def test_the_real_gated_unit_forgets_slowly_at_first() -> None:
    """a = exp(-8 softplus(Lambda)) at full rate, so that a^(1/8) is in [0.9, 0.999]."""
    kept = torch.exp(-torch.nn.functional.softplus(start("rglru", "RGLRU")["Lambda"]))
    assert (kept > 0.8999).all() and (kept < 0.9991).all()
