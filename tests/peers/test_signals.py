"""Layers of the standard library against published code that knows nothing of gradients.

pandas smooths, SciPy discretizes and simulates a continuous system, the evaluator of ONNX
has peepholes: all in double precision, their gradients by central differences. Longhorn,
which no package on the registry has, is compared with what it is made of: the paper's
update is a delta rule for every channel (flash-linear-attention), the released one a
scan (mambapy).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from peer import BATCH, PARITY, Params, agree, fla_file, noise, ours, peer, plain
from torch import Tensor

import seqdsl
from seqdsl.backends.reference import initial_params
from seqdsl.elaborate import elaborate, load_std
from seqdsl.ir.sizes import Scalar

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

TIME, DOUBLE, SINGLE = 8, 1e-9, 1e-5
Run = Callable[[Any], Any]


class Published(torch.autograd.Function):
    """A function of arrays, with gradients by central differences."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Run) -> Tensor:
        ctx.run, ctx.at = run, x.detach().numpy().copy()
        return torch.as_tensor(np.asarray(run(ctx.at)))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        found = np.zeros_like(ctx.at)
        for place in np.ndindex(ctx.at.shape):
            step = np.zeros_like(ctx.at)
            step[place] = 1e-5
            slope = np.asarray(ctx.run(ctx.at + step)) - np.asarray(
                ctx.run(ctx.at - step)
            )
            found[place] = (slope * grads[0].numpy()).sum() / 2e-5
        return torch.as_tensor(found), None


def published(x: Tensor, run: Run) -> Tensor:
    function: Any = Published
    return function.apply(x, run)


def params_of(file: str, layer: str, options: dict[str, Scalar]) -> dict[str, Tensor]:
    """Initial values, moved so that zeros and ones hide no mistake."""
    model = elaborate(load_std(file), layer, options).model
    initial = initial_params(model, options, seed=3)
    return {
        name: value + 0.1 * noise(*value.shape, seed=i)
        for i, (name, value) in enumerate(sorted(initial.items()))
    }


def compare(
    file: str,
    layer: str,
    options: dict[str, Scalar],
    theirs: Callable[[Params, Tensor], Tensor],
    tolerance: float,
) -> None:
    params = params_of(file, layer, options)
    agree(
        lambda x: ours(file, layer, options, params, x=x),
        lambda x: theirs(params, x),
        noise(BATCH, TIME, int(options["D"])),
        tolerance,
    )


def test_ema() -> None:
    """pandas starts from the first value: a zero in front is our start."""
    pandas = peer("pandas", "pandas")

    def theirs(p: Params, x: Tensor) -> Tensor:
        keep = p["logit"].sigmoid().numpy()

        def run(x: Any) -> Any:
            rows = np.concatenate([np.zeros_like(x[:, :1]), x], 1)
            return np.stack(
                [
                    [
                        pandas.Series(row[:, d]).ewm(alpha=1 - a, adjust=False).mean()
                        for d, a in enumerate(keep)
                    ]
                    for row in rows
                ]
            ).transpose(0, 2, 1)[:, 1:]

        return published(x, run)

    compare("ema", "EMA", {"D": 3}, theirs, DOUBLE)


def simulated(signal: Any, p: Params, channel: int, rows: Any) -> Any:
    """One channel of S4D as a continuous system of real numbers, by SciPy.

    A mode a with output weight c is the block [[Re a, -Im a], [Im a, Re a]], read by
    2 Re(c h). An input is held over a step and its end is read, one step later than SciPy
    reads it.
    """
    a = torch.complex(-p["log_A_real"].exp(), p["A_imag"])[channel].numpy()
    c = torch.complex(p["C_re"], p["C_im"])[channel].numpy()
    n = len(a)
    A, B, C = np.zeros((2 * n, 2 * n)), np.zeros((2 * n, 1)), np.zeros((1, 2 * n))
    for i in range(n):
        A[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [
            [a[i].real, -a[i].imag],
            [a[i].imag, a[i].real],
        ]
        B[2 * i, 0] = 1
        C[0, 2 * i : 2 * i + 2] = 2 * c[i].real, -2 * c[i].imag
    dt = float(p["log_dt"].exp()[channel])
    system = signal.cont2discrete((A, B, C, np.zeros((1, 1))), dt, method="zoh")
    outputs: list[Any] = []
    for row in rows:
        _, y, _ = signal.dlsim(system, np.append(row, 0.0)[:, None])
        outputs.append(y[1:, 0])
    return np.stack(outputs)


def test_s4d() -> None:
    signal = peer("scipy.signal", "scipy")
    project = plain("stdlib_plain").project

    def theirs(p: Params, x: Tensor) -> Tensor:
        def run(x: Any) -> Any:
            channels = [simulated(signal, p, d, x[..., d]) for d in range(x.shape[-1])]
            return np.stack(channels, -1)

        y = torch.nn.functional.gelu(published(x, run) + p["skip"] * x)
        gate = project(y, p["gate.weight"], p["gate.bias"]).sigmoid()
        return project(y, p["value.weight"], p["value.bias"]) * gate

    compare("s4d", "S4D", {"D": 3, "N": 8}, theirs, DOUBLE)


def test_peephole_lstm() -> None:
    """The gates of ONNX in its order: i, o, f, c; peepholes i, o, f."""
    onnx = peer("onnx", "onnx")
    reference = peer("onnx.reference", "onnx")
    make, double = onnx.helper, onnx.TensorProto.DOUBLE
    names = ["X", "W", "R", "B", "", "H", "C", "P"]
    node = make.make_node("LSTM", names, ["Y"], hidden_size=4)
    inputs = [make.make_tensor_value_info(n, double, None) for n in names if n]
    out = make.make_tensor_value_info("Y", double, None)
    graph = make.make_graph([node], "lstm", inputs, [out])
    evaluator = reference.ReferenceEvaluator(make.make_model(graph))

    def theirs(p: Params, x: Tensor) -> Tensor:
        def stacked(*keys: str) -> Any:
            return torch.cat([p[key] for key in keys])[None].numpy()

        fed = stacked(*(f"{g}_x.bias" for g in "iofg"))
        given = {
            "W": stacked(*(f"{g}_x.weight" for g in "iofg")),
            "R": stacked(*(f"{g}_h.weight" for g in "iofg")),
            "B": np.concatenate([fed, np.zeros_like(fed)], 1),
            "H": np.zeros((1, BATCH, 4)),
            "C": np.zeros((1, BATCH, 4)),
            "P": stacked(*(f"{g}_param" for g in "iof")),
        }

        def run(x: Any) -> Any:
            (y,) = evaluator.run(None, {"X": x.transpose(1, 0, 2), **given})
            return y[:, 0].transpose(1, 0, 2)

        return published(x, run)

    compare("lstm", "PeepholeLSTM", {"D": 3, "H": 4}, theirs, DOUBLE)


# ---- Longhorn


def channel_delta(S: object, q: Tensor, k: Tensor, u: Tensor, step: Tensor) -> Tensor:
    """Every channel is a head with one value and a strength of its own."""
    naive = fla_file("ops/delta_rule/naive.py").delta_rule_recurrence
    shape = (*u.shape[::2], u.shape[1])
    wide = [y[:, None].expand(shape[0], u.shape[2], *y.shape[1:]) for y in (q, k)]
    u, step = u.transpose(1, 2), step.transpose(1, 2)
    read = wide[0] * math.sqrt(q.shape[-1])
    o = naive(read, wide[1], u[..., None], step)[0]
    return o[..., 0].transpose(1, 2).to(u.dtype)


def diagonal_scan(S: object, q: Tensor, k: Tensor, u: Tensor, step: Tensor) -> Tensor:
    scan = peer("mambapy.pscan", "mambapy").pscan
    a = 1 - step[..., None] * (k * k)[:, :, None]
    b = (step * u)[..., None] * k[:, :, None]
    return (scan(a, b) * q[:, :, None]).sum(-1)


@pytest.mark.parametrize(
    ("exact", "memory", "tolerance"),
    [(True, channel_delta, SINGLE), (False, diagonal_scan, DOUBLE)],
    ids=["paper", "released"],
)
def test_longhorn(
    monkeypatch: pytest.MonkeyPatch,
    exact: bool,
    memory: Callable[..., Tensor],
    tolerance: float,
) -> None:
    loops = plain("stdlib_plain")

    def scan(advance: object, start: Tensor, *inputs: Tensor) -> Tensor:
        return memory(start, *inputs)

    monkeypatch.setattr(loops, "scan", scan)
    options: dict[str, Scalar] = {"D": 4, "N": 3, "exact": exact}
    compare(
        "longhorn",
        "Longhorn",
        options,
        lambda p, x: loops.longhorn(p, x, exact=exact),
        tolerance,
    )


# ---- TTT


def test_the_weights_of_ttt_with_one_step_size() -> None:
    """Theirs multiplies errors by the step size of the token that reads, the paper by that
    of the token that wrote, and adds what it read where the paper adds the query: what is
    learned from whole mini-batches with one step size is the same.
    """
    naive = fla_file("ops/ttt/naive.py").chunk_ttt_linear_ref
    loops = plain("stdlib_cells")
    PARITY.layer = "std.ttt:TTTLinear"
    options: dict[str, Any] = {"D": 6, "heads": 2, "minibatch": 3}
    params = params_of("ttt", "TTTLinear", options)
    params["eta.weight"] = torch.zeros_like(params["eta.weight"])
    module: Any = seqdsl.std.ttt.TTTLinear(dtype=torch.float64, **options)
    module.load_state_dict(params)

    def mine(x: Tensor) -> Tensor:
        _, state = module(x, return_state=True)
        return torch.cat([state["W"].flatten(1), state["b"].flatten(1)], 1)

    def theirs(x: Tensor) -> Tensor:
        q, k, v = (loops.project(x, params[f"{n}.weight"]).float() for n in "qkv")
        eta = params["eta.bias"].sigmoid().float() / k.shape[-1]
        eta = eta[None, None, :, None].expand(*q.shape[:3], 1)
        w, b, start, start_b = (
            params[name].float() for name in ("gamma", "beta", "W_start", "b_start")
        )
        many = [y.expand(BATCH, -1, -1, -1) for y in (start, start_b[:, None])]
        more = {"scale": 1.0, "eps": 1e-5, "mini_batch_size": 3}
        learned = naive(q, k, v, w, b, eta, **more, initial_state=many[0],
                        initial_state_bias=many[1], output_final_state=True)  # fmt: skip
        return torch.cat([y.flatten(1) for y in learned[1:]], 1)

    agree(mine, theirs, noise(BATCH, 9, 6), SINGLE)
