"""From border to border: what happens at one and after it as functions, then the call of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from seqdsl.backends.torch.chunks import Begin, chunks_from
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
    method,
    one_line,
    tuple_of,
)
from seqdsl.backends.torch.settle import (
    ONES,
    ZEROS,
    Ends,
    at_starts,
    ends_of,
    factor,
    settle,
    whole,
    whole_type,
)
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.walk import references, subtree
from seqdsl.schedule.forms import DiagonalScan, Pieces, computed, nodes_of
from seqdsl.schedule.plan import Assign, Parallel, defined


def pieces(body: Body, step: Parallel, form: Pieces) -> None:
    """The states of a recurrence, from one border of those that are held to the next."""
    m = body.m
    for equation in step.loop.hoisted:
        assign(m, equation, ())
    ends = {s: ends_of(body, step, s) for s in form.states}
    wanted = _wanted(m, step, form)
    made = _Pieces(m, step, form, wanted)
    at_border = made.what_is_held() if form.early else made.one_step()
    piece = made.piece()
    args = [at_border, piece, list_of([ends[s].first for s in form.states])]
    args += [ends[form.states[0]].starts]
    args += [list_of([at_starts(m, ends[s], s) for s in form.states]), _border(m, form)]
    keywords = {"early": "True"} if form.early else {}
    name, last = m.names.new("pieces"), m.names.new("pieces_t")
    done = call(m.helper("_in_pieces"), *args, m.need("time"), **keywords)
    m.write(f"{name}, {last} = ", done, "", m.model.equation[form.states[0]].span)
    known = {n: Item(Atom(name), str(i)) for i, n in enumerate(wanted)}
    after = {s: Item(Atom(last), str(i)) for i, s in enumerate(form.states)}
    _settled(body, step, form, ends, known, after)
    for read in (r.name for p in form.products() for r in p.reads if r.name in wanted):
        layout = made.reads[read]
        m.env["ref", read] = m.bind(m.names.new(read), layout.at(known[read]))


def _settled(
    body: Body,
    step: Parallel,
    form: Pieces,
    ends: Mapping[str, Ends],
    known: Mapping[str, Expr],
    after: Mapping[str, Expr],
) -> None:
    """Make known what states are at all steps, where that is, and after the last."""
    for state in form.states:
        if state in known:
            settle(body, step, state, ends[state], known[state], after[state])
        else:
            body.m.next[ends[state].entry.key] = after[state]


def _wanted(m: Method, step: Parallel, form: Pieces) -> list[str]:
    """What is read outside of the recurrence, also by what else a step computes."""
    names = frozenset([*defined(step.loop.body), *computed(form)])
    todo = [str(key[1]) for key in read_outside(m.model, names)]
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            inner = name not in computed(form)
            reads = references(m.model.equation[name].expr) if inner else ()
            todo += [r.name for r in reads if isinstance(r, ir.Ref) and r.name in names]
    return [n for n in computed(form) if n in found]


def _border(m: Method, form: Pieces) -> Expr:
    """Where a state that is held changes, `[batch or 1, time]`."""
    codes = [
        align(tensor(m, expression(m, b), "bool"), (BATCH, TIME)) for b in form.borders
    ]
    code = codes[0]
    for other in codes[1:]:
        code = Binary("|", code, other)
    return code


@dataclass
class _Pieces:
    """Functions of what states are `before` some steps, and `at` which."""

    m: Method
    step: Parallel
    form: Pieces
    wanted: Sequence[str]

    def __post_init__(self) -> None:
        form = self.form
        self.scanned = [p.state for p in form.parts if isinstance(p, DiagonalScan)]
        self.known = {
            s.equation.name: s.equation
            for s in self.step.loop.body
            if isinstance(s, Assign)
        }
        self.known |= {e.name: e for e in form.between}
        self.reads: dict[str, Value] = {}

    # ---- The three functions

    def one_step(self) -> Atom:
        """A step at a border: everything of it, one after another."""
        inner, form = self._inner(), self.form
        for state in form.states:
            self._shifted(inner, state)
        for one in self.step.loop.body:
            assert isinstance(one, Assign)
            assign(inner, one.equation, ())
        states = {s: _full(inner, s) for s in form.states}
        after = [Item(states[s], ":, 0") for s in form.states]
        return self._function(
            "border_step", inner, [states[n] for n in self.wanted], after
        )

    def what_is_held(self) -> Atom:
        """What is held from a border on; the other states are those before it."""
        inner, form = self._inner(), self.form
        for state in form.states:
            self._shifted(inner, state)
        done = {*form.states} - {*form.held}
        for equation in _needed(
            [self.known[s].expr for s in form.held], self.known, done
        ):
            assign(inner, equation, ())
        for state in form.held:
            if state not in done:
                assign(inner, self.known[state], ())
        after: list[Expr] = [
            Item(_full(inner, s), ":, 0") if s in form.held else Atom(f"before[{i}]")
            for i, s in enumerate(form.states)
        ]
        return self._function("held", inner, [], after)

    def piece(self) -> Atom:
        """All steps until the next border: what is held stays, the others move."""
        inner, form = self._inner(), self.form
        after: dict[str, Expr] = {}
        for state in form.held:
            after[state] = self._stays(inner, state)
        for state in self.scanned:
            self._shifted(inner, state)
        done = {*form.held, *computed(form)}
        for part in form.parts:
            for equation in _needed(nodes_of(part), self.known, done):
                assign(inner, equation, ())
            if isinstance(part, DiagonalScan):
                after[part.state] = self._scan(inner, part)
            else:
                first = {s: self._before(s) for s in part.states}
                after |= chunks_from(inner, part, Begin(first, Atom("None")))
                self.reads |= {r.name: inner.env["ref", r.name] for r in part.reads}
        values = [self._value(inner, name) for name in self.wanted]
        return self._function("piece", inner, values, [after[s] for s in form.states])

    def _function(
        self, what: str, inner: Method, values: Sequence[Expr], after: Sequence[Expr]
    ) -> Atom:
        m = self.m
        name = m.names.new(f"{self.form.states[0]}_{what}")
        m.line(f"def {name}(")
        m.line("    before: Sequence[Tensor], at: _At")
        m.line(") -> tuple[list[Tensor], list[Tensor]]:")
        inner.write("return ", tuple_of([list_of(list(values)), list_of(list(after))]))
        m.lines += inner.lines
        m.line("")
        return Atom(name)

    # ---- What they start from

    def _inner(self) -> Method:
        """The body of a function; its `time` is how many steps these are."""
        m = self.m
        env = sliced(m, _some)
        inner = replace(
            m, lines=[], indent=m.indent + 4, env=env, bases=dict(m.bases), next={}
        )
        inner.line("time = at.time()")
        return inner

    def _before(self, state: str) -> Expr:
        return Atom(f"before[{self.form.states.index(state)}]")

    def _shifted(self, inner: Method, state: str) -> None:
        """A state before the first of some steps, as one step."""
        type_ = whole_type(self.m, state)
        code = Item(self._before(state), ":, None")
        local = inner.names.new(f"{state}_before")
        value = Value(code, (BATCH, TIME, *type_.dims), type_.dtype)
        inner.env["shift", "ref", state, TIME, -1] = inner.bind(local, value)

    def _stays(self, inner: Method, state: str) -> Expr:
        """A state that is held, without a time dimension, so that products know that."""
        type_ = whole_type(self.m, state)
        held = Value(self._before(state), (BATCH, *type_.dims), type_.dtype)
        inner.env["ref", state] = inner.env["shift", "ref", state, TIME, -1] = held
        return held.code

    def _value(self, inner: Method, name: str) -> Expr:
        """What is wanted, at all steps."""
        if name not in self.form.states:
            return inner.env["ref", name].code
        code = _full(inner, name)
        if name not in self.form.held:
            return code
        dims = whole_type(self.m, name).dims
        sizes = [inner.need("batch"), inner.need("time"), *inner.extents(dims)]
        return method(code, "expand", *sizes)

    def _scan(self, inner: Method, scan: DiagonalScan) -> Expr:
        """One state at all steps of a piece, and at the step before each; after the last."""
        type_, state = whole_type(self.m, scan.state), scan.state
        before = inner.env["shift", "ref", state, TIME, -1]
        args = _scan_args(inner, scan, type_, self._before(state))
        helper = inner.helper("_scan" if scan.semiring == "real" else "_scan_in")
        made, last = inner.names.new(state), inner.names.new(f"{state}_t")
        inner.write(f"{made}, {last} = ", call(helper, *args))
        value = Value(Atom(made), (BATCH, TIME, *type_.dims), type_.dtype)
        inner.env["ref", state] = value
        if self._is_shifted(state):
            code = call(
                "torch.cat", list_of([before.code, Item(Atom(made), ":, :-1")]), 1
            )
            inner.env["shift", "ref", state, TIME, -1] = value.at(code)
        return Atom(last)

    def _is_shifted(self, state: str) -> bool:
        """Whether something in a piece reads the step before."""
        own = (n for part in self.form.parts for n in nodes_of(part))
        exprs = (*own, *(e.expr for e in self.known.values()))
        shifts = (n for e in exprs for n in subtree(e) if isinstance(n, ir.Shift))
        return any(isinstance(n.arg, ir.Ref) and n.arg.name == state for n in shifts)


def _some(code: Expr) -> Expr:
    """The steps of a piece of a sequence."""
    if isinstance(code, Atom) and code.text.isidentifier():
        return call("at", code)
    return call("at", code, repr(one_line(code)))


def _scan_args(
    inner: Method, scan: DiagonalScan, type_: Type, first: Expr
) -> list[Expr | str]:
    one, zero = ONES.get(scan.semiring, 0.0), ZEROS.get(scan.semiring, float("-inf"))
    coefficient = factor(inner, scan.coefficient, type_, one)
    offset = whole(inner, scan.offset, type_, zero).code
    args: list[Expr | str] = [coefficient, offset, first, "None", "0"]
    return args if scan.semiring == "real" else [f'"{scan.semiring}"', *args]


def _full(inner: Method, state: str) -> Expr:
    type_ = whole_type(inner, state)
    value = cast(inner, tensor(inner, inner.env["ref", state]), type_.dtype)
    return full(inner, value, type_).code


def _needed(
    nodes: Sequence[ir.Node], known: Mapping[str, ir.Equation], done: set[str]
) -> Iterator[ir.Equation]:
    """Equations of a step that `nodes` read, in order, each once."""
    for node in nodes:
        for read in references(node):
            name = read.name if isinstance(read, ir.Ref) else ""
            if name in known and name not in done:
                done.add(name)
                yield from _needed([known[name].expr], known, done)
                yield known[name]
