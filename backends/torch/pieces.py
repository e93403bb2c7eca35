"""Scans from border to border: a step and a piece as functions, then the call of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from seqdsl.backends.torch.equations import assign, read_outside
from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.memory import Body, full
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.newton import sliced
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Binary,
    Expr,
    Item,
    call,
    list_of,
    tuple_of,
)
from seqdsl.backends.torch.settle import (
    ONES,
    ZEROS,
    at_starts,
    ends_of,
    factor,
    settle,
    whole,
    whole_type,
)
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import references, subtree
from seqdsl.schedule.forms import DiagonalScan, Pieces
from seqdsl.schedule.plan import Assign, Parallel, defined


def pieces(body: Body, step: Parallel, form: Pieces) -> None:
    """The states of a recurrence, from one border of those that are held to the next."""
    m = body.m
    for equation in step.loop.hoisted:
        assign(m, equation, ())
    ends = {s: ends_of(body, step, s) for s in form.states}
    one = _step(m, step, form)
    rest = _piece(m, step, form)
    first = list_of([ends[s].first for s in form.states])
    begun = list_of([at_starts(m, ends[s], s) for s in form.states])
    starts, border = ends[form.states[0]].starts, _border(m, form)
    made, last = m.names.new("pieces"), m.names.new("pieces_t")
    kept = _read(m, step, form)
    known = tuple_of([str(s in kept) for s in form.states])
    args = (one, rest, first, starts, begun, border, known)
    done = call(m.helper("_in_pieces"), *args, m.need("time"))
    m.write(f"{made}, {last} = ", done, "", m.model.equation[form.states[0]].span)
    for i, state in enumerate(form.states):
        settle(
            body,
            step,
            state,
            ends[state],
            Atom(f"{made}[{i}]"),
            Atom(f"{last}[{i}]"),
        )


def _read(m: Method, step: Parallel, form: Pieces) -> set[str]:
    """States that are read outside of the recurrence, also by what else a step computes."""
    names = frozenset(defined(step.loop.body))
    todo = [str(key[1]) for key in read_outside(m.model, names)]
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            reads = (
                () if name in form.states else references(m.model.equation[name].expr)
            )
            todo += [r.name for r in reads if isinstance(r, ir.Ref) and r.name in names]
    return found


def _border(m: Method, form: Pieces) -> Expr:
    """Where a state that is held changes, `[batch or 1, time]`."""
    codes = [
        align(tensor(m, expression(m, b), "bool"), (BATCH, TIME)) for b in form.borders
    ]
    code = codes[0]
    for other in codes[1:]:
        code = Binary("|", code, other)
    return code


def _inner(m: Method, form: Pieces) -> Method:
    """The body of a function of what states are before some steps, and of which steps.

    Its `time` is how many these are.
    """
    inner = replace(
        m, lines=[], indent=m.indent + 4, env=sliced(m), bases=dict(m.bases), next={}
    )
    inner.line("time = at.stop - at.start")
    return inner


def _before(m: Method, form: Pieces, inner: Method, state: str) -> Value:
    """A state before the first of some steps, as one step."""
    type_ = whole_type(m, state)
    code = Item(Atom(f"before[{form.states.index(state)}]"), ":, None")
    local = inner.names.new(f"{state}_before")
    return inner.bind(local, Value(code, (BATCH, TIME, *type_.dims), type_.dtype))


def _function(m: Method, name: str, inner: Method, results: Sequence[Expr]) -> Atom:
    name = m.names.new(name)
    m.line(f"def {name}(before: Sequence[Tensor], at: slice) -> list[Tensor]:")
    inner.write("return ", list_of(list(results)))
    m.lines += inner.lines
    m.line("")
    return Atom(name)


def _step(m: Method, step: Parallel, form: Pieces) -> Atom:
    """One step of all states."""
    inner = _inner(m, form)
    for state in form.states:
        before = _before(m, form, inner, state)
        inner.env["shift", "ref", state, TIME, -1] = before
    for one in step.loop.body:
        assert isinstance(one, Assign)
        assign(inner, one.equation, ())
    return _function(
        m, f"{form.states[0]}_step", inner, [_full(inner, s) for s in form.states]
    )


def _full(inner: Method, state: str) -> Expr:
    type_ = whole_type(inner, state)
    value = cast(inner, tensor(inner, inner.env["ref", state]), type_.dtype)
    return full(inner, value, type_).code


def _piece(m: Method, step: Parallel, form: Pieces) -> Atom:
    """All steps until the next border: what is held stays, the others are scanned."""
    inner = _inner(m, form)
    scanned = [scan.state for scan in form.scans]
    before = {s: _before(m, form, inner, s) for s in scanned}
    for state in form.held:
        # without a time dimension, so that products know that it is the same for all
        place, type_ = form.states.index(state), whole_type(m, state)
        held = Value(Atom(f"before[{place}]"), (BATCH, *type_.dims), type_.dtype)
        inner.env["ref", state] = inner.env["shift", "ref", state, TIME, -1] = held
    known = {
        s.equation.name: s.equation for s in step.loop.body if isinstance(s, Assign)
    }
    done = {*form.held, *scanned}
    for scan in form.scans:
        nodes = [n for n in (scan.coefficient, scan.offset) if n is not None]
        for equation in _needed(nodes, known, done):
            assign(inner, equation, ())
        _scan(m, inner, scan, before[scan.state])
    return _function(
        m, f"{form.states[0]}_piece", inner, [_full(inner, s) for s in form.states]
    )


def _needed(
    nodes: Sequence[ir.Node], known: dict[str, ir.Equation], done: set[str]
) -> Iterator[ir.Equation]:
    """Equations of a step that `nodes` read, in order, each once."""
    for node in nodes:
        for read in references(node):
            name = read.name if isinstance(read, ir.Ref) else ""
            if name in known and name not in done:
                done.add(name)
                yield from _needed([known[name].expr], known, done)
                yield known[name]


def _scan(m: Method, inner: Method, scan: DiagonalScan, before: Value) -> None:
    """One state at all steps of a piece, and at the step before each."""
    type_, state = whole_type(m, scan.state), scan.state
    one, zero = ONES.get(scan.semiring, 0.0), ZEROS.get(scan.semiring, float("-inf"))
    coefficient = factor(inner, scan.coefficient, type_, one)
    offset = whole(inner, scan.offset, type_, zero).code
    first = Item(before.code, ":, 0")
    args: list[Expr | str] = [coefficient, offset, first, "None", "0"]
    if scan.semiring != "real":
        args.insert(0, f'"{scan.semiring}"')
    helper = inner.helper("_scan" if scan.semiring == "real" else "_scan_in")
    made = inner.names.new(state)
    inner.write(f"{made}, _ = ", call(helper, *args))
    value = Value(Atom(made), (BATCH, TIME, *type_.dims), type_.dtype)
    inner.env["ref", state] = value
    exprs = (e.expr for e in m.model.equations)
    shift = (n for e in exprs for n in subtree(e) if isinstance(n, ir.Shift))
    if any(isinstance(n.arg, ir.Ref) and n.arg.name == state for n in shift):
        code = call("torch.cat", list_of([before.code, Item(Atom(made), ":, :-1")]), 1)
        inner.env["shift", "ref", state, TIME, -1] = value.at(code)
