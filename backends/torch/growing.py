"""State of repeats that are counted at run time: lists that grow to the count met."""

from __future__ import annotations

from seqdsl.backends.torch.fresh import filled
from seqdsl.backends.torch.from_the_end import whole_initial
from seqdsl.backends.torch.memory import Body
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.parameters import path
from seqdsl.backends.torch.per_step import at_step, each_step, mentions
from seqdsl.backends.torch.python import Atom, Expr, call, one_line
from seqdsl.backends.torch.streaming import Entry, starts_with_inputs


def grow(body: Body, entry: Entry, count: str) -> None:
    """From here on, the entry is a list with a part for every step of the loop."""
    m = body.m
    axis, *inner = entry.scope[len(m.steps) :]
    part, step, _ = at_step(
        m, axis, lambda: each_step(m, inner, lambda: _first(body, entry))
    )
    fresh = Atom(f"lambda {step if mentions(part, step) else '_'}: {one_line(part)}")
    name = m.names.new(f"{entry.key}_parts")
    code = call(m.helper("_grown"), body.access(entry), count, fresh)
    m.write(f"{name} = ", code)
    m.bases[entry.key] = name
    m.bases[f"{entry.key} scope"] = " ".join(m.steps)


def _first(body: Body, entry: Entry) -> Expr:
    """One part of the entry as it is before the first step of time."""
    m = body.m
    if entry.call is not None:
        module = path(m, f"{entry.call.instance}.")[: -len(".")]
        where = {"device": m.need("device"), "dtype": m.need("dtype")}
        return call(f"{module}.initial_state", m.need("batch"), **where)
    state = m.model.state.get(entry.owner)
    early = state is not None and starts_with_inputs(m.model, state)
    if early and entry.kind in ("carry", "lag"):
        return whole_initial(body, entry)
    _need_places(m)
    return filled(m, entry, m.extents(entry.type.dims))


def _need_places(m: Method) -> None:
    for name in ("batch", "device"):
        m.need(name)
