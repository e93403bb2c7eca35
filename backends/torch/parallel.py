"""Recurrences at all steps at once: a form of the schedule as calls of its function."""

from __future__ import annotations

from seqdsl.backends.torch.chunks import products
from seqdsl.backends.torch.joint import matrices, monoid
from seqdsl.backends.torch.memory import Body
from seqdsl.backends.torch.newton import newton
from seqdsl.backends.torch.pieces import pieces
from seqdsl.backends.torch.python import Atom, Expr, call
from seqdsl.backends.torch.settle import (
    ONES,
    ZEROS,
    ends_of,
    factor,
    settle,
    whole,
    whole_type,
)
from seqdsl.schedule.forms import (
    DiagonalScan,
    MatrixScan,
    MonoidScan,
    Newton,
    Pieces,
    Products,
)
from seqdsl.schedule.plan import Parallel


def parallel(body: Body, step: Parallel) -> None:
    """The states of a recurrence, whole, and what they are after the last step."""
    match step.form:
        case DiagonalScan():
            _diagonal(body, step, step.form)
        case MatrixScan():
            matrices(body, step, step.form)
        case MonoidScan():
            monoid(body, step, step.form)
        case Products():
            products(body, step, step.form)
        case Newton():
            newton(body, step, step.form)
        case Pieces():
            pieces(body, step, step.form)


def _diagonal(body: Body, step: Parallel, form: DiagonalScan) -> None:
    m = body.m
    equation = m.model.equation[form.state]
    m.current = form.state
    type_ = whole_type(m, form.state)
    ends = ends_of(body, step, form.state)
    one = ONES.get(form.semiring, 0.0)
    zero = ZEROS.get(form.semiring, float("-inf"))
    coefficient = factor(m, form.coefficient, type_, one)
    offset = whole(m, form.offset, type_, zero).code
    args: list[Expr | str] = [
        coefficient,
        offset,
        ends.first,
        ends.starts,
        ends.initial,
    ]
    if form.semiring != "real":
        args.insert(0, f'"{form.semiring}"')
    helper = m.helper("_scan" if form.semiring == "real" else "_scan_in")
    if form.filtered:
        helper = m.helper("_convolved")
    keywords = {"reverse": "True"} if step.loop.direction == "backward" else {}
    made = m.names.new(form.state)
    last = m.names.new(f"{form.state}_t")
    m.write(f"{made}, {last} = ", call(helper, *args, **keywords), "", equation.span)
    settle(body, step, form.state, ends, Atom(made), Atom(last))
