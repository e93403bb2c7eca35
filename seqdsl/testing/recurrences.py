"""Random recurrences, linear and not, as lines of a layer.

An update is grown from templates with typed holes: `{F}` a float along D, `{B}` a bool,
`{I}` an int, `{Z}` a complex number, `{M}` a matrix [K, V], `{k}` and `{v}` its columns
and rows, `{L}` what maxima, minima and sums of exponentials are made of, `{A}` an
automaton, `{P}` something positive. The atoms of a kind are what a fully grown hole becomes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random

HEADER = """
monoid fraction(h: [], a: [] = 1, b: [] = 0, c: [] = 0, d: [] = 1):
    a = second.a * first.a + second.b * first.c
    b = second.a * first.b + second.b * first.d
    c = second.c * first.a + second.d * first.c
    d = second.c * first.b + second.d * first.d
    (a * h + b) / (c * h + d)

monoid scaled(h: [], rate: [] = 1, m: [] = -inf):
    rate = first.rate * second.rate
    m = max(second.rate * first.m, second.m)
    max(rate * h, m)

monoid largest(top: [] = -inf, at: [] = 0):
    top = max(first.top, second.top)
    at = where(second.top >= first.top, second.at, first.at)

monoid averaged(h: [], n: [] = 0, mean: [] = 0) commutes:
    n = first.n + second.n
    mean = (first.mean + second.mean) / 2
    h + n * mean

layer L(D, heads, N, K, V):
    input x: [D]
    input f: [D]
    input a: []
    input b: []
    input i: int
    input on: bool
    input keep: bool [D]
    input perm: int [D] per call
    input table: int [Q]
    input rules: int [Q, D] per call
    input gn: [heads, N]
    input start: [D] per batch
    input fresh: [K, V] per batch
    input k: [K]
    input k2: [K]
    input gk: [K]
    input v: [V]
    input kr: [N, K]
    dim J = D
    dim Q = D
    dim Y = K
    dim R = V
    dim F2 = K * V
    param U: [D, J]
    param W: [K, Y]
    param E: [V, R]
    param G: [K, V]
"""
OPTIONS: Mapping[str, int] = {"D": 4, "heads": 2, "N": 2, "K": 3, "V": 2}

_UNARY = (
    "-{F}|square({F})|exp(0.3 * {F})|log(1 + exp({F}))|log(1 + square({F}))|log1p(exp({F}))"
    "|expm1(0.3 * {F})|sqrt(1 + square({F}))|sqrt(square({F}))|rsqrt(1 + square({F}))"
    "|sin({F})|cos({F})|tan(0.1 * {F})|atan({F})|sinh(0.2 * {F})|cosh(0.2 * {F})"
    "|tanh({F})|atanh(0.5 * tanh({F}))|sigmoid({F})|logsigmoid({F})|log(sigmoid({F}))"
    "|softplus({F})|silu({F})|gelu({F})|relu({F})|erf({F})|sign({F})|floor({F})"
    "|ceil({F})|round({F})|abs({F})|({F}) ** 2|abs({F}) ** 0.5|float({B})|float({I})"
    "|stopgrad({F})|real({Z})|imag({Z})|abs({Z})"
)
_BINARY = (
    "({F} + {F})|({F} + {F})|({F} - {F})|({F} - {F})|({F} * {F})|({F} * {F})"
    "|({F} / (1 + square({F})))|({F} / 2)|({F} % 3)|({F} // 2)|max({F}, {F})"
    "|min({F}, {F})|logaddexp({F}, {F})|atan2({F}, {F})|where({B}, {F}, {F})"
    "|where(keep, {F}, {F})|where({F} > {F}, {F}, {F})|where({h} > x, {h}, {F})"
)
_ALONG = (
    "sum[D]({F} + x * 0)|mean[D]({F} + x * 0)|max[D]({F} + x * 0)|min[D]({F} + x * 0)"
    "|prod[D]({F} + x * 0)|logsumexp[D]({F} + x * 0)|softmax[D]({F} + x * 0)"
    "|log_softmax[D]({F} + x * 0)|cumsum[D]({F} + x * 0)|cumprod[D]({F} + x * 0)"
    "|cummax[D]({F} + x * 0)|cummin[D]({F} + x * 0)|logcumsumexp[D]({F} + x * 0)"
    "|top[D]({F} + x * 0, 2)|roll[D]({F} + x * 0, 1)|shift[D]({F} + x * 0, 1)"
    "|dot[J](U, ({F} + x * 0).(D -> J))|f * sum[D](x * {F})"
    "|dot[J](onehot[J](perm), ({F} + x * 0).(D -> J))|({F} + x * 0)[D = perm]"
    "|dot[J](float(index[D] == index[J]) * U, ({F} + x * 0).(D -> J))"
    "|dot[J](float(index[D] == index[J]) - f * x.(D -> J), ({F} + x * 0).(D -> J))"
    "|({F} + x * 0).(D -> [heads, N]).([heads, N] -> D)"
    "|(gn * ({F} + x * 0).(D -> [heads, N])).([heads, N] -> D)"
    "|concat[D1, D2 as D](({F} + x * 0)[D = 0:2 as D1], (x + {F})[D = 1:3 as D2])"
    "|conv[D]({F} + x * 0, width = 3)|conv({F} + x * 0, width = 2)"
    "|grad(sum[D](square({h} * f - ({F}))), {h})"
)
_MATRIX = (
    "({M} + {M})|({k} * {v})|({k} * {v})|({M} - {k} * {v})|({M} - {k} * {v})"
    "|(a * {M})|(gk * {M})|(b * {M} + {M})|(v * {M})|where(on, {M}, {M})"
    "|where(i > 1, {M}, 0 * {M})|dot[Y](k * k2.(K -> Y), ({M}).(K -> Y))"
    "|dot[Y](W, ({M}).(K -> Y))|dot[R](E, ({M}).(V -> R))|dot[N](kr, dot[K](kr, {M}))"
    "|dot[Y](float(index[K] == index[Y]) - k * gk.(K -> Y), ({M}).(K -> Y))"
    "|({M}).([K, V] -> F2).(F2 -> [K, V])|roll[K]({M}, 1)|({M} * sum[K, V]({M}))"
    "|max({M}, {M})|min(max({M}, {M}), k * v)|conv({M}, width = 2)"
    "|({M} - b * grad(sum[V](square(dot[K](k, {S}) - v)), {S}))"
)
_LATTICE = (
    "max({L}, {L})|min({L}, {L})|max(min({h}, x), {L})|logaddexp({L}, {L})|({L} + {L})|({L} - {L})"
    "|max({L}, x)|min({L}, f)|logaddexp({L}, f)|({L} + a)"
    "|relu({L} - {L})|where(on, {L}, {L})|where({L} > x, {L}, x)|softplus({L})"
    "|where({h} < {L}, {h}, {L})|log(exp({L}) + exp({L}))|abs({L})|0.5 * {L}"
    "|log(exp({L}) * 2 + sigmoid({L}))|max[J](U + max({L}, {L} + 0 * x).(D -> J))"
    "|logsumexp[J](U + max({L}, {L} + 0 * x).(D -> J))|-{L}"
    "|min[J](U + min({L}, {L} + 0 * x).(D -> J))"
)
_FORMS: Mapping[str, tuple[str, ...]] = {
    "F": (*_UNARY.split("|"), *2 * _BINARY.split("|"), *_ALONG.split("|")),
    "B": (
        "({B} and {B})",
        "({B} or {B})",
        "(not {B})",
        "({B} != {B})",
        "({B} == {B})",
        "where({B}, {B}, {B})",
        "where(on, {B}, {B})",
        "({F} > {F})",
        "({F} >= {F})",
        "({F} < x)",
        "({F} <= f)",
        "any[D]({B} or keep)",
        "all[D]({B} and keep)",
        "bool({I})",
        "({I} == i)",
        "roll[D]({B} or keep, 1)",
    ),
    "I": (
        "({I} + {I})",
        "({I} - {I})",
        "max({I}, {I})",
        "min({I}, {I})",
        "({I} % 3)",
        "({I} // 2)",
        "where({B}, {I}, {I})",
        "where(on, {I}, {I})",
        "argmax[D]({F} + x * 0)",
        "argmin[D]({F} + x * 0)",
        "int({F})",
        "({I} * {I})",
        "abs({I})",
        "int({B})",
    ),
    "Z": (
        "({Z} + {Z})",
        "({Z} * {Z})",
        "({Z} - {Z})",
        "complex({F}, {F})",
        "conj({Z})",
        "exp(0.1 * {Z})",
        "({F} * {Z})",
        "where(keep, {Z}, {Z})",
        "log(exp({Z}))",
        "complex(a, b) * {Z}",
    ),
    "M": tuple(_MATRIX.split("|")),
    "k": ("k", "k2", "gk", "dot[V]({M}, v)", "sum[V]({M})", "k"),
    "v": ("v", "dot[K](k, {M})", "dot[K](k2, {M})", "dot[K](gk, {M})", "mean[K]({M})"),
    "L": tuple(_LATTICE.split("|")),
    "P": ("exp(0.3 * {F})", "softplus({F})", "sigmoid({F})", "({P} + {P})"),
    "A": (
        "table[Q = {A}]",
        "rules[Q = {A}]",
        "where(keep, {A}, {A})",
        "where(on, {A}, {A})",
        "min({A}, {A})",
        "max({A}, {s})",
    ),
}
_ATOMS: Mapping[str, tuple[str, ...]] = {
    "F": ("{h}", "{h}", "{h}", "x", "f", "a", "0.5", "2", "1", "{lag}"),
    "B": ("{c}", "{c}", "keep", "on", "x > 0", "true"),
    "I": ("{s}", "{s}", "i", "1", "index[D]", "2"),
    "Z": ("{z}", "{z}", "complex(x, f)", "x"),
    "M": ("{S}", "{S}", "k * v", "k2 * v", "G"),
    "k": ("k", "k2", "gk"),
    "v": ("v", "dot[K](k, {S})", "dot[K](gk, {S})"),
    "L": ("{h}", "{h}", "x", "f", "a", "0"),
    "A": ("{s}", "{s}", "1"),
    "P": ("1", "square(x)", "exp(a)", "0.5"),
}
_DECLARED = (
    ("fraction({h}, {P}, {P}, {P}, {P})",),
    ("fraction({h}, {F}, {F}, {P}, {P})",),
    ("scaled({h}, {P}, {F})",),
    ("scaled({h}, {F}, {F})",),
    ("averaged({h}, {P}, {F})",),
    ("largest({h}, p{number}[t-1], {F}, {F})", "p{number}"),
)
"""Steps of declared monoids, some of which break a law, with a second state or without."""
_STATES: Mapping[str, tuple[str, str, str]] = {
    "F": ("h", "[D] = start", " + x * 0"),
    "L": ("h", "[D] = start", " + x * 0"),
    "B": ("c", "bool [D] = start > 0", " or (x > 99)"),
    "I": ("s", "int [D] = perm", " + 0 * index[D]"),
    "A": ("s", "int [D] = perm", ""),
    "Z": ("z", "complex [D] = start", " + x * 0"),
    "M": ("S", "[K, V] = fresh", " + 0 * k * v"),
}
_BORDERS = ("t % 3 == 0", "t % 4 == 1", "on", "i > 1", "(on or t % 3 == 2)")
_BETWEEN: Mapping[str, tuple[str, ...]] = {
    "F": ("sin({q} * f)", "{F}", "x * tanh({q})"),
    "M": ("k * tanh(dot[K](k2, {q}))", "k * (v - tanh(dot[K](k, {q})))", "{M}"),
}
"""What is added to a state that another is held from, until a border; `{q}` is that."""
_KINDS = "FFFFFFMMMMMLLLLLBBIAZD"
_HOLE = re.compile(r"\{(\w+)\}")


def recurrence(
    random: Random, number: int, kinds: str = _KINDS
) -> tuple[str, tuple[str, ...]]:
    """The name of a state and the lines that define it; names end in `number`."""
    kind = random.choice(kinds)
    if kind == "D":
        return _declared(random, number)
    name, declared, whole = _STATES[kind]
    if kind in _BETWEEN and random.random() < 0.1:
        return f"{name}{number}", _held(random, number, kind)
    own = {kind: [f"u{number}"]}

    def grow(kind: str, depth: int, names: Mapping[str, Sequence[str]]) -> str:
        return _grown(random, kind, depth, number, name, names)

    lines = [f"state {name}{number}: {declared}"]
    grown = [
        grow(kind, random.randint(0, 2), {}),
        grow(kind, random.randint(1, 3), own),
    ]
    for _ in range(4):
        if f"{name}{number}[" in grown[1]:
            break
        grown[1] = grow(kind, random.randint(1, 3), own)
    lines.append(f"u{number} = {grown[0]}{whole}")
    if kind in "FM" and random.random() < 0.2:
        pair = f"p{number}"
        second = grow(kind, 1, {kind: [f"u{number}", f"{pair}[t-1]"]})
        lines.insert(1, f"state {pair}: {declared}")
        lines.append(f"{pair} = {second}{whole}")
        grown[1] = f"({grown[1]}) + {random.choice([pair, f'{pair}[t-1]'])}"
    lines.append(f"{name}{number} = {grown[1]}{whole}")
    return f"{name}{number}", tuple(lines)


def _held(random: Random, number: int, kind: str) -> tuple[str, ...]:
    """A state, and one that takes it over at borders and that it is made of in between."""
    name, declared, whole = _STATES[kind]
    state, held = f"{name}{number}", f"q{number}"
    taken = random.choice([f"{state}[t-1]", f"0.5 * {state}[t-1] - {held}[t-1]", state])
    read = f"{held}[t-1]" if taken == state else held

    def filled(match: re.Match[str]) -> str:
        if match.group(1) == "q":
            return read
        depth = random.randint(1, 2)
        return _grown(random, kind, depth, number, "", {kind: 4 * [read]})

    added = _HOLE.sub(filled, random.choice(_BETWEEN[kind]))
    keep = random.choice(["0.5", "a", "1", "sigmoid(b)", {"F": "f", "M": "gk"}[kind]])
    return (
        f"state {state}: {declared}",
        f"state {held}: {declared}",
        f"{held} = where({random.choice(_BORDERS)}, {taken}, {held}[t-1])",
        f"{state} = {keep} * {state}[t-1] + {added}{whole}",
    )


def _declared(random: Random, number: int) -> tuple[str, tuple[str, ...]]:
    """States that move by a declared monoid; its step seldom reads the state."""
    form, *more = random.choice(_DECLARED)
    state = f"h{number}"
    names = [state, *(m.replace("{number}", str(number)) for m in more)]

    def filled(match: re.Match[str]) -> str:
        hole = match.group(1)
        if hole == "h":
            return f"{state}[t-1]"
        reads = random.random() < 0.05
        return _grown(
            random, hole, random.randint(0, 1), number, "h" if reads else "", {}
        )

    call = _HOLE.sub(filled, form.replace("{number}", str(number)))
    lines = [f"state {name}: [D] = start" for name in names]
    return state, (*lines, f"{', '.join(names)} = {call}")


def _grown(
    random: Random,
    kind: str,
    depth: int,
    number: int,
    own: str,
    names: Mapping[str, Sequence[str]],
) -> str:
    """A text of `kind`, at most `depth` templates deep, over the state `own`."""
    reads = {h: f"{h}{number}[t-1]" for h in "hcszS"} | {"lag": f"h{number}[t-2]"}
    alien = {"h": "x", "c": "keep", "s": "i", "z": "complex(a, b)", "S": "G"}
    here = ("h", "lag") if own == "h" else (own,)

    def filled(match: re.Match[str]) -> str:
        hole = match.group(1)
        if hole in _FORMS:
            return _grown(random, hole, depth - 1, number, own, names)
        return reads[hole] if hole in here else alien.get(hole, "x")

    if depth <= 0 or random.random() < 0.15:
        form = random.choice((*_ATOMS[kind], *names.get(kind, ())))
    else:
        form = random.choice(_FORMS[kind])
    return _HOLE.sub(filled, form)
