"""Plain loops, continued: xLSTM, TTT-Linear, and the classical cells as PyTorch has them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from stdlib_plain import Params, headwise, merge, project, scan, short, standard
from torch import Tensor, nn

# ---- xLSTM


def mlstm_memory(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """The parallel form without stabilizer: weights exp(i_s + sum of log f)."""
    total = F.logsigmoid(f).cumsum(1)
    gap = total[:, :, None] - total[:, None] + i[:, None]
    weights = (
        gap.exp() * torch.ones(x := q.shape[1], x, dtype=q.dtype).tril()[..., None]
    )
    scores = torch.einsum("bthk,bshk->btsh", q, k) * weights
    norm = scores.sum(2).abs().clamp(min=1)
    return torch.einsum("btsh,bshv->bthv", scores, v) / norm[..., None]


def mlstm(p: Params, x: Tensor) -> Tensor:
    q, k, v, o = (project(x, p[f"{n}.weight"]) for n in "qkvo")
    i = 15 * torch.tanh((x @ p["i.weight"].T + p["i_bias"]) / 15)
    f = 15 * torch.tanh((x @ p["f.weight"].T + p["f_bias"]) / 15)
    h = mlstm_memory(q / math.sqrt(q.shape[-1]), k, v, i, f)
    return merge(o.sigmoid() * p["norm"] * standard(h, 1e-6), p["out.weight"])


def mlstm_block(p: Params, x: Tensor) -> Tensor:
    y = standard(x) * p["y.weight"] + p["y.bias"]
    u, z = y @ p["u.weight"].T, y @ p["z.weight"].T
    c = F.silu(short(u, p["c.weight"], p["c.bias"]))
    q, k, v = (
        headwise(value, p[f"{name}.weight"])
        for name, value in (("q", c), ("k", c), ("v", u))
    )
    s = torch.cat([q, k, v], -1)
    i = s @ p["i.weight"].T + p["i_bias"]
    f = s @ p["f.weight"].T + p["f_bias"]
    q, k, v = (y.reshape(*x.shape[:2], *p["norm"].shape) for y in (q, k, v))
    h = standard(mlstm_memory(q, k / math.sqrt(q.shape[-1]), v, i, f)) * p["norm"]
    return x + ((h.flatten(2) + p["skip"] * c) * F.silu(z)) @ p["out.weight"].T


def slstm(p: Params, x: Tensor) -> Tensor:
    """Without stabilizer: c = f c + e^i tanh z, n = f n + e^i, h = o c / n."""
    heads, K = p["norm"].shape
    u = F.silu(short(x, p["u.weight"], p["u.bias"]))
    given = {"i": u, "f": u, "z": x, "o": x}
    names = list(given)
    fed = [headwise(given[n], p[f"{n}_headwise.weight"]) for n in names]
    back = [p[f"{n}_headwise_2.weight"] for n in names]
    bias = {n: p.get(f"{n}_headwise_2.bias", p["f_bias"]).flatten() for n in names}

    def step(S: Tensor, *now: Tensor) -> tuple[Tensor, Tensor]:
        h, c, n = S.unbind(1)
        i, f, z, o = (
            w + headwise(h, r) + bias[m]
            for m, w, r in zip(names, now, back, strict=True)
        )
        c = f.sigmoid() * c + i.exp() * torch.tanh(z)
        n = f.sigmoid() * n + i.exp()
        h = o.sigmoid() * c / n
        return torch.stack([h, c, n], 1), h

    start = torch.zeros(len(x), 3, heads * K, dtype=x.dtype)
    h = scan(step, start, *fed).reshape(*x.shape[:2], heads, K)
    return (p["norm"] * standard(h)).flatten(2)


# ---- TTT-Linear


def ttt(p: Params, x: Tensor, minibatch: int) -> Tensor:
    """The dual form: O = Q W0 - tril(Q K^T) (eta E), E the gradients at W0, by autograd."""
    q, k, v = (project(x, p[f"{n}.weight"]) for n in "qkv")
    eta = project(x, p["eta.weight"], p["eta.bias"]).sigmoid() / k.shape[-1]

    def normed(z: Tensor) -> Tensor:
        return p["gamma"] * standard(z) + p["beta"]

    weights = p["W_start"].expand(len(x), *p["W_start"].shape)
    b = p["b_start"].expand(len(x), *p["b_start"].shape)
    outs: list[Tensor] = []
    for at in range(0, x.shape[1], minibatch):
        Q, K, V, step = (y[:, at : at + minibatch] for y in (q, k, v, eta))
        z = (torch.einsum("bthk,bhkv->bthv", K, weights) + b[:, None]).requires_grad_()
        loss = (normed(z) - (V - K)).square().sum() / 2
        (error,) = torch.autograd.grad(loss, z)
        moves = step[..., None] * error
        scores = torch.einsum("bthk,bshk->bhts", Q, K).tril()
        o = torch.einsum("bthk,bhkv->bthv", Q, weights) + b[:, None]
        o = o - torch.einsum("bhts,bshv->bthv", scores, moves) - moves.cumsum(1)
        outs.append(Q + normed(o))
        weights = weights - torch.einsum("bthk,bthv->bhkv", K, moves)
        b = b - moves.sum(1)
    o = standard(torch.cat(outs, 1).flatten(2))
    o = o * p["out_layernorm.weight"] + p["out_layernorm.bias"]
    return o @ p["out_linear.weight"].T


# ---- Classical cells


def run_torch(
    cell: nn.RNNBase, x: Tensor, gates: list[tuple[str, str, Params]]
) -> Tensor:
    """A torch cell with the weights of `gates`: input and state part, per direction."""
    directions = 2 if cell.bidirectional else 1
    per = len(gates) // directions
    for d in range(directions):
        own = gates[d * per : (d + 1) * per]
        suffix = "_reverse" if d else ""
        for kind, column in (("ih", 0), ("hh", 1)):
            for part in ("weight", "bias"):
                rows = [gate[2][f"{gate[column]}.{part}"] for gate in own]
                target = cell.get_parameter(f"{part}_{kind}_l0{suffix}")
                target.data.copy_(torch.cat(rows))
    with torch.no_grad():
        return cell(x)[0]


def elman(p: Params, x: Tensor) -> Tensor:
    cell = nn.RNN(x.shape[-1], len(p["h_x.bias"]), batch_first=True).double()
    return run_torch(cell, x, [("h_x", "h_h", p)])


def jordan(p: Params, x: Tensor) -> Tensor:
    """The context unrolled: c_t is the sum of mu^(t-1-s) y_s over the past."""
    outs: list[Tensor] = []
    for t in range(x.shape[1]):
        c = torch.zeros(len(x), p["y.weight"].shape[0], dtype=x.dtype)
        for s, y in enumerate(outs):
            c = c + 0.5 ** (t - 1 - s) * y
        h = x[:, t] @ p["h_x.weight"].T + p["h_x.bias"] + c @ p["h_c.weight"].T
        outs.append((h.sigmoid() @ p["y.weight"].T + p["y.bias"]).softmax(-1))
    return torch.stack(outs, 1)


def lstm(p: Params, x: Tensor) -> Tensor:
    cell = nn.LSTM(x.shape[-1], len(p["i_x.bias"]), batch_first=True).double()
    return run_torch(cell, x, [(f"{g}_x", f"{g}_h", p) for g in "ifgo"])


def peephole_lstm(p: Params, x: Tensor) -> Tensor:
    def gate(name: str, x: Tensor, h: Tensor) -> Tensor:
        fed = x @ p[f"{name}_x.weight"].T + p[f"{name}_x.bias"]
        return fed + h @ p[f"{name}_h.weight"].T

    def step(S: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h, c = S.unbind(1)
        i = (gate("i", x, h) + p["i_param"] * c).sigmoid()
        f = (gate("f", x, h) + p["f_param"] * c).sigmoid()
        c = torch.tanh(gate("g", x, h)) * i + c * f
        h = torch.tanh(c) * (gate("o", x, h) + p["o_param"] * c).sigmoid()
        return torch.stack([h, c], 1), h

    return scan(step, torch.zeros(len(x), 2, len(p["i_param"]), dtype=x.dtype), x)


def gru(p: Params, x: Tensor) -> Tensor:
    cell = nn.GRU(x.shape[-1], len(p["r_x.bias"]), batch_first=True).double()
    return run_torch(cell, x, [(f"{g}_x", f"{g}_h", p) for g in "rzn"])


def reset_before_gru(p: Params, x: Tensor) -> Tensor:
    def fed(name: str, x: Tensor) -> Tensor:
        return x @ p[f"{name}_x.weight"].T + p[f"{name}_x.bias"]

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (fed("z", x) + h @ p["z_h.weight"].T).sigmoid()
        r = (fed("r", x) + h @ p["r_h.weight"].T).sigmoid()
        n = torch.tanh(fed("n", x) + (r * h) @ p["n_linear.weight"].T)
        h = (1 - z) * h + z * n
        return h, h

    return scan(step, torch.zeros(len(x), len(p["z_x.bias"]), dtype=x.dtype), x)


def bidirectional_elman(p: Params, x: Tensor) -> Tensor:
    size = len(p["f_x.bias"])
    cell = nn.RNN(x.shape[-1], size, batch_first=True, bidirectional=True).double()
    return run_torch(cell, x, [("f_x", "f_f", p), ("b_x", "b_b", p)])


def bidirectional_gru(p: Params, x: Tensor) -> Tensor:
    size = len(p["rf_x.bias"])
    cell = nn.GRU(x.shape[-1], size, batch_first=True, bidirectional=True).double()
    gates = [(f"{g}{d}_x", f"{g}{d}_{d}", p) for d in "fb" for g in "rzn"]
    return run_torch(cell, x, gates)


def moe(p: Params, x: Tensor) -> Tensor:
    """Token by token: the two best experts, weighted by their renormalized chances."""
    out = torch.zeros_like(x)
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            chance = (p["p.weight"] @ x[b, t]).softmax(-1)
            values, chosen = chance.topk(2)
            for weight, e in zip(values / values.sum(), chosen, strict=True):
                h = F.silu(p["gate"][e] @ x[b, t]) * (p["up"][e] @ x[b, t])
                out[b, t] += weight * (p["down"][e] @ h)
    return out


def bidirectional_min_gru(p: Params, x: Tensor) -> Tensor:
    """Each direction in closed form: products of what is kept."""

    def one(x: Tensor, name: str) -> Tensor:
        z = project(x, p[f"z{name}.weight"], p[f"z{name}.bias"]).sigmoid()
        c = project(x, p[f"{name}.weight"], p[f"{name}.bias"])
        kept = (1 - z).cumprod(1)
        return kept * (z * c / kept).cumsum(1)

    return torch.cat([one(x, "f"), one(x.flip(1), "b").flip(1)], -1)
