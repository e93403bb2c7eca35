"""Newton's iteration: the step as a function of all that came before, then its call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from seqdsl.backends.torch.equations import assign
from seqdsl.backends.torch.joint import Part, parts_of, reversed_, stacked, unpack
from seqdsl.backends.torch.memory import Body
from seqdsl.backends.torch.method import Key, Method
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import Atom, Expr, Item, call, one_line
from seqdsl.backends.torch.reindex import canonical
from seqdsl.backends.torch.settle import at_starts, ends_of, whole_type
from seqdsl.backends.torch.values import Value
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.forms import Newton
from seqdsl.schedule.plan import Assign, Parallel


def newton(body: Body, step: Parallel, form: Newton) -> None:
    """The states of a recurrence that is not linear, by Newton's iteration."""
    m = body.m
    m.current = form.states[0]
    for equation in step.loop.hoisted:
        assign(m, equation, ())
    parts = parts_of(
        m, form.copies, {s: None for s in form.states}, {s: 1 for s in form.states}
    )
    ends = {s: ends_of(body, step, s) for s in form.states}
    function = _step(m, step, parts)
    first = stacked([p.packed(m, ends[p.state].first, 1) for p in parts])
    begun = stacked(
        [p.packed(m, at_starts(m, ends[p.state], p.state), 2) for p in parts]
    )
    made, last = m.names.new("rows"), m.names.new("rows_t")
    done = call(
        m.helper("_newton"), function, first, ends[form.states[0]].starts, begun,
        m.need("time"), str(form.strict), **reversed_(step), **_most(form),
    )  # fmt: skip
    span = m.model.equation[form.states[0]].span
    m.write(f"{made}, {last} = ", done, "", span)
    unpack(body, step, parts, ends, (made, last))


def _most(form: Newton) -> dict[str, str]:
    return {} if form.most is None else {"most": str(form.most)}


def _step(m: Method, step: Parallel, parts: list[Part]) -> Atom:
    """A local function of the joint vector before some steps, and of which steps."""
    name = m.names.new(f"{m.current}_step")
    inner = replace(
        m, lines=[], indent=m.indent + 4, env=sliced(m), bases=dict(m.bases), next={}
    )
    offset = 1 if step.loop.direction == "backward" else -1
    begin: list[str] = []
    for part in parts:
        end = [*begin, one_line(part.height(m), 6)]
        rows: Expr = Atom("before")
        if len(parts) > 1:
            rows = Item(rows, f"..., {' + '.join(begin)}:{' + '.join(end)}, :")
        begin = end
        local = inner.names.new(f"{part.state}_before")
        inner.write(f"{local} = ", part.unpacked(m, rows, 2))
        value = Value(
            Atom(local), (BATCH, TIME, *part.dims), whole_type(m, part.state).dtype
        )
        inner.env["shift", "ref", part.state, TIME, offset] = value
    for one in step.loop.body:
        assert isinstance(one, Assign)
        assign(inner, one.equation, ())
    results: list[Expr] = []
    for part in parts:
        type_ = whole_type(m, part.state)
        value = cast(inner, tensor(inner, inner.env["ref", part.state]), type_.dtype)
        results.append(part.packed(m, canonical(inner, value, part.dims).code, 2))
    m.line(f"def {name}(before: Tensor, at: slice) -> Tensor:")
    inner.write("return ", stacked(results))
    m.lines += inner.lines
    m.line("")
    return Atom(name)


_KEPT = ("conv", "conv_next", "history", "copy", "past", "shift")


def sliced(
    m: Method, some: Callable[[Expr], Expr] = lambda code: Item(code, ":, at")
) -> dict[Key, Value]:
    """What is known of whole sequences, at the steps asked for: `some` of them."""
    found: dict[Key, Value] = {}
    for key, value in m.env.items():
        timed = TIME in value.layout and not value.even
        if key[0] == "local" or (timed and key[0] in _KEPT and key[0] != "shift"):
            continue
        if timed and value.layout[:2] == (BATCH, TIME):
            value = value.at(some(value.code))
        found[key] = value
    return found
