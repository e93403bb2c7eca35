"""Layers of the standard library against small pure-torch packages of one model each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peer import BATCH, TIME, agree, noise, ours, peer, plain, shaken
from torch import Tensor

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


# ---- minGRU-pytorch: double precision


def test_min_gru() -> None:
    package = peer("minGRU_pytorch.minGRU", "minGRU-pytorch")
    module = package.minGRU(4, expansion_factor=2.0).double()
    w = shaken(module)
    c, z = w["to_hidden_and_gate.weight"].chunk(2)
    params = {"c.weight": c, "z.weight": z, "out.weight": w["to_out.weight"]}
    options = {"D": 4, "expand": 2}
    x = noise(BATCH, TIME, 4)
    agree(lambda x: ours("mingru", "MinGRU", options, params, x=x), module, x, 1e-12)


def test_min_lstm() -> None:
    package = peer("minGRU_pytorch.minLSTM", "minGRU-pytorch")
    module = package.minLSTM(4).double()
    c, f, i = shaken(module)["to_hidden_and_f_i_gate.weight"].chunk(3)
    params = {"c.weight": c, "f.weight": f, "i.weight": i}
    x = noise(BATCH, TIME, 4)
    agree(lambda x: ours("minlstm", "MinLSTM", {"D": 4}, params, x=x), module, x, 1e-12)


# ---- mambapy: casts A and D to single precision


def test_mamba() -> None:
    package = peer("mambapy.mamba", "mambapy")
    D, E, N, R = 6, 12, 4, 3
    made = package.MambaConfig(d_model=D, n_layers=1, d_state=N, dt_rank=R, pscan=True)
    module = package.MambaBlock(made).double()
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
    agree(lambda x: ours("mamba", "Mamba", options, params, x=x), module, x, 1e-6)


# ---- lru-pytorch: its feedthrough is a matrix, ours (as in the paper) a diagonal


def test_lru() -> None:
    module = peer("LRU_pytorch", "lru-pytorch").LRU(3, 3, 4)
    w = shaken(module, 0.0)
    skip = noise(3)
    module.D.data = torch.diag(skip).float()
    params = {
        "nu": w["nu_log"],
        "theta": w["theta_log"],
        "gamma": w["gamma_log"],
        "B_re": w["B"].real,
        "B_im": w["B"].imag,
        "C_re": w["C"].real,
        "C_im": w["C"].imag,
        "skip": skip,
    }
    x = noise(BATCH, TIME, 3)
    agree(
        lambda x: ours("lru", "LRU", {"D": 3, "N": 4}, params, x=x),
        lambda x: module(x.float()),
        x,
        1e-5,
    )


# ---- s5-pytorch: reads C h where the paper (conjugate pairs) reads 2 Re(C h)


@pytest.mark.parametrize(
    ("layer", "both"), [("S5", False), ("BidirectionalS5", True)], ids=["one", "both"]
)
def test_s5(layer: str, both: bool) -> None:
    package = peer("s5.s5_model", "s5-pytorch")
    module = package.S5(3, 4, bidir=both, bcInit="dense").seq
    w = {name: value.data for name, value in module.named_parameters()}
    params = {
        "A_re": w["Lambda"].real,
        "A_im": w["Lambda"].imag,
        "log_dt": w["log_step"].flatten(),
        "B_re": w["B"][..., 0],
        "B_im": w["B"][..., 1],
        "C_re": w["C"].real / 2,
        "C_im": w["C"].imag / 2,
        "skip": w["D"],
    }
    params = {name: value.double() for name, value in params.items()}
    x = noise(BATCH, TIME, 3)

    def theirs(x: Tensor) -> Tensor:
        bars, B = module.discretize(
            module.Lambda,
            torch.view_as_complex(module.B),
            module.log_step.exp().flatten(),
        )
        rows = [
            package.apply_ssm(bars, B, module.C, module.D, row.float(), bidir=both)[0]
            for row in x
        ]
        return torch.stack(rows)

    agree(lambda x: ours("s5", layer, {"D": 3, "P": 4}, params, x=x), theirs, x, 1e-5)


# ---- performer-pytorch: its features are scaled by what the quotient cancels


def test_performer() -> None:
    package = peer("performer_pytorch.performer_pytorch", "performer-pytorch")
    loops = plain("stdlib_matrix")
    heads, K = 2, 3
    omega = package.gaussian_orthogonal_random_matrix(K, K, scaling=1).double()
    shapes = {"out.weight": (heads * K, heads, K), "out.bias": (heads * K,)}
    for name in "qkv":
        shapes |= {f"{name}.weight": (heads, K, heads * K), f"{name}.bias": (heads, K)}
    params = {
        name: 0.5 * noise(*s, seed=i) for i, (name, s) in enumerate(shapes.items())
    }
    params["omega"] = omega

    def theirs(x: Tensor) -> Tensor:
        q, k, v = (y.transpose(1, 2) for y in loops.heads_of(params, x, "q", "k", "v"))
        kernel: Callable[..., Any] = package.softmax_kernel
        q = kernel(q, projection_matrix=omega, is_query=True, eps=0)
        k = kernel(k, projection_matrix=omega, is_query=False, eps=0)
        o = package.causal_linear_attention_noncuda(q, k, v, chunk_size=1, eps=0)
        return loops.merge(o.transpose(1, 2), params["out.weight"]) + params["out.bias"]

    options = {"D": heads * K, "heads": heads, "eps": 0.0}
    x = noise(BATCH, TIME, heads * K)
    agree(
        lambda x: ours("performer", "Performer", options, params, x=x), theirs, x, 1e-10
    )


# ---- xlstm


def test_slstm() -> None:
    """They name the projections of the input and forget gates the other way round."""
    package = peer("xlstm.blocks.slstm.layer", "xlstm")
    D, H, K = 6, 2, 3
    made = package.sLSTMLayerConfig(
        embedding_dim=D,
        num_heads=H,
        conv1d_kernel_size=4,
        backend="vanilla",
        dropout=0.0,
    )
    module = package.sLSTMLayer(made).double()
    module.reset_parameters()
    w = shaken(module)
    kernel = w["slstm_cell._recurrent_kernel_"].reshape(H, 4, K, K)
    bias = w["slstm_cell._bias_"].reshape(4, H, K)
    params = {
        "u.weight": w["conv1d.conv.weight"][:, 0],
        "u.bias": w["conv1d.conv.bias"],
        "norm": 1 + w["group_norm.weight"].reshape(H, K),
        "f_bias": bias[1],
    }
    swapped = {"i": "fgate", "f": "igate", "z": "zgate", "o": "ogate"}
    for n, (name, theirs) in enumerate(swapped.items()):
        params[f"{name}_headwise.weight"] = w[f"{theirs}.weight"]
        params[f"{name}_headwise_2.weight"] = kernel[:, n]
        if name != "f":
            params[f"{name}_headwise_2.bias"] = bias[n]
    options = {"D": D, "heads": H}
    x = noise(BATCH, TIME, D)
    agree(lambda x: ours("slstm", "SLSTM", options, params, x=x), module, x, 1e-9)


def test_mlstm_block() -> None:
    """The residual and the layer norm around their layer are torch's."""
    package = peer("xlstm.blocks.mlstm.layer", "xlstm")
    D, E, H = 8, 16, 2
    made = package.mLSTMLayerConfig(
        embedding_dim=D,
        num_heads=H,
        context_length=TIME,
        qkv_proj_blocksize=4,
        round_proj_up_to_multiple_of=1,
    )
    made._num_blocks = 1
    module = package.mLSTMLayer(made).double()
    w = shaken(module)
    u, z = torch.split(w["proj_up.weight"], E)
    params = {
        "y.weight": torch.ones(D),
        "y.bias": torch.zeros(D),
        "u.weight": u,
        "z.weight": z,
        "c.weight": w["conv1d.conv.weight"][:, 0],
        "c.bias": w["conv1d.conv.bias"],
        **{f"{n}.weight": w[f"{n}_proj.weight"] for n in "qkv"},
        **{f"{n}.weight": w[f"mlstm_cell.{n}gate.weight"] for n in "if"},
        **{f"{n}_bias": w[f"mlstm_cell.{n}gate.bias"] for n in "if"},
        "norm": 1 + w["mlstm_cell.outnorm.weight"].reshape(H, E // H),
        "skip": w["learnable_skip"],
        "out.weight": w["proj_down.weight"],
    }
    options = {"D": D, "heads": H, "block": 4}
    x = noise(BATCH, TIME, D)
    agree(
        lambda x: ours("mlstm", "MLSTMBlock", options, params, x=x),
        lambda x: x + module(torch.nn.functional.layer_norm(x, (D,))),
        x,
        1e-4,
    )
