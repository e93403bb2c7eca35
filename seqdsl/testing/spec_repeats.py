"""Random recurrences over depth: tied or untied, halting, with time states inside."""

from __future__ import annotations

from seqdsl.testing import spec_states
from seqdsl.testing.spec_expressions import expression
from seqdsl.testing.spec_scope import Dims, Named, Writer, shape


def repeat(w: Writer) -> None:
    """One `repeat` with a state over depth, and what is read of it afterwards."""
    if w.axis is not None:
        return
    kind = w.pick(("untied", "untied", "dynamic", "halting"))
    dims: Dims = w.pick((("D",), ("H",), ("H", "K")))
    axis, name = w.fresh("n"), w.fresh("r")
    count = _count(w, kind)
    start = w.fresh("v")
    w.add(start, dims, f"{start} = {expression(w, dims, 1)}")
    initial = w.pick((start, "0", "0.3"))
    tied = _tied(w, dims, kind)
    condition = ""
    if kind == "halting":
        old = f"{name}[{axis}-1]"
        inner = old
        for dim in dims:
            inner = f"mean[{dim}]({inner})"
        condition = f" while {inner} < 0.1371"
    w.lines.append(f"repeat {axis} in {count}{condition}:")
    w.lines.append(f"    state {name}: {shape(dims)} = {initial}")
    outside = list(w.names)
    _body(w, kind, dims, axis, name, tied)
    w.names = outside
    last = w.fresh("v")
    read = _afterwards(w, kind, axis, name, count)
    w.lines.append(f"{last} = tanh({read})")
    w.names.append(Named(last, dims, varies=False))


def _count(w: Writer, kind: str) -> str:
    if kind != "dynamic":
        return w.pick(("2", "N", "3"))
    if "input steps: int per call" not in w.lines:
        w.lines.append("input steps: int per call")
    return "steps"


def _tied(w: Writer, dims: Dims, kind: str) -> str | None:
    """An instance made outside, shared by all steps."""
    if len(dims) != 1 or not w.chance(40):
        return None
    name = w.fresh("shared")
    # what remembers has a memory per step, and a run-time count of these cannot stream
    layers = ("SwiGLU",) if kind == "dynamic" else ("Smooth", "SwiGLU")
    w.lines.append(f"{name} = {w.pick(layers)}({dims[0]})")
    return name


def _body(
    w: Writer, kind: str, dims: Dims, axis: str, name: str, tied: str | None
) -> None:
    w.axis = "dynamic" if kind == "dynamic" else axis
    w.indent = "    "
    w.names.append(Named(f"{name}[{axis}-1]", dims, varies=False))
    if w.chance(40):
        local = w.fresh("u")
        inner: Dims = w.pick(((), ("D",), ("H",)))
        w.lines.append(f"    {local} = tanh({expression(w, inner, 2)})")
        w.names.append(Named(local, inner, varies=False))
    if kind == "untied" and w.chance(30):
        spec_states.state(w)
    text = expression(w, dims, 2)
    if tied is not None:
        text = f"{text} + {tied}({name}[{axis}-1])"
    mix = w.pick(("tanh({0})", "0.5 * {1} + tanh({0})", "{1} + {0} / {2}"))
    w.lines.append(f"    {name} = {mix.format(text, f'{name}[{axis}-1]', axis)}")
    w.axis = None
    w.indent = ""


def _afterwards(w: Writer, kind: str, axis: str, name: str, count: str) -> str:
    reads = [f"{name}[{axis} = {count}]", f"{name}[{axis} = last]"]
    if kind == "untied" and count != "N":
        steps = w.fresh("P")
        w.declare(f"dim {steps} = {count}")
        reads.insert(0, f"mean[{steps}](stack[{axis} as {steps}]({name}))")
        reads.append(f"{name}[{axis} = 1]")
    if kind != "halting":
        reads.append(f"{name}[{axis} = 0]")
    return w.pick(reads)
