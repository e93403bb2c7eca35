"""Plain loops, continued: layers with matrix states, attention, classical cells."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from stdlib_plain import (
    Params,
    before,
    delta,
    memory,
    merge,
    project,
    rms,
    scan,
    short,
    standard,
    turned,
    unit,
)
from torch import Tensor

# ---- Decay and outer product


def heads_of(p: Params, x: Tensor, *names: str) -> list[Tensor]:
    return [project(x, p[f"{n}.weight"], p.get(f"{n}.bias")) for n in names]


def hgrn2(p: Params, x: Tensor, low: Tensor) -> Tensor:
    q, f, v = heads_of(p, x, "q", "f", "v")
    f = low + (1 - low) * f.sigmoid()
    o = memory(F.silu(q), 1 - f, v, f).flatten(2)
    return rms(o, p["out_rmsnorm.weight"], 1e-5) @ p["out_linear.weight"].T


def retention(p: Params, x: Tensor) -> Tensor:
    """The parallel form: (Q K^T * D) V with D_nm = gamma^(n - m)."""
    q, k, v = heads_of(p, x, "q", "k", "v")
    K, count = q.shape[-1], q.shape[2]
    gamma = 1 - 2.0 ** (-5 - torch.arange(count, dtype=x.dtype))
    n = torch.arange(x.shape[1])
    gap = (n[:, None] - n)[None]
    decay = torch.where(gap >= 0, gamma[:, None, None] ** gap.clamp(min=0), 0)
    logits = torch.einsum("bthk,bshk->bhts", turned(q) / math.sqrt(K), turned(k))
    o = torch.einsum("bhts,bshv->bthv", logits * decay, v)
    gate = F.silu(project(x, p["y_x.weight"]))
    return merge(rms(o, p["y_rmsnorm.weight"], 1e-5) * gate, p["out.weight"])


def lightning(p: Params, x: Tensor) -> Tensor:
    q, k, v = map(F.silu, heads_of(p, x, "q", "k", "v"))
    o = memory(q, k, v, torch.exp(-p["slope"])[:, None]).flatten(2)
    gate = project(x, p["o_x.weight"]).sigmoid()
    return (rms(o, p["o_rmsnorm.weight"]) * gate) @ p["out.weight"].T


def kernel_attention(p: Params, x: Tensor, weights: Tensor, eps: float) -> Tensor:
    """Rows of non-negative `weights` [batch, heads, t, s], divided by their sums."""
    weights = weights.tril()
    v = project(x, p["v.weight"], p.get("v.bias"))
    o = torch.einsum("bhts,bshv->bhtv", weights, v)
    o = (o / (weights.sum(-1, keepdim=True) + eps)).transpose(1, 2)
    return merge(o, p["out.weight"]) + p.get("out.bias", torch.tensor(0.0))


def linear_attention(p: Params, x: Tensor) -> Tensor:
    q, k = (F.elu(y) + 1 for y in heads_of(p, x, "q", "k"))
    return kernel_attention(p, x, torch.einsum("bthk,bshk->bhts", q, k), 1e-6)


def based(p: Params, x: Tensor) -> Tensor:
    q, k = heads_of(p, x, "q", "k")
    s = torch.einsum("bthk,bshk->bhts", q, k) / math.sqrt(q.shape[-1])
    return kernel_attention(p, x, 1 + s + s * s / 2, 1e-12)


def performer(p: Params, x: Tensor) -> Tensor:
    q, k = (y / y.shape[-1] ** 0.25 for y in heads_of(p, x, "q", "k"))
    q, k = ((y @ p["omega"].T - y.square().sum(-1, True) / 2).exp() for y in (q, k))
    return kernel_attention(p, x, torch.einsum("bthm,bshm->bhts", q, k), 1e-6)


def gla(p: Params, x: Tensor) -> Tensor:
    q, k, v = heads_of(p, x, "q", "k", "v")
    gate = project(x @ p["log_alpha_x.weight"].T, p["log_alpha_linear.weight"])
    alpha = (gate + p["log_alpha_linear.bias"]).sigmoid() ** (1 / 16)
    o = memory(q / math.sqrt(q.shape[-1]), k, v, alpha)
    y = rms(o, p["y_rmsnorm.weight"], 1e-5) * F.silu(project(x, p["y_x.weight"]))
    return merge(y, p["out.weight"])


def mamba2(p: Params, x: Tensor) -> Tensor:
    u, B, C = (
        F.silu(short(project(x, p[f"{n}_x.weight"]), p[f"{n}_conv.weight"], bias))
        for n in ("u", "B", "C")
        for bias in (p[f"{n}_conv.bias"],)
    )
    dt = F.softplus(project(x, p["dt.weight"]) + p["dt_bias"])
    per = dt.shape[-1]
    k, q = (y[:, :, :, None].expand(-1, -1, -1, per, -1).flatten(2, 3) for y in (B, C))
    flat = dt.flatten(2)[..., None]
    decay = torch.exp(-flat * p["A_log"].exp().flatten()[:, None])
    o = memory(q, flat * k, u.flatten(2, 3), decay).reshape(u.shape)
    y = (o + p["skip"][..., None] * u) * F.silu(project(x, p["z.weight"]))
    norm = y.square().mean((-2, -1), keepdim=True)
    return merge(p["norm"] * y / torch.sqrt(norm + 1e-5), p["out.weight"])


def bonus(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
    """The sum over the past with decay, and the present with weight u."""
    past = torch.zeros_like(v)
    for t in range(r.shape[1]):
        weight = torch.ones_like(k[:, 0])
        for s in reversed(range(t)):
            score = (r[:, t] * weight * k[:, s]).sum(-1, keepdim=True)
            past[:, t] += score * v[:, s]
            weight = weight * w[:, s]
    return past + (r * u * k).sum(-1, keepdim=True) * v


def head_norm(p: Params, o: Tensor, name: str, eps: float) -> Tensor:
    return standard(o, eps) * p[f"{name}.weight"] + p[f"{name}.bias"]


def rwkv5(p: Params, x: Tensor) -> Tensor:
    def mixed(name: str) -> Tensor:
        mu = p[f"mu_{name}"]
        return project(x + (before(x) - x) * mu, p[f"{name}.weight"])

    r, k, v, g = (mixed(n) for n in "rkvg")
    shape = r.shape[2:]
    w = torch.exp(-p["decay"].exp()).reshape(shape).expand(k.shape)
    o = bonus(r, k, v, w, p["bonus"].reshape(shape))
    return merge(
        head_norm(p, o, "out_groupnorm", 64e-5) * F.silu(g), p["out_linear.weight"]
    )


def rwkv6(p: Params, x: Tensor) -> Tensor:
    shift = before(x) - x
    low = torch.tanh(project(x + shift * p["mu_x"], p["low.weight"]))
    mu = torch.stack([p[f"mu_{n}"] for n in "rwkvg"])
    mu = mu + torch.einsum("btmr,mrd->btmd", low, p["W2"])
    r, w, k, v, g = (x[:, :, None] + shift[:, :, None] * mu).unbind(2)
    rate = torch.tanh(w @ p["hidden.weight"].T) @ p["rate.weight"].T
    r, k, v, g = (
        project(y, p[f"{n}.weight"]) for n, y in zip("rkvg", (r, k, v, g), strict=True)
    )
    w = torch.exp(-(p["decay"] + rate).exp()).reshape(r.shape)
    o = bonus(r, k, v, w, p["bonus"].reshape(r.shape[2:]))
    return merge(
        head_norm(p, o, "out_groupnorm", 64e-5) * F.silu(g), p["out_linear.weight"]
    )


# ---- Delta rules


def convolved(p: Params, x: Tensor, name: str) -> Tensor:
    y = project(x, p[f"{name}_x.weight"])
    return F.silu(short(y, p[f"{name}_shortconv.filter.weight"]))


def deltanet(p: Params, x: Tensor) -> Tensor:
    q, k, v = (
        unit(convolved(p, x, "q")),
        unit(convolved(p, x, "k")),
        convolved(p, x, "v"),
    )
    beta = 2 * project(x, p["beta.weight"]).sigmoid()
    o = delta(q / math.sqrt(q.shape[-1]), k, v, beta, torch.ones((), dtype=x.dtype))
    return merge(rms(o, p["out_rmsnorm.weight"], 1e-5), p["out_linear.weight"])


def gated_deltanet(p: Params, x: Tensor) -> Tensor:
    q, k, v = (
        unit(convolved(p, x, "q")),
        unit(convolved(p, x, "k")),
        convolved(p, x, "v"),
    )
    a = -p["A_log"].exp() * F.softplus(project(x, p["a.weight"]) + p["dt_bias"])
    beta = project(x, p["b.weight"]).sigmoid()
    groups = v.shape[3]
    q, k = (y.repeat_interleave(groups, 2) for y in (q / math.sqrt(q.shape[-1]), k))
    decay = a.exp().flatten(2)[..., None]
    o = delta(q, k, v.flatten(2, 3), beta.flatten(2), decay).reshape(v.shape)
    y = rms(o, p["y.weight"], 1e-5) * F.silu(project(x, p["g.weight"]))
    return merge(y, p["out.weight"])


def gated_deltaproduct(p: Params, x: Tensor) -> Tensor:
    """A gated delta rule on a sequence with two rows per token."""
    q = unit(convolved(p, x, "q"))
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    for j in (0, 1):
        own = {key.removeprefix(f"j.{j}."): value for key, value in p.items()}
        b = 2 * project(x, own["b.weight"]).sigmoid()
        steps.append((unit(convolved(own, x, "k")), convolved(own, x, "v"), b))
    k, v, b = (torch.stack(rows, 2).flatten(1, 2) for rows in zip(*steps, strict=True))
    a = torch.exp(
        -p["A_log"].exp() * F.softplus(project(x, p["a.weight"]) + p["dt_bias"])
    )
    decay = torch.stack([a, torch.ones_like(a)], 2).flatten(1, 2)[..., None]
    rows = q.repeat_interleave(2, 1) / math.sqrt(q.shape[-1])
    o = delta(rows, k, v, b, decay)[:, 1::2]
    y = rms(o, p["y_rmsnorm.weight"], 1e-5) * F.silu(project(x, p["y_x.weight"]))
    return merge(y, p["out.weight"])


def kda(p: Params, x: Tensor) -> Tensor:
    q, k, v = (
        unit(convolved(p, x, "q")),
        unit(convolved(p, x, "k")),
        convolved(p, x, "v"),
    )
    f = project(x @ p["f_x.weight"].T, p["f_linear.weight"])
    a = torch.exp(-p["A_log"].exp()[:, None] * F.softplus(f + p["dt_bias"]))
    o = delta(q / math.sqrt(q.shape[-1]), k, v, project(x, p["b.weight"]).sigmoid(), a)
    g = project(x @ p["g_x.weight"].T, p["g_linear.weight"], p["g_linear.bias"])
    y = rms(o, p["y.weight"], 1e-5) * g.sigmoid()
    return merge(y, p["out.weight"])


def rwkv7(p: Params, x: Tensor, first: Tensor) -> Tensor:
    y = x[:, :, None] + (before(x) - x)[:, :, None] * p["mu"]
    r, w, k, v, a, g = y.unbind(2)
    shape = p["k_k"].shape

    def lora(y: Tensor, name: str) -> Tensor:
        low = y @ p[f"{name}.low.weight"].T
        bent = low.tanh() if name == "rate" else low.sigmoid() if name == "g" else low
        return bent @ p[f"{name}.out.weight"].T

    def heads(y: Tensor) -> Tensor:
        return y.reshape(*y.shape[:2], *shape)

    decay = torch.exp(-math.exp(-0.5) * heads((p["w0"] + lora(w, "rate")).sigmoid()))
    r, k = project(r, p["r.weight"]), project(k, p["k0.weight"])
    own = v @ p["own.weight"].T
    v = heads(own + (first - own) * (p["v0"] + lora(v, "mix")).sigmoid())
    a = heads((p["a0"] + lora(a, "a")).sigmoid())
    g = heads(lora(g, "g"))
    kk = F.normalize(k * p["k_k"], dim=-1)
    k = k * (1 + (a - 1) * p["k_a"])

    def step(
        S: Tensor, r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, kk: Tensor
    ) -> tuple[Tensor, Tensor]:
        move = torch.diag_embed(w) - (a * kk)[..., None] * kk[..., None, :]
        new = move @ S + k[..., None] * v[..., None, :]
        return new, torch.einsum("bhk,bhkv->bhv", r, new)

    start = torch.zeros(*k[:, 0].shape, v.shape[-1], dtype=x.dtype)
    o = head_norm(p, scan(step, start, r, decay, k, v, a, kk), "o", 64e-5)
    o = o + (r * k * p["r_k"]).sum(-1, keepdim=True) * v
    return merge(o * g, p["out.weight"])


# ---- Attention


def attention(p: Params, x: Tensor, window: int, rotary: float) -> Tensor:
    q, k, v = heads_of(p, x, "q", "k", "v")
    n = int(rotary * q.shape[-1])  # so many entries turn with the position
    q, k = (torch.cat([turned(y[..., :n]), y[..., n:]], -1) for y in (q, k))
    if q.dim() == 5:
        group = q.shape[3]
        q = q.flatten(2, 3)
        k, v = (y.repeat_interleave(group, 2) for y in (k, v))
    elif k.dim() == 3:
        k, v = (y[:, :, None].expand(-1, -1, q.shape[2], -1) for y in (k, v))
    n = torch.arange(x.shape[1])
    gap = n[:, None] - n
    q, k, v = (y.transpose(1, 2) for y in (q, k, v))
    seen = (gap >= 0) & (gap < window)
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    bias = p.get("out.bias", torch.tensor(0.0))
    return merge(o.transpose(1, 2), p["out.weight"]) + bias


def path(p: Params, x: Tensor) -> Tensor:
    """Logits q_i^T H_i … H_{j+1} k_j, with the reflections as matrices."""
    q, k, v = heads_of(p, x, "q", "k", "v")
    low = project(x @ p["low_x.weight"].T, p["low_linear.weight"])
    w = unit(F.silu(short(low, p["w.filter.weight"])))
    beta = 2 * project(x, p["beta.weight"], p["beta.bias"]).sigmoid()
    eye = torch.eye(w.shape[-1], dtype=x.dtype)
    H = eye - beta[..., None, None] * w[..., None] * w[..., None, :]
    o = torch.zeros_like(v)
    for i in range(x.shape[1]):
        logits: list[Tensor] = []
        row = q[:, i] / math.sqrt(q.shape[-1])
        for j in reversed(range(i + 1)):
            logits.append((row * k[:, j]).sum(-1))
            row = torch.einsum("bhk,bhkl->bhl", row, H[:, j])
        weights = torch.stack(logits[::-1], 1).softmax(1)
        o[:, i] = (weights[..., None] * v[:, : i + 1]).sum(1)
    return merge(o, p["out.weight"])
