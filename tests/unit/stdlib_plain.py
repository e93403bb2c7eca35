"""The standard library's layers again, as plain loops written from the papers' equations.

Each function takes the layer's parameters by their state-dict keys and an input
`[batch, time, D]`, and uses nothing of the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Params = Mapping[str, Tensor]


# ---- Pieces


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`[batch, time, D]` to `[batch, time, dims]`."""
    y = F.linear(x, weight.reshape(-1, x.shape[-1]))
    y = y.reshape(*x.shape[:-1], *weight.shape[:-1])
    return y if bias is None else y + bias


def headwise(x: Tensor, weight: Tensor) -> Tensor:
    """The last dim cut into heads, each times its own matrix `[out, in]`."""
    parts = x.reshape(*x.shape[:-1], len(weight), -1)
    rows = [parts[..., h, :] @ weight[h].T for h in range(len(weight))]
    return torch.cat(rows, -1)


def merge(o: Tensor, weight: Tensor) -> Tensor:
    """`[batch, time, dims]` back to `[batch, time, D]`, weight `[D, dims]`."""
    return o.flatten(2) @ weight.flatten(1).T


def short(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A causal depthwise convolution; the last tap meets the current token."""
    width = weight.shape[-1]
    flat = F.pad(x.flatten(2).transpose(1, 2), (width - 1, 0))
    taps = weight.reshape(-1, 1, width)
    y = F.conv1d(flat, taps, None if bias is None else bias.flatten(), groups=len(taps))
    return y.transpose(1, 2).reshape(x.shape)


def rms(x: Tensor, weight: Tensor | float = 1.0, eps: float = 1e-6) -> Tensor:
    """Divided by the root mean square of the last dim."""
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def unit(x: Tensor) -> Tensor:
    """Divided by the length of the last dim."""
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def standard(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Mean 0 and variance 1 along the last dim."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def before(x: Tensor) -> Tensor:
    """The token before, zeros at the start."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)


def turned(x: Tensor, base: float = 10000) -> Tensor:
    """Rotary positions on `[batch, time, …, K]` by complex numbers."""
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * frequency
    turn = torch.polar(torch.ones_like(angle), angle)
    turn = turn.reshape(1, x.shape[1], *[1] * (x.dim() - 3), half)
    z = torch.complex(x[..., :half], x[..., half:]) * turn
    return torch.cat([z.real, z.imag], -1)


def scan(
    step: Callable[..., tuple[Tensor, Tensor]], start: Tensor, *inputs: Tensor
) -> Tensor:
    """`state, out = step(state, inputs at t)` over time; the outs as `[batch, time, …]`."""
    outs: list[Tensor] = []
    for t in range(inputs[0].shape[1]):
        start, out = step(start, *(i[:, t] for i in inputs))
        outs.append(out)
    return torch.stack(outs, 1)


def memory(q: Tensor, k: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    """S = decay S + k v^T, read as S^T q; `[batch, time, heads, …]`, decay per key channel."""

    def step(
        S: Tensor, q: Tensor, k: Tensor, v: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        new = w[..., None] * S + k[..., None] * v[..., None, :]
        return new, torch.einsum("bhk,bhkv->bhv", q, new)

    start = torch.zeros(q.shape[0], *k.shape[2:], v.shape[-1], dtype=q.dtype)
    return scan(step, start, q, k, v, decay.expand(k.shape))


def delta(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """S = (I - beta k k^T) diag(decay) S + beta k v^T as matrices, read as S^T q."""
    K = k.shape[-1]
    eye = torch.eye(K, dtype=k.dtype)

    def step(
        S: Tensor, q: Tensor, k: Tensor, v: Tensor, b: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        erase = eye - b[..., None, None] * k[..., None] * k[..., None, :]
        write = b[..., None, None] * k[..., None] * v[..., None, :]
        new = erase @ torch.diag_embed(w) @ S + write
        return new, torch.einsum("bhk,bhkv->bhv", q, new)

    start = torch.zeros(q.shape[0], *k.shape[2:], v.shape[-1], dtype=q.dtype)
    return scan(step, start, q, k, v, beta, decay.expand(k.shape))


# ---- Vector states


def diagonal(a: Tensor, b: Tensor) -> Tensor:
    """h = a h + b."""

    def step(h: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        h = a * h + b
        return h, h

    return scan(step, torch.zeros_like(b[:, 0]), a.expand(b.shape), b)


def ema(p: Params, x: Tensor) -> Tensor:
    a = p["logit"].sigmoid()
    powers = torch.arange(x.shape[1])
    gap = powers[:, None] - powers
    weights = torch.where(gap[..., None] >= 0, a ** gap[..., None].clamp(min=0), 0)
    return (1 - a) * torch.einsum("tsd,bsd->btd", weights, x)


def positive(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


def min_gru(p: Params, x: Tensor) -> Tensor:
    z = project(x, p["z.weight"]).sigmoid()
    h = diagonal(1 - z, z * positive(project(x, p["c.weight"])))
    return h @ p["out.weight"].T


def min_lstm(p: Params, x: Tensor) -> Tensor:
    f = project(x, p["f.weight"]).sigmoid()
    i = project(x, p["i.weight"]).sigmoid()
    c = positive(project(x, p["c.weight"]))
    return diagonal(f / (f + i), i / (f + i) * c)


def lru(p: Params, x: Tensor) -> Tensor:
    modulus, phase = torch.exp(-p["nu"].exp()), p["theta"].exp()
    B = torch.complex(p["B_re"], p["B_im"]) * p["gamma"].exp()[:, None]
    C = torch.complex(p["C_re"], p["C_im"])
    out = torch.zeros_like(x)
    for t in range(x.shape[1]):
        for s in range(t + 1):
            power = torch.polar(modulus ** (t - s), phase * (t - s))
            out[:, t] += ((x[:, s].to(B.dtype) @ B.T * power) @ C.T).real
    return out + p["skip"] * x


def s4d(p: Params, x: Tensor) -> Tensor:
    A = torch.complex(-p["log_A_real"].exp(), p["A_imag"])
    step = p["log_dt"].exp()[:, None]
    C = torch.complex(p["C_re"], p["C_im"])
    lags = torch.arange(x.shape[1], dtype=x.dtype)
    modes = C * (torch.exp(step * A) - 1) / A
    kernel = (
        2 * (modes[..., None] * torch.exp((step * A)[..., None] * lags)).sum(1).real
    )
    y = torch.zeros_like(x)
    for lag in range(x.shape[1]):
        y[:, lag:] += kernel[:, lag] * x[:, : x.shape[1] - lag]
    y = F.gelu(y + p["skip"] * x)
    gate = project(y, p["gate.weight"], p["gate.bias"]).sigmoid()
    return project(y, p["value.weight"], p["value.bias"]) * gate


def s5(p: Params, x: Tensor) -> Tensor:
    A = torch.complex(p["A_re"], p["A_im"])
    bar = torch.exp(p["log_dt"].exp() * A)
    B = ((bar - 1) / A)[:, None] * torch.complex(p["B_re"], p["B_im"])
    C = torch.complex(p["C_re"], p["C_im"])
    u = x.to(B.dtype) @ B.T
    h = diagonal(bar, u)
    if C.shape[-1] > len(A):
        h = torch.cat([h, diagonal(bar, u.flip(1)).flip(1)], -1)
    return 2 * (h @ C.T).real + p["skip"] * x


def rglru(p: Params, x: Tensor) -> Tensor:
    r, i = (
        (headwise(x, p[f"{n}.weight"]) + p[f"{n}.bias"].flatten()).sigmoid()
        for n in ("r", "i")
    )
    a = torch.exp(-p["Lambda"].exp().log1p()) ** (8 * r)
    b = torch.sqrt(1 - a**2) * i * x
    b[:, 0] = (i * x)[:, 0]
    return diagonal(a, b)


def hgrn(p: Params, x: Tensor, low: Tensor) -> Tensor:
    f = low + (1 - low) * project(x, p["f.weight"]).sigmoid()
    h = diagonal(f, (1 - f) * F.silu(project(x, p["i.weight"])))
    gate = F.silu(project(x, p["o_x.weight"]))
    return (rms(h, p["o_rmsnorm.weight"], 1e-5) * gate) @ p["out.weight"].T


def rwkv4(p: Params, x: Tensor) -> Tensor:
    def mixed(name: str) -> Tensor:
        mu = p[f"mu_{name}"]
        return project(x * mu + before(x) * (1 - mu), p[f"{name}.weight"])

    k, v, r = mixed("k"), mixed("v"), mixed("r").sigmoid()
    w, u = -p["decay"].exp(), p["u"]
    out = torch.zeros_like(v)
    for t in range(x.shape[1]):
        weights = [torch.exp((t - 1 - i) * w + k[:, i]) for i in range(t)]
        weights.append(torch.exp(u + k[:, t]))
        total = sum(weights, start=torch.zeros_like(u))
        out[:, t] = sum(g * v[:, i] for i, g in enumerate(weights)) / total
    return (r * out) @ p["out.weight"].T


def mamba(p: Params, x: Tensor) -> Tensor:
    u = F.silu(short(project(x, p["u_x.weight"]), p["u_conv.weight"], p["u_conv.bias"]))
    B, C = project(u, p["B.weight"]), project(u, p["C.weight"])
    dt = F.softplus(u @ p["dt_u.weight"].T @ p["dt_linear.weight"].T + p["dt_bias"])
    A = -p["A_log"].exp()
    h = diagonal(torch.exp(dt[..., None] * A), (dt * u)[..., None] * B[:, :, None])
    y = (h * C[:, :, None]).sum(-1) + p["skip"] * u
    return (y * F.silu(project(x, p["z.weight"]))) @ p["out.weight"].T


def longhorn(p: Params, x: Tensor, exact: bool) -> Tensor:
    u = F.silu(short(project(x, p["u_x.weight"]), p["u_conv.weight"], p["u_conv.bias"]))
    q, k = project(u, p["q.weight"]), project(u, p["k.weight"])
    rate = (
        u @ p["rate_u.weight"].T @ p["rate_linear.weight"].T + p["rate_linear.bias"]
    ).sigmoid()
    step = rate / (1 + rate * (k * k).sum(-1, keepdim=True))

    def advance(
        S: Tensor, q: Tensor, k: Tensor, u: Tensor, d: Tensor
    ) -> tuple[Tensor, Tensor]:
        outer = k[:, :, None] * k[:, None, :]
        matrix = outer if exact else torch.diag_embed(k * k)
        new = S - d[..., None] * (S @ matrix) + (d * u)[..., None] * k[:, None]
        return new, (new * q[:, None]).sum(-1)

    start = torch.zeros(*u.shape[::2], k.shape[-1], dtype=x.dtype)
    y = scan(advance, start, q, k, u, step) + p["skip"] * u
    return (y * F.silu(project(x, p["z.weight"]))) @ p["out.weight"].T
