"""No update is called affine that is not: random specs against the interpreter."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqdsl.analysis import analyze
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.sizes import Scalar
from seqdsl.testing.normal_forms import check_normal_forms

SIZES: dict[str, Scalar] = {"D": 4, "heads": 2, "N": 2}

ATOMS = ("h[t-1]", "h[t-1]", "x", "f", "a", "0.5", "2", "1")
UNARY = (
    "-{}",
    "square({})",
    "tanh({})",
    "exp(0.3 * {})",
    "relu({})",
    "abs({})",
    "sigmoid({})",
    "softplus({})",
    "sin({})",
    "log(1 + exp({}))",
    "({}) ** 2",
    "mean[D]({} + x * 0)",
    "sum[D]({} + x * 0)",
    "max[D]({} + x * 0)",
    "roll[D]({} + x * 0, 1)",
    "shift[D]({} + x * 0, 1)",
    "cumsum[D]({} + x * 0)",
    "dot[J](U, ({} + x * 0).(D -> J))",
    "({} + x * 0).(D -> [heads, N]).([heads, N] -> D)",
    "(gn * ({} + x * 0).(D -> [heads, N])).([heads, N] -> D)",
    "grad(sum[D](square(h[t-1] * f - ({}))), h[t-1])",
)
BINARY = (
    "({} + {})",
    "({} + {})",
    "({} - {})",
    "({} - {})",
    "({} * {})",
    "({} * {})",
    "({} / (1 + square({})))",
    "max({}, {})",
    "min({}, {})",
    "logaddexp({}, {})",
    "where(keep, {}, {})",
    "where(on, {}, {})",
    "where(x > 0, {}, {})",
    "where(h[t-1] > 0, {}, {})",
)


def _filled(parts: tuple[str, ...]) -> str:
    form, *args = parts
    return form.format(*args)


def expressions(depth: int, *names: str) -> st.SearchStrategy[str]:
    """Texts over the state, inputs and `names`, with at most `depth` operators deep."""
    atoms = st.sampled_from((*ATOMS, *names, *names))
    if depth == 0:
        return atoms
    below = expressions(depth - 1, *names)
    unary = st.tuples(st.sampled_from(UNARY), below).map(_filled)
    binary = st.tuples(st.sampled_from(BINARY), below, below).map(_filled)
    return st.one_of(atoms, unary, binary, binary)


LAYER = """
layer L(D, heads, N):
    input x: [D]
    input f: [D]
    input a: []
    input on: bool
    input keep: bool [D]
    input gn: [heads, N]
    input h0: [D] per batch
    dim J = D
    param U: [D, J]
    state h: [D] = h0
    u = {} + x * 0
    p = {} + x * 0
    h = {} + x * 0
    output h
"""


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(expressions(2), expressions(2, "u"), expressions(3, "u", "p"))
def test_random_updates(u: str, p: str, update: str) -> None:
    model = elaborate_text(LAYER.format(u, p, update))
    check_normal_forms(analyze(model), SIZES)


# ---- Two coupled matrix states and a bool, with contractions of both sides

MATRICES = ("S[t-1]", "S[t-1]", "P[t-1]", "k * v", "k2 * v", "A")
VECTORS = ("k", "k2", "dot[V]({}, v)", "gk", "sum[V]({})")
ROWS = ("v", "dot[K](k, {})", "dot[K](k2, {})", "dot[K](gk, {})", "mean[K]({})")
MIXES = (
    "{m} + {n}",
    "{m} - {n}",
    "{k} * {r}",
    "{k} * {r}",
    "{m} - {k} * {r}",
    "a * ({m})",
    "gk * ({m})",
    "b * ({m}) + ({n})",
    "v * ({m})",
    "where(on, {m}, {n})",
    "where(i > 1, {m}, 0 * ({n}))",
    "dot[Q](k * k2.(K -> Q), ({m}).(K -> Q))",
    "dot[Q](W, ({m}).(K -> Q))",
    "dot[R](E, ({m}).(V -> R))",
    "({m}).([K, V] -> F).(F -> [K, V])",
    "roll[K]({m}, 1)",
    "({m}) * sum[K, V]({n})",
    "max({m}, {n})",
    "min(max({m}, {n}), k * v)",
    "({m}) - b * grad(sum[V](square(dot[K](k, S[t-1]) - v)), S[t-1])",
)


def matrices(depth: int, *names: str) -> st.SearchStrategy[str]:
    """Texts of matrices [K, V]."""
    atoms = st.sampled_from((*MATRICES, *names, *names))
    if depth == 0:
        return atoms
    below = matrices(depth - 1, *names)
    column = st.tuples(st.sampled_from(VECTORS), below).map(_filled)
    row = st.tuples(st.sampled_from(ROWS), below).map(_filled)
    parts = st.fixed_dictionaries({"m": below, "n": below, "k": column, "r": row})
    mixed = st.tuples(st.sampled_from(MIXES), parts).map(_mixed)
    return st.one_of(atoms, mixed, mixed)


def _mixed(found: tuple[str, dict[str, str]]) -> str:
    form, parts = found
    return f"({form.format(**parts)})"


MATRIX_LAYER = """
layer L(K, V):
    input k: [K]
    input k2: [K]
    input gk: [K]
    input v: [V]
    input a: []
    input b: []
    input i: int
    input on: bool
    input S0: [K, V] per batch
    dim Q = K
    dim R = V
    dim F = K * V
    param A: [K, V]
    param W: [K, Q]
    param E: [V, R]
    state S: [K, V] = S0
    state P: [K, V] = 1
    u = {} + 0 * k * v
    P = {} + 0 * k * v
    S = {} + 0 * k * v
    output S
"""


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(matrices(2), matrices(1, "u"), matrices(2, "u", "P"))
def test_random_matrix_updates(u: str, p: str, update: str) -> None:
    model = elaborate_text(MATRIX_LAYER.format(u, p, update))
    check_normal_forms(analyze(model), {"K": 3, "V": 2})


# ---- Semirings: maxima, minima, log-sum-exp, bools

LATTICE = (
    "max({}, {})",
    "min({}, {})",
    "logaddexp({}, {})",
    "({} + {})",
    "({} - {})",
    "relu({} - {})",
    "where(on, {}, {})",
    "log(exp({}) + exp({}))",
    "log(exp({}) * 2 + sigmoid({}))",
    "max[J](U + max({}, {} + 0 * x).(D -> J))",
    "logsumexp[J](U + max({}, {} + 0 * x).(D -> J))",
)
BOOLS = (
    "({} and {})",
    "({} or {})",
    "(({} or {}) and keep)",
    "(not {} or {})",
    "where(on, {}, {})",
    "({} != {})",
    "where(keep, {}, {} or c[t-1])",
)


def nests(
    forms: tuple[str, ...], leaves: tuple[str, ...], depth: int
) -> st.SearchStrategy[str]:
    """Texts that combine `leaves` by the two-place `forms`."""
    atoms = st.sampled_from(leaves)
    if depth == 0:
        return atoms
    below = nests(forms, leaves, depth - 1)
    both = st.tuples(st.sampled_from(forms), below, below).map(_filled)
    return st.one_of(atoms, both, both)


NESTED = """
layer L(D):
    input x: [D]
    input f: [D]
    input a: []
    input on: bool
    input keep: bool [D]
    input h0: [D] per batch
    dim J = D
    param U: [D, J]
    state h: [D] = h0
    state c: bool [D] = h0 > 0
    h = max({}, -30 + 0 * x)
    c = ({}) or (x > 9)
    output h
    output c
"""


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    nests(LATTICE, ("h[t-1]", "h[t-1]", "x", "f", "a", "0"), 3),
    nests(BOOLS, ("c[t-1]", "keep", "on", "x > 0", "true"), 3),
)
def test_random_nests_of_other_semirings(update: str, bools: str) -> None:
    model = elaborate_text(NESTED.format(update, bools))
    check_normal_forms(analyze(model), {"D": 4})
