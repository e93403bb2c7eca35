"""One small layer for every kind of recurrence that a verdict tells apart, and each template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seqdsl.elaborate import elaborate_text
from seqdsl.testing.layers import subject
from seqdsl.testing.subject import Subject


@dataclass(frozen=True)
class Row:
    """A layer; `ranges` of its int inputs; whether a bfloat16 of it means anything.

    Of one with `kinks` gradients jump, so that rounding may choose another; one that
    `grows` by small steps forgets in bfloat16 what they add.
    """

    name: str
    text: str
    ranges: Mapping[str, tuple[int, int]]
    half: bool = True
    kinks: bool = False

    def __str__(self) -> str:
        return self.name

    def subject(self) -> Subject:
        """The layer, whose options all have values."""
        model = elaborate_text(self.text)
        made = subject(model, {}, text=self.text, file=self.name)
        return Subject(made.model, made.options, made.make, self.ranges)


SIZES: Mapping[str, str] = {"D": "D = 3", "H": "H = 2", "K": "K = 3", "V": "V = 2"}
INPUTS: Mapping[str, str] = {
    "x": "[D]", "y": "[D]", "s": "[]", "g": "[H]", "b": "[H]", "a": "[H, K]",
    "c": "[H, K]", "k": "[H, K]", "k2": "[H, K]", "q": "[H, K]", "v": "[H, V]",
    "v2": "[H, V]", "n": "int", "R": "[D, D as J]",
}  # fmt: skip
"""What rows may read, under names that stand for it."""

S = "state S: [H, K, V] = 0"
UNIT = "e = l2norm[K](k)"
Q = "output dot[K](q, S)"

LINES: Mapping[str, tuple[str, ...]] = {
    "short convolution": ("output y = conv(x, width = 4)",),
    "token shift": ("output lerp(x[t-1], x, sigmoid(y))",),
    "moving average": (
        "param w: [D] = 2", "state h: [D] = 0", "w2 = sigmoid(w)",
        "h = w2 * h[t-1] + (1 - w2) * x", "output h",
    ),
    "complex poles": (
        "param nu: [D] = -2", "param phase: [D] = 1", "state h: complex [D] = 0",
        "h = exp(complex(-exp(nu), phase)) * h[t-1] + x",
        "output re = real(h)", "output im = imag(h)",
    ),
    "gate by channel": (
        "state h: [D] = 0", "z = sigmoid(y)", "h = (1 - z) * h[t-1] + z * x", "output h",
    ),
    "scalar gate": (
        "state h: [D] = 0", "h = sigmoid(s + 2) * h[t-1] + x", "output h",
    ),
    "gate from the end": (
        "state h: [D] = 0", "h = sigmoid(y + 1) * h[t+1] + x", "output h",
    ),
    "linear attention": (S, "S = S[t-1] + k * v", Q),
    "retention": (S, "S = 0.97 * S[t-1] + k * v", Q),
    "scalar decay": (S, "S = sigmoid(g + 3) * S[t-1] + k * v", Q),
    "decay by channel": (S, "S = sigmoid(a + 2) * S[t-1] + k * v", Q),
    "bonus": (
        "param u: [H, K] = 0.5", S, "S = sigmoid(a + 2) * S[t-1] + k * v",
        "output dot[K](q, S[t-1] + u * k * v)",
    ),
    "delta rule": (
        UNIT, S, "S = S[t-1] + sigmoid(b) * e * (v - dot[K](e, S[t-1]))", Q,
    ),
    "gated delta rule": (
        UNIT, S, "f = sigmoid(g + 3)",
        "S = f * S[t-1] + sigmoid(b) * e * (v - dot[K](e, f * S[t-1]))", Q,
    ),
    "gated delta rule by channel": (
        UNIT, S, "f = sigmoid(a + 3)",
        "S = f * S[t-1] + sigmoid(b) * e * (v - dot[K](e, f * S[t-1]))", Q,
    ),
    "delta rule from the end": (
        UNIT, S, "S = S[t+1] + sigmoid(b) * e * (v - dot[K](e, S[t+1]))", Q,
    ),
    "diagonal plus low rank": (
        UNIT, S, "f = exp(-0.6 * sigmoid(a))",
        "S = f * S[t-1] - sigmoid(c) * e * dot[K](e, S[t-1]) + k * v", Q,
    ),
    "two erases": (
        UNIT, "e2 = l2norm[K](k2)", S,
        "M = S[t-1] + sigmoid(b) * e * (v - dot[K](e, S[t-1]))",
        "S = M + sigmoid(g) * e2 * (v2 - dot[K](e2, M))", Q,
    ),
    "erases in a repeat": (
        UNIT, S, "repeat j in 2:",
        "    b2 = sigmoid(param([]) * j + b)", "    state M: [H, K, V] = 0.9 * S[t-1]",
        "    M = M[j-1] + b2 * e * (v - dot[K](e, M[j-1]))", "S = M[j = 2]", Q,
    ),
    "momentum of a delta rule": (
        UNIT, S, "state P: [H, K, V] = 0",
        "P = 0.5 * P[t-1] + sigmoid(b) / 4 * e * (v - dot[K](e, S[t-1]))",
        "S = 0.9 * S[t-1] + P", Q,
    ),
    "log-max": (
        "state m: [H] = -inf", S, "state n2: [H, K] = 0",
        "m = max(m[t-1] + logsigmoid(g + 2), b)",
        "f = exp(m[t-1] + logsigmoid(g + 2) - m)",
        "S = f * S[t-1] + exp(b - m) * k * v", "n2 = f * n2[t-1] + exp(b - m) * k",
        "output dot[K](q, S) / max(abs(dot[K](q, n2)), exp(-m))",
    ),
    "log-sum-exp with a mean": (
        "state z: [D] = -inf", "state o: [D] = 0", "z = logaddexp(z[t-1] - 0.5, y)",
        "o = exp(z[t-1] - 0.5 - z) * o[t-1] + exp(y - z) * x", "output o",
    ),
    "frozen gradients": (
        UNIT, "state W: [H, K, V] = param([H, K, V], normal(0, 0.1))",
        "state W0: [H, K, V] = 0", "W0 = where(t % 40 == 0, W[t-1], W0[t-1])",
        "loss = sum[H, V](square(tanh(dot[K](e, W0)) - tanh(v)))",
        "W = 0.98 * W[t-1] - 0.1 * sigmoid(b) * grad(loss, W0)", "output dot[K](q, W)",
    ),
    "rotations": (
        "param angle: [D] = 0.5", "state u: [D] = 0", "state w: [D] = 0",
        "f = sigmoid(y + 2)", "u = f * (cos(angle) * u[t-1] - sin(angle) * w[t-1]) + x",
        "w = f * (sin(angle) * u[t-1] + cos(angle) * w[t-1])", "output u", "output w",
    ),
    "dense": (
        "state h: [D] = 0", "h = dot[J](tanh(R) / 4, h[t-1].(D -> J)) + x", "output h",
    ),
    "log of a matrix": (
        "state h: [D] = 0",
        "h = logsumexp[J](h[t-1].(D -> J) + R) - 1.5",
        "output h",
    ),
    "best path": (
        "state h: [D] = 0",
        "h = max[J](h[t-1].(D -> J) + R) - 1.25",
        "output h",
    ),
    "log-sum-exp": (
        "state z: [D] = -inf", "z = logaddexp(z[t-1] + logsigmoid(y + 1), x)",
        "output z",
    ),
    "running maximum": (
        "state h: [D] = -inf", "h = max(h[t-1] - sigmoid(y), x)", "output h",
    ),
    "shortest path": (
        "state h: [D] = inf", "h = min(h[t-1] + sigmoid(y), x)", "output h",
    ),
    "bottleneck": (
        "state h: [D] = inf", "h = max(min(h[t-1], y + 2), x - 2)", "output h",
    ),
    "boolean": (
        "state h: bool [D] = false", "h = h[t-1] and y < 1 or x > 1",
        "output float(h) * x",
    ),
    "clamp": (
        "state h: [D] = 0", "h = min(max(h[t-1] + x, -1), 2)", "output h",
    ),
    "table": (
        "state f: int = 0", "f = where(n == 0, f[t-1], where(n == 1, 2 - f[t-1], 1))",
        "output f * x",
    ),
    "remainder": (
        "state f: int = 0", "f = (f[t-1] + n) % 7", "output f * x",
    ),
    "given or its own": (
        "state h: [D] = 0", "u = where(n == 0, x, h[t-1])",
        "h = tanh(0.5 * u + y)", "output h",
    ),
    "gated unit": (
        "state h: [D] = 0", "z = sigmoid(y + 0.3 * h[t-1])",
        "h = (1 - z) * tanh(x + 0.3 * linear(h[t-1], D)) + z * h[t-1]", "output h",
    ),
}  # fmt: skip
JUMPS = frozenset(
    {"table", "remainder", "complex poles", "boolean", "given or its own"}
)
GROWS = frozenset({"log of a matrix", "best path"})
KINKS = frozenset(
    {"best path", "running maximum", "shortest path", "bottleneck", "clamp"}
)


def _text(lines: tuple[str, ...]) -> str:
    """A layer that declares what its lines name."""
    body = " ".join(lines)
    for sign in "()[],.*+-/:=<>":
        body = body.replace(sign, " ")
    words = set(body.split())
    used = {n: kind for n, kind in INPUTS.items() if n in words}
    sizes = [s for n, s in SIZES.items() if n in words | set(" ".join(used.values()))]
    head = f"layer Row({', '.join(sizes)}):\n"
    given = (f"input {n}: {kind}" for n, kind in used.items())
    return head + "".join(f"    {line}\n" for line in (*given, *lines))


DECLARED = (
    "monoid softmean[V](m: [] = -inf, u: [] = 0, w: [V] = 0):",
    "    m = max(first.m, second.m)",
    "    old = where(first.m == m, 1, exp(first.m - m))",
    "    new = where(second.m == m, 1, exp(second.m - m))",
    "    u = old * first.u + new * second.u",
    "    w = old * first.w + new * second.w",
)
MEAN = (
    "state m: [] = -inf", "state u: [] = 0", "state w: [D] = 0",
    "m, u, w = softmean[D](m[t-1], u[t-1], w[t-1], s, 1, x)", "output w / u",
)  # fmt: skip

ROWS = (
    *(
        Row(name, _text(lines), {"n": (0, 3)}, name not in JUMPS | GROWS, name in KINKS)
        for name, lines in LINES.items()
    ),
    Row("declared", "\n".join((*DECLARED, _text(MEAN))), {}),
)
