"""Random recurrences whose past is moved, multiplied, looked up or kept step by step."""

from __future__ import annotations

from seqdsl.testing.spec_expressions import expression, leaf, projected
from seqdsl.testing.spec_scope import Dims, Named, Writer, shape

MONOIDS = {
    "softmean": """\
monoid softmean(m: [] = -inf, u: [] = 0, w: [] = 0) commutes:
    m = max(first.m, second.m)
    old = where(first.m == m, 1, exp(first.m - m))
    new = where(second.m == m, 1, exp(second.m - m))
    u = old * first.u + new * second.u
    w = old * first.w + new * second.w

""",
    "fraction": """\
monoid fraction(h: [], a: [] = 1, b: [] = 0, c: [] = 0, d: [] = 1):
    a = second.a * first.a + second.b * first.c
    b = second.a * first.b + second.b * first.d
    c = second.c * first.a + second.d * first.c
    d = second.c * first.b + second.d * first.d
    (a * h + b) / (c * h + d)

""",
}
"""Declarations that a spec may call, by name."""

MOVES: tuple[tuple[Dims, str], ...] = (
    (("D",), "roll[D]({0}, 1)"),
    (("D",), "roll[D]({0}, -1)"),
    (("H",), "shift[H]({0}, 1)"),
    (("H", "K"), "roll[K]({0}, 1)"),
    (("K", "D"), "shift[K]({0}, -1)"),
    (("M",), "roll[H]({0}.(M -> [H, K]), 1).([H, K] -> M)"),
    (("H", "K"), "roll[M]({0}.([H, K] -> M), 1).(M -> [H, K])"),
    (("D", "J"), "{0}.(D -> J, J -> D)"),
)
"""Dims of a state, and where its entries go before the step."""

_STEPS = (
    "0.8 * {0} + 0.3 * tanh({1})",
    "sigmoid({2}) * {0} + tanh({1})",
    "max({0} - 0.1, {1})",
    "min({0} + 0.1, {1})",
    "logaddexp({0} - 0.2, tanh({1}))",
    "where({3} > 0.1371, tanh({1}), 0.9 * {0})",
    "tanh({0} + {1})",
)
"""Updates of what is read (`{0}`), entries (`{1}`, `{2}`) and one number (`{3}`)."""


def moved(w: Writer, at: str) -> None:
    """Entries change places before they decay."""
    dims, move = w.pick(MOVES)
    name = w.fresh("h")
    before = move.format(f"{name}[{at}]")
    given = expression(w, dims, 2), leaf(w, dims), leaf(w, ())
    update = w.pick(_STEPS).format(before, *given)
    _declare(w, name, dims, w.pick(("0", "0.5")))
    w.add(name, dims, f"{name} = {update}")
    _runs(w, name, dims, at)


def dense(w: Writer, at: str) -> None:
    """A matrix per step between the entries of a vector."""
    name = w.fresh("h")
    rows = w.pick(("softmax[J]({0})", "tanh({0})"))
    matrix = rows.format(expression(w, ("D", "J"), 1))
    before = f"{name}[{at}].(D -> J)"
    form = w.pick(
        (
            "0.3 * dot[J]({0}, {1}) + tanh({2})",
            "max[J]({0} + {1}) - 1.2",
            "logsumexp[J]({0} + {1}) - 2.3",
        )
    )
    _declare(w, name, ("D",), w.pick(("0", "0.5")))
    text = form.format(matrix, before, expression(w, ("D",), 1))
    w.add(name, ("D",), f"{name} = {text}")
    _runs(w, name, ("D",), at)


def clamped(w: Writer, at: str) -> None:
    """Sums that stay between bounds."""
    dims: Dims = w.pick((("D",), ("H", "K"), ()))
    name = w.fresh("h")
    step, low = (
        expression(w, dims, 1),
        w.pick(("-1.1371", f"-1 - sigmoid({leaf(w, ())})")),
    )
    _declare(w, name, dims, w.pick(("0", "0.5")))
    text = f"min(max({name}[{at}] + 0.7 * {step}, {low}), 0.9371)"
    w.add(name, dims, f"{name} = {text}")
    _runs(w, name, dims, at)


def table(w: Writer, at: str) -> None:
    """A finite automaton: where a step goes is looked up."""
    name = w.fresh("n")
    goes = f"int(4.9 * sigmoid({projected(w, ('V',))}))"
    w.lines.append(f"{w.indent}state {name}: int [] = {w.pick(('0', '3'))}")
    w.lines.append(f"{w.indent}{name} = ({goes})[V = {name}[{at}]]")
    w.names.append(Named(name, (), "int", sign=at[1]))
    w.names.append(Named(f"float({name})", (), varies=False))


def declared(w: Writer, at: str) -> None:
    """A monoid that the writer declares."""
    dims: Dims = w.pick((("D",), ("H",), ()))
    if w.chance(50):
        name = w.fresh("h")
        parts = (f"0.3 + sigmoid({leaf(w, dims)})" for _ in range(2))
        _declare(w, name, dims, "0.5")
        call = f"fraction({name}[{at}], {', '.join(parts)}, 0.4, 1.2)"
        w.add(name, dims, f"{name} = {call}")
        return _runs(w, name, dims, at)
    m, u, total = w.fresh("m"), w.fresh("u"), w.fresh("w")
    for name, initial in ((m, "-inf"), (u, "0"), (total, "0")):
        _declare(w, name, dims, initial)
    step = f"tanh({expression(w, dims, 1)}), u = 1, w = {expression(w, dims, 1)}"
    read = ", ".join(f"{n}[{at}]" for n in (m, u, total))
    w.lines.append(f"{w.indent}{m}, {u}, {total} = softmean({read}, {step})")
    w.names.append(Named(f"({total} / {u})", dims, varies=False))
    return None


def rows(w: Writer, at: str) -> None:
    """Keys that later steps change, and attention over them."""
    k, u, o = w.fresh("k"), w.fresh("u"), w.fresh("o")
    moving = f"linear({w.any_float(varies=True).text}, K)"
    w.add(k, ("K",), f"{k} = l2norm[K]({moving} + 0.1 * {expression(w, ('K',), 1)})")
    rate = f"sigmoid({leaf(w, ())})"
    before = f"{u}[t-1]"
    erase = f"where(s < t, {rate}, 0) * {k} * dot[K]({k}, {before})"
    w.lines.append(f"state {u}: [K] = {k}[s]")
    w.lines.append(f"{u} = {before} - {erase}")
    query, value = leaf(w, ("K",)), w.any_float(varies=True)
    weights = f"softmax[s <= t](dot[K]({query}, {u}))"
    w.add(o, value.dims, f"{o} = tanh(dot[s]({weights}, {value.text}[s]))")


def looking_back(w: Writer, at: str) -> None:
    """A state that attends to all of its own past."""
    h = w.fresh("h")
    score = f"dot[D]({leaf(w, ('D',))}, {h}[s])"
    w.lines.append(f"state {h}: [D] = 0")
    past = f"dot[s](softmax[s < t]({score}), {h}[s])"
    moving = f"linear({w.any_float(varies=True).text}, D)"
    text = f"tanh({expression(w, ('D',), 1)} + {moving} + {past})"
    w.add(h, ("D",), f"{h} = {text}")
    _runs(w, h, ("D",), at)


def within(w: Writer, at: str) -> None:
    """Several writes per step: a `repeat` that begins where the last step ended."""
    dims: Dims = ("K", "D")
    memory, inner, axis = w.fresh("M"), w.fresh("S"), w.fresh("j")
    v = w.fresh("v")
    w.add(v, ("D",), f"{v} = tanh({expression(w, ('D',), 1)})")
    decay = w.pick(("1", f"sigmoid({leaf(w, ())})", f"sigmoid({leaf(w, ('K',))})"))
    a = w.fresh("a")
    w.lines.append(f"{a} = {decay}")
    count = w.pick(("2", "N"))
    _declare(w, memory, dims, w.pick(("0", "0.5")))
    outside = list(w.names)
    w.lines.append(f"repeat {axis} in {count}:")
    w.axis, w.indent = axis, "    "
    key, old = w.fresh("k"), f"{inner}[{axis}-1]"
    k, rate = expression(w, ("K",), 1), f"sigmoid({leaf(w, ())})"
    w.lines += [
        f"    state {inner}: {shape(dims)} = {a} * {memory}[{at}]",
        f"    {key} = l2norm[K]({k} + 0.1)",
        f"    {inner} = {old} + {rate} * {key} * ({v} - dot[K]({key}, {old}))",
    ]
    w.axis, w.indent, w.names = None, "", outside
    w.add(memory, dims, f"{memory} = {inner}[{axis} = {count}]")
    _runs(w, memory, dims, at)


def _declare(w: Writer, name: str, dims: Dims, initial: str) -> None:
    w.lines.append(f"{w.indent}state {name}: {shape(dims)} = {initial}")


def _runs(w: Writer, name: str, dims: Dims, at: str) -> None:
    """The state just written is read only the way its recurrence runs."""
    w.names[-1] = Named(name, dims, sign=at[1])


ANYWHERE = (moved, moved, dense, clamped, table, declared)
"""Kinds that may stand in a `repeat`."""

OUTSIDE = (within, rows, looking_back)
"""Kinds that may not."""
