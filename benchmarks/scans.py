"""Steps of recurrences as JAX writes them: carry and inputs to carry and output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def mingru(h: Any, x: Any) -> Any:
    import jax

    z, c = jax.nn.sigmoid(x[0]), x[1]
    c = jax.numpy.where(c >= 0, c + 0.5, jax.nn.sigmoid(c))
    h = ((1 - z) * h[0] + z * c,)
    return h, h[0]


def mingru_parallel(x: Any, y: Any) -> Any:
    """All steps at once, by `lax.associative_scan` over pairs of factor and summand."""
    import jax

    def joined(a: Any, b: Any) -> Any:
        return a[0] * b[0], b[0] * a[1] + b[1]

    z = jax.nn.sigmoid(x)
    c = jax.numpy.where(y >= 0, y + 0.5, jax.nn.sigmoid(y))
    factors = 1 - z
    summands = (z * c).at[:, 0].add(0.01 * factors[:, 0])
    return jax.lax.associative_scan(joined, (factors, summands), axis=1)[1]


def gla(state: Any, x: Any) -> Any:
    import jax.numpy as jnp

    q, k, v, a = x
    s = a[..., None] * state[0] + k[..., None] * v[..., None, :]
    return (s,), jnp.einsum("bhk,bhkv->bhv", q, s)


def delta(state: Any, x: Any) -> Any:
    import jax.numpy as jnp

    q, k, v, a, b = x
    s = a[..., None, None] * state[0]
    e = b[..., None] * (v - jnp.einsum("bhk,bhkv->bhv", k, s))
    s = s + k[..., None] * e[..., None, :]
    return (s,), jnp.einsum("bhk,bhkv->bhv", q, s)


def rwkv7(state: Any, x: Any) -> Any:
    import jax.numpy as jnp

    q, k, v, w, a, b = x
    read = jnp.einsum("bhk,bhkv->bhv", a, state[0])
    s = w[..., None] * state[0] + b[..., None] * read[..., None, :]
    s = s + k[..., None] * v[..., None, :]
    return (s,), jnp.einsum("bhk,bhkv->bhv", q, s)


def mlstm(state: Any, x: Any) -> Any:
    import jax
    import jax.numpy as jnp

    c, n, m = state
    q, k, v, i, f = x
    log_f = jax.nn.log_sigmoid(f)
    new = jnp.maximum(m + log_f, i)
    decay, write = jnp.exp(m + log_f - new), jnp.exp(i - new)
    c = decay[..., None, None] * c + (write[..., None] * k)[..., None] * v[..., None, :]
    n = decay[..., None] * n + write[..., None] * k
    size = jnp.abs(jnp.einsum("bhk,bhk->bh", q, n))
    read = jnp.einsum("bhk,bhkv->bhv", q, c)
    return (c, n, new), read / jnp.maximum(size, jnp.exp(-new))[..., None]


def aaren(state: Any, x: Any) -> Any:
    import jax.numpy as jnp

    c, o = state
    s, v = x
    new = jnp.logaddexp(c, s)
    o = jnp.exp(c - new)[..., None] * o + jnp.exp(s - new)[..., None] * v
    return (new, o), o


def hmm(state: Any, x: Any) -> Any:
    import jax.numpy as jnp

    (emission,) = x
    a = state[0] @ transition_array()
    a = a * emission
    a = a / a.sum(-1, keepdims=True)
    return (a,), jnp.log(a)


def viterbi(state: Any, x: Any) -> Any:
    (emission,) = x
    best = (state[0][:, :, None] + transition_array()).max(1) + emission
    return (best,), best


def linear(state: Any, x: Any) -> Any:
    import jax.numpy as jnp

    q, k, v = x
    s = state[0] + k[..., None] * v[..., None, :]
    return (s,), jnp.einsum("bhk,bhkv->bhv", q, s)


def plain_delta(state: Any, x: Any) -> Any:
    import jax.numpy as jnp

    q, k, v, b = x
    e = b[..., None] * (v - jnp.einsum("bhk,bhkv->bhv", k, state[0]))
    s = state[0] + k[..., None] * e[..., None, :]
    return (s,), jnp.einsum("bhk,bhkv->bhv", q, s)


def transition_array() -> Any:
    import jax.numpy as jnp

    n = 64
    return jnp.asarray(transition(n).numpy())


def transition(n: int) -> Tensor:
    """A stochastic matrix."""
    at = torch.arange(n, dtype=torch.float32)
    return torch.softmax(torch.sin(at[:, None] * 3 + at), -1)
