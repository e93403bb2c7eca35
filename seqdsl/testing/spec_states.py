"""Random recurrences along time: scalar to matrix states, several algebras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from seqdsl.testing import spec_memories
from seqdsl.testing.spec_expressions import expression, leaf
from seqdsl.testing.spec_scope import Dims, Named, Writer, shape

Update = Callable[[Writer, str, str, Dims], str]
"""(writer, name, value before the step, dims) to the right-hand side."""


def _direction(w: Writer) -> str:
    return "t+1" if not w.causal and w.chance(50) else "t-1"


def state(w: Writer) -> None:
    """One state or two that read each other."""
    kind = w.pick(
        (_single, _single, _two, _delta, _memory, _integer, _boolean, _complex)
    )
    kind(w)


def _memory(w: Writer) -> None:
    """One of the kinds that have a file of their own."""
    outside = spec_memories.OUTSIDE if w.axis is None else ()
    if w.axis == "dynamic":
        return _single(w)
    return w.pick((*spec_memories.ANYWHERE, *outside))(w, _direction(w))


def _initial(w: Writer, dims: Dims) -> str:
    found = [
        v.text
        for v in w.readable(dims)
        if not v.varies and v.text in ("c", "s0", "w", "q", "b")
    ]
    learned = ["param", "param"] if w.axis is None else []
    sampled = ["normal(0, 0.5, seed = 7)"] if w.random else []
    return w.pick(["0", "0.5", *learned, *found, *sampled])


def _write(
    w: Writer, name: str, dims: Dims, at: str, initial: str, update: str
) -> None:
    """A float state and its update, which from now on can be read."""
    if initial == "param" and "param(" in update:
        # the update's own parameter has the key that the initial value would go under
        initial = f"param({shape(dims)}, 0.2) as {name}start"
    w.lines.append(f"{w.indent}state {name}: {shape(dims)} = {initial}")
    w.lines.append(f"{w.indent}{name} = {update}")
    w.names.append(Named(name, dims, sign=at[1]))


def _single(w: Writer) -> None:
    dims: Dims = w.pick(((), ("D",), ("H",), ("K",), ("H", "K"), ("K", "D")))
    name, at = w.fresh("h"), _direction(w)
    lag = at if w.chance(85) else f"{at[:2]}2"
    initial = _initial(w, dims)
    update = w.pick(UPDATES)
    if w.chance(30):
        initial = next((text for f, text in _LIMITS if f is update), initial)
    _write(w, name, dims, at, initial, update(w, name, f"{name}[{lag}]", dims))
    if "inf" in initial:
        # infinite before the first step: not read there, where products would be no numbers
        w.names[-1] = replace(w.names[-1], varies=False)


def _affine(w: Writer, name: str, before: str, dims: Dims) -> str:
    decay = w.pick(("0.9", "0.7", "1", "-0.8", "exp(-0.3)"))
    return f"{decay} * {before} + 0.3 * tanh({expression(w, dims, 2)})"


def _gated(w: Writer, name: str, before: str, dims: Dims) -> str:
    smaller = dims[: w.pick(range(len(dims) + 1))]
    gate = w.pick(("sigmoid({0})", "exp(-softplus(tanh({0})))", "tanh({0})"))
    a = gate.format(expression(w, smaller, 2))
    return f"{a} * {before} + tanh({expression(w, dims, 2)})"


def _mixed(w: Writer, name: str, before: str, dims: Dims) -> str:
    """The gate stands on the difference, as in `lerp`."""
    a = f"sigmoid({expression(w, dims, 1)})"
    return f"{before} + {a} * (tanh({expression(w, dims, 2)}) - {before})"


def _nonlinear(w: Writer, name: str, before: str, dims: Dims) -> str:
    inner = w.pick(("linear({0}, {1})", "sin({0})", "0.5 * {0} * {0}"))
    if w.axis == "dynamic" or not dims:
        inner = "sin({0})"
    into = dims[0] if len(dims) == 1 else shape(dims)
    text = inner.format(before, into)
    return f"tanh({text} + {expression(w, dims, 2)})"


def _maximum(w: Writer, name: str, before: str, dims: Dims) -> str:
    return f"max({before} - 0.1, {expression(w, dims, 2)})"


def _minimum(w: Writer, name: str, before: str, dims: Dims) -> str:
    return f"min({before} + 0.1, {expression(w, dims, 2)})"


def _log(w: Writer, name: str, before: str, dims: Dims) -> str:
    return f"logaddexp({before} - 0.2, tanh({expression(w, dims, 2)}))"


def _lagged(w: Writer, name: str, before: str, dims: Dims) -> str:
    at = before[before.index("[") + 1 : before.index("[") + 3]
    return f"0.5 * {name}[{at}1] - 0.3 * {name}[{at}2] + {leaf(w, dims)}"


def _chosen(w: Writer, name: str, before: str, dims: Dims) -> str:
    here = expression(w, dims, 2)
    return f"where({leaf(w, ())} > 0.1371, {here}, 0.9 * {before})"


UPDATES: tuple[Update, ...] = (
    _affine,
    _gated,
    _mixed,
    _nonlinear,
    _maximum,
    _minimum,
    _log,
    _lagged,
    _chosen,
)
_LIMITS: tuple[tuple[Update, str], ...] = (
    (_maximum, "-inf"),
    (_minimum, "inf"),
    (_log, "-inf"),
)
"""Neutral initial values."""


def _two(w: Writer) -> None:
    """Two states, each of which reads the other."""
    dims: Dims = w.pick((("D",), ("H",), ()))
    at = _direction(w)
    a, b = w.fresh("a"), w.fresh("b")
    now = w.pick((a, f"{a}[{at}]"))
    mix = w.pick(("0.5 * {0} - 0.4 * {1}", "tanh({0} + {1})", "{0} * cos({1})"))
    first = mix.format(f"{a}[{at}]", f"{b}[{at}]")
    second = mix.format(f"{b}[{at}]", now)
    first = f"{first} + tanh({expression(w, dims, 2)})"
    second = f"{second} + 0.2 * {leaf(w, dims)}"
    _write(w, a, dims, at, _initial(w, dims), first)
    _write(w, b, dims, at, _initial(w, dims), second)


def _delta(w: Writer) -> None:
    """A matrix memory with a delta rule, written out or as a gradient."""
    name, at = w.fresh("S"), _direction(w)
    k, v = w.fresh("k"), w.fresh("v")
    w.add(k, ("K",), f"{k} = l2norm[K]({expression(w, ('K',), 1)} + 0.1)")
    w.add(v, ("D",), f"{v} = tanh({expression(w, ('D',), 1)})")
    rate, old = f"sigmoid({expression(w, (), 1)})", f"{name}[{at}]"
    decay = w.pick(("", f"sigmoid({leaf(w, ())}) * ", f"sigmoid({leaf(w, ('K',))}) * "))
    if w.axis is None and w.chance(30):
        loss = w.fresh("e")
        w.lines.append(f"{loss} = 0.5 * sum[D](square(dot[K]({k}, {old}) - {v}))")
        step = f"- {rate} * grad({loss}, {old})"
    else:
        step = f"+ {rate} * {k} * ({v} - dot[K]({k}, {old}))"
    initial = _initial(w, ("K", "D"))
    _write(w, name, ("K", "D"), at, initial, f"{decay}{old} {step}")


def _integer(w: Writer) -> None:
    name, at = w.fresh("n"), _direction(w)
    w.lines.append(f"{w.indent}state {name}: int [] = {w.pick(('0', '2'))}")
    step = f"int(2.5 * sigmoid({expression(w, (), 2)}))"
    w.lines.append(f"{w.indent}{name} = ({name}[{at}] + {step}) % 5")
    w.names += [
        Named(name, (), "int", sign=at[1]),
        Named(f"float({name})", (), varies=False),
    ]


def _boolean(w: Writer) -> None:
    name, at = w.fresh("f"), _direction(w)
    dims: Dims = w.pick(((), ("H",)))
    start = w.pick(("false", "true"))
    w.lines.append(f"{w.indent}state {name}: bool {shape(dims)} = {start}")
    a, b = expression(w, dims, 1), expression(w, dims, 1)
    form = w.pick(
        (
            "({0} and {1} > 0.1371) or {2} > 0.5371",
            "{0} != ({1} > 0.1371)",
            "not {0} and {1} < 0.6371",
        )
    )
    w.lines.append(f"{w.indent}{name} = {form.format(f'{name}[{at}]', a, b)}")
    w.names += [
        Named(name, dims, "bool", sign=at[1]),
        Named(f"float({name})", dims, varies=False),
    ]


def _complex(w: Writer) -> None:
    name, at = w.fresh("z"), _direction(w)
    dims: Dims = w.pick((("K",), ("H",)))
    w.lines.append(f"{w.indent}state {name}: complex {shape(dims)} = 0")
    angle = w.pick((expression(w, dims, 1), "0.7", leaf(w, dims)))
    into = f"complex({expression(w, dims, 1)}, {leaf(w, dims)})"
    turn = w.pick(("0.9 * exp(complex(0, {0}))", "complex(0.6 * cos({0}), 0.3)"))
    text = f"{turn.format(f'({angle})')} * {name}[{at}] + 0.3 * {into}"
    w.lines.append(f"{w.indent}{name} = {text}")
    w.names.append(Named(name, dims, "complex", sign=at[1]))
    for part in ("real", "imag"):
        w.names.append(Named(f"{part}({name})", dims, varies=False))
