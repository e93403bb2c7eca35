"""Random well-typed specs: texts of layers that use every operator of the language.

What is written elaborates by construction, stays within a small range of numbers and
reads back from order-free lines, which are shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from hypothesis import strategies as st

from seqdsl.testing.spec_expressions import expression, leaf
from seqdsl.testing.spec_memories import MONOIDS
from seqdsl.testing.spec_operators import UNARY
from seqdsl.testing.spec_repeats import repeat
from seqdsl.testing.spec_scope import SHAPES, Dims, Named, Writer, shape
from seqdsl.testing.spec_states import state

__all__ = ["Drawn", "random_specs"]

HEADER = "layer Random(D = {D}, H = {H}, K = {K}, V = 5, N = {N}):"

HELPERS = {
    **MONOIDS,
    "squash": """\
def squash(a, scale = 0.5):
    tanh(scale * a)

""",
    "Smooth": """\
layer Smooth(A):
    input u: [A]
    state m: [A] = 0
    g = sigmoid(linear(u, A))
    m = g * m[t-1] + (1 - g) * u
    output m

""",
    "Pair": """\
layer Pair(A):
    input u: [A]
    state c: [A] = param
    c = tanh(linear(c[t-1], A) + u)
    output first = c
    output second = c[t-1] - u

""",
}
"""What the layer may call, by name."""

SUBLAYERS = (
    "Smooth({0})",
    "(Pair({0})).first",
    "(Pair({0})).second",
    "SwiGLU({0})",
    "squash({0})",
    "Attention({0}, heads = 1)",
    "Block({0}, heads = 1)",
)


@dataclass(frozen=True)
class Drawn:
    """A random spec; `random`: whether it draws numbers or drops entries."""

    text: str
    causal: bool
    random: bool


@st.composite
def random_specs(
    draw: st.DrawFn, causal: bool | None = None, random: bool = False, size: int = 4
) -> Drawn:
    """Specs whose last layer is `Random`; all its options have small defaults.

    `causal` True (False) for layers that (do not) stream, None for either; with
    `random` some draw numbers. `size` bounds the number of equations.
    """
    w = Writer(draw)
    w.causal = (not w.chance(20)) if causal is None else causal
    w.random = random and w.chance(50)
    w.layers = list(SUBLAYERS)
    _inputs(w)
    _declarations(w)
    for _ in range(w.pick(range(1, size + 1))):
        w.pick(_STATEMENTS)(w)
    _outputs(w)
    lines = _shuffled(w)
    sizes = {d: w.pick((2, 1, 3)) for d in ("D", "H", "K")}
    # not 0, which no whole option may be; a run-time count reaches no step at all
    header = HEADER.format(N=w.pick((2, 3, 1)), **sizes)
    text = "\n".join([header, *(f"    {line}" for line in lines), ""])
    helpers = "".join(h for name, h in HELPERS.items() if f"{name}(" in text)
    return Drawn(helpers + text, w.causal, w.random)


def _shuffled(w: Writer) -> list[str]:
    """Statements in any order; those of a repeat stay together."""
    blocks: list[list[str]] = []
    for line in w.lines:
        if line.startswith(" "):
            blocks[-1].append(line)
        else:
            blocks.append([line])
    fixed = [b for b in blocks if b[0].startswith(("input", "output"))]
    others = [b for b in blocks if b not in fixed]
    if w.chance(50):
        others = cast(
            "list[list[str]]", w.draw(st.permutations(others).map(list[list[str]]))
        )
    inputs = [b for b in fixed if b[0].startswith("input")]
    outputs = [b for b in fixed if b[0].startswith("output")]
    return [line for block in (*inputs, *others, *outputs) for line in block]


# ---- Declarations


def _inputs(w: Writer) -> None:
    w.lines.append("input x: [D]")
    w.names.append(Named("x", ("D",)))
    more = (
        ("input u: []", Named("u", ())),
        ("input token: int", Named("token", (), "int")),
        ("input keep: bool", Named("keep", (), "bool")),
        ("input y: [H, K]", Named("y", ("H", "K"))),
        ("input c: [H] per batch", Named("c", ("H",), varies=False)),
        ("input s0: [K] per call", Named("s0", ("K",), varies=False)),
        ("input z: complex [K]", Named("z", ("K",), "complex")),
    )
    for line, value in more:
        if w.chance(25):
            w.lines.append(line)
            w.names.append(value)
    for value in w.readable((), "bool"):
        w.names.append(Named(f"float({value.text})", (), varies=False))
    for value in w.readable(("K",), "complex"):
        w.names.append(Named(f"real({value.text})", ("K",), varies=False))
        w.names.append(Named(f"abs({value.text})", ("K",), varies=False))


def _declarations(w: Writer) -> None:
    w.lines.append("dim M = H * K")
    w.lines.append("dim J = D")
    if w.chance(30):
        init = w.pick(("", " = 0.3", " ~ normal(0, 0.4)", " ~ uniform(-0.5, 0.5)"))
        frozen = w.pick(("", " frozen", " as other.name"))
        w.lines.append(f"param w: [H, K]{init}{frozen}")
        w.names.append(Named("w", ("H", "K"), varies=False))
    if w.chance(20):
        init = w.pick(("orthogonal()", "xavier()", "kaiming()", "orthogonal(0.5)"))
        w.lines.append(f"param q: [K, D] ~ {init}")
        w.names.append(Named("q", ("K", "D"), varies=False))
    if w.chance(20):
        w.lines.append("param b: [D] = 0.2 * index[D] - 0.1")
        w.names.append(Named("b", ("D",), varies=False))


# ---- Statements

BOUNDS = ("tanh({0})", "{0} / (1 + abs({0}))", "sin({0})", "{0}", "squash({0})")


def equation(w: Writer) -> None:
    """`v3 = tanh(…)`."""
    dims: Dims = w.pick(SHAPES)
    name = w.fresh("v")
    body = expression(w, dims, 3)
    for _ in range(w.pick(range(3))):
        body = w.pick([*UNARY.values()]).format(body if "(" in body else f"({body})")
    annotated = f": {shape(dims)}" if w.chance(10) else ""
    w.add(name, dims, f"{name}{annotated} = {w.pick(BOUNDS).format(body)}")


def _whole(w: Writer) -> None:
    """A statistic of the batch or of the whole sequence."""
    if w.causal:
        return equation(w)
    value, name = w.any_float(varies=True), w.fresh("g")
    form = w.pick(("mean({0})", "max[t]({0})", "sum[t]({0})", "{0}[t = last]"))
    text = form.format(value.text)
    w.lines.append(f"{name} = tanh({text})")
    w.names.append(Named(name, value.dims, varies=False))


def _integer(w: Writer) -> None:
    """An int or bool value and what it says as numbers."""
    name, dims = w.fresh("i"), w.pick(((), ("H",), ("K",)))
    number = expression(w, dims, 2)
    forms = (
        ("int", f"int(3 * sigmoid({number}))"),
        ("bool", f"{number} > 0.1371"),
        ("bool", f"not ({leaf(w, dims)} < 0.2371 or {number} > 0.5371)"),
        ("int", f"(t + int(2.5 * sigmoid({number}))) % 4"),
        ("int", f"(t * int(2.5 * sigmoid({number})) + 7) // 3 % 5"),
        ("int", f"abs(-int(3 * sigmoid({number})))"),
    )
    dtype, text = w.pick(forms)
    w.lines.append(f"{name} = {text}")
    w.names.append(Named(f"float({name})", dims, varies=False))
    known: tuple[str, ...] = ("int", "bool")
    if dtype in known:
        kind = "int" if dtype == "int" else "bool"
        w.names.append(Named(name, dims, kind, varies=False))


def _several(w: Writer) -> None:
    """`a, b = Pair(x)`."""
    dims = w.pick((("D",), ("H",)))
    a, b = w.fresh("p"), w.fresh("p")
    line = f"{a}, {b} = Pair({expression(w, dims, 2)})"
    w.add(a, dims, line)
    w.names.append(Named(b, dims, varies=w.varies(line)))


_STATEMENTS = (equation, state, repeat, _whole, _integer, _several, state, equation)


def _outputs(w: Writer) -> None:
    made = [v for v in w.readable() if v.varies and v.text not in ("x", "u", "y")]
    last = made[-1] if made else Named("x", ("D",))
    if not w.chance(30):
        w.lines.append(
            f"output {expression(w, ('D',), 1)} + 0 * linear({last.text}, D)"
        )
        return
    w.lines.append(f"output main = {last.text}")
    w.lines.append(f"output side = {expression(w, w.pick(SHAPES), 1)}")
    for value in w.names:
        if value.dtype in ("int", "bool", "complex") and w.chance(40):
            w.lines.append(f"output extra = {value.text}")
            return
