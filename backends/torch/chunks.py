"""Matrix states by chunks, as a call of `_chunkwise` on its vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.memory import Body, full_type
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Expr,
    Item,
    call,
    list_of,
    method,
    one_line,
    tuple_of,
)
from seqdsl.backends.torch.settle import at_starts, ends_of
from seqdsl.backends.torch.values import Value, align, permute
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.forms import Products, Read, Write
from seqdsl.schedule.plan import Parallel


def products(body: Body, step: Parallel, form: Products) -> None:
    """All reads of the states at all steps, and the states after the last."""
    m = body.m
    ends = {s: ends_of(body, step, s) for f in (form, *form.beside) for s in f.states}
    first = {s: e.first for s, e in ends.items()}
    starts = ends[form.states[0]].starts
    if all(_is_zero(m.model.state[s].initial) for s in ends):
        begin = Begin(first, starts)
    else:
        values = {s: Item(at_starts(m, e, s), ":, 0") for s, e in ends.items()}
        begin = Begin(first, starts, values)
    ahead = step.loop.direction == "forward"
    last = chunks_from(m, form, begin, ahead=ahead)
    for state, code in last.items():
        m.next[ends[state].entry.key] = code


@dataclass(frozen=True)
class Begin:
    """What states are before the first step, and where a segment starts (None is 0)."""

    first: Mapping[str, Expr]
    starts: Expr
    initial: Mapping[str, Expr] | None = None


def chunks_from(
    m: Method, form: Products, begin: Begin, *, ahead: bool = True
) -> dict[str, Expr]:
    """All reads under their names; the states after the last step, if time goes `ahead`."""
    forms = (form, *form.beside)
    m.current = form.states[0]
    packers = [_Packer(m, f) for f in forms]
    reads = sorted((r for f in forms for r in f.reads), key=lambda r: -r.lag)
    queries = list({(r.lag, r.query, r.extra): r for r in reads}.values())
    minus = form.turn is None and _erases_are_negative(form)
    vectors = _vectors(packers[0], form, queries, minus)
    if form.turn is not None:
        vectors |= _in_turns(packers[0], form, vectors)
    if form.beside:
        vectors["value"] = _joined([p.values(p.form.writes) for p in packers], -1)
    vectors["first"] = _joined([p.matrix(begin.first) for p in packers], -1)
    vectors["initial"] = Atom("None")
    if begin.initial is not None:
        initial = [p.matrix(begin.initial) for p in packers]
        vectors["initial"] = _joined(initial, -1)
    args = [_local(m, name, code) for name, code in vectors.items()]
    args += [begin.starts, m.need("time"), str(form.chunk)]
    keywords: dict[str, Expr | str] = {}
    if len(form.states) > 1:
        keywords["states"] = str(len(form.states))
    if not ahead:
        keywords["reverse"] = "True"
    if minus:
        keywords["minus"] = "True"
    made, last = m.names.new("reads"), m.names.new("last")
    done = call(m.helper("_chunkwise"), *args, **keywords)
    m.write(f"{made}, {last} = ", done, "", m.model.equation[m.current].span)
    _Reads(m, queries, forms).unpack(reads, made)
    if not ahead:
        return {}
    return {
        state: p.after(i, state, code)
        for p, code in zip(packers, _columns(m, forms, last), strict=True)
        for i, state in enumerate(p.form.states)
    }


def _columns(m: Method, forms: Sequence[Products], made: str) -> list[Expr]:
    """The columns that belong to each of `forms`."""
    if len(forms) == 1:
        return [Atom(made)]
    sizes = [_size(m, f.columns) for f in forms]
    split = m.names.new(f"{made}_apart")
    m.write(f"{split} = ", method(Atom(made), "split", list_of(sizes), -1))
    return [Item(Atom(split), str(i)) for i in range(len(forms))]


def _size(m: Method, dims: Sequence[str]) -> Expr:
    """How many entries there are along `dims`."""
    return Atom(" * ".join(one_line(e, 7) for e in m.extents(dims)) or "1")


def _local(m: Method, name: str, code: Expr) -> Expr | str:
    """`code` under a name of its own, where it is more than a name."""
    if isinstance(code, Atom) and code.text.isidentifier():
        return code
    local = m.names.new(name)
    m.write(f"{local} = ", code)
    return Atom(local)


def _erases_are_negative(form: Products) -> bool:
    """Whether all erases take away, so that their signs need no pass over the sequence."""
    rights = [n for w in form.writes for n in w.right.values()]
    return bool(rights) and all(_negated(n) is not None for n in rights)


def _negated(node: ir.Node) -> ir.Node | None:
    match node:
        case ir.Map(op="neg", args=(a,)):
            return a
        case _:
            return None


def _vectors(
    packer: _Packer, form: Products, reads: Sequence[Read], minus: bool
) -> dict[str, Expr]:
    """What a step does, by the names of `_chunkwise`; erases as their negatives if `minus`."""
    erases = [w for w in form.writes if w.right]
    rights = [w.right for w in erases]
    if minus:
        rights = [{s: _negated(n) or n for s, n in right.items()} for right in rights]
    writes = [w for w in form.writes if not w.right]
    known = any(w.value is not None for w in erases)
    old, new = (
        [_pair({_of(form, r): r.query}, r.extra) for r in reads if r.lag == lag]
        for lag in (1, 0)
    )
    return {
        "decay": packer.decay(),
        "right": packer.side(
            [_pair(r, w.inner) for r, w in zip(rights, erases, strict=True)]
        ),
        "into": packer.side([_pair(w.left, w.inner) for w in erases]),
        "known": packer.values(erases if known else []),
        "left": packer.side([_pair(w.left, w.inner) for w in writes]),
        "value": packer.values(writes),
        "old": packer.side(old),
        "new": packer.side(new),
    }


def _in_turns(
    packer: _Packer, form: Products, vectors: dict[str, Expr]
) -> dict[str, Expr]:
    """Writes of a step that see each other, as writes that see only the step before."""
    m, turn = packer.m, form.turn
    assert turn is not None and form.kept is not None
    kept = Atom("None") if _is_one(form.kept) else packer.turned(form.kept, turn)
    names = ("decay", "right", "into", "known", "left", "value")
    args = [_local(m, n, vectors[n]) for n in names]
    args += [_local(m, "kept", kept), *m.extents((turn,))]
    done = call(m.helper("_in_turn"), *args)
    local = {n: m.names.new(n) for n in names[:4]}
    m.write(f"{', '.join(local.values())} = ", done)
    found: dict[str, Expr] = {n: Atom(local[n]) for n in local}
    return {**found, "left": Atom("None"), "value": Atom("None")}


def _of(form: Products, read: Read) -> str:
    """The state whose rows a query has; those of states beside it are the same."""
    return read.source if read.source in form.states else form.states[0]


_Side = tuple[Mapping[str, ir.Node], tuple[str, ...]]


def _pair(nodes: Mapping[str, ir.Node], inner: tuple[str, ...]) -> _Side:
    return nodes, inner


@dataclass
class _Packer:
    """Values by name as `[batch, time, copies, count, entries]`."""

    m: Method
    form: Products

    def decay(self) -> Expr:
        """What is kept: a number for every row, or one for all; several: for each pair."""
        form = self.form
        found = {(d.target, d.source): d.coefficient for d in form.decays}
        unit = all(_is_one(n) for n in found.values())
        if unit and len(form.states) == 1 and found:
            return Atom("None")
        lines = [
            [self._kept(found.get((t, s))) for s in form.states] for t in form.states
        ]
        if len(form.states) == 1:
            return lines[0][0]
        listed = [list_of(line) for line in lines]
        return call(self.m.helper("_decay_grid"), list_of(listed))

    def _kept(self, node: ir.Node | None) -> Expr:
        rows = self.form.rows
        known = node is not None and set(node.type.dims) & set(rows)
        packed = self._packed(node, (), rows if known else ())
        return method(packed, "squeeze", -2)

    def turned(self, node: ir.Node, turn: str) -> Expr:
        """What is kept in every turn: a number for every row, or one for all."""
        rows = self.form.rows if set(node.type.dims) & set(self.form.rows) else ()
        return self._packed(node, (turn,), rows)

    def side(self, sides: Sequence[_Side]) -> Expr:
        """Vectors along the rows, those of all states behind one another."""
        lines: list[Expr] = []
        for nodes, inner in sides:
            rows = self.form.rows
            parts = [self._packed(nodes.get(s), inner, rows) for s in self.form.states]
            lines.append(_joined(parts, -1))
        return _joined(lines, -2) if lines else Atom("None")

    def values(self, writes: Sequence[Write]) -> Expr:
        """Vectors along the columns."""
        columns = self.form.columns
        lines = [self._packed(w.value, w.inner, columns) for w in writes]
        return _joined(lines, -2) if lines else Atom("None")

    def _packed(
        self, node: ir.Node | None, inner: tuple[str, ...], entries: tuple[str, ...]
    ) -> Expr:
        m, copies = self.m, self.form.copies
        dtype = full_type(m.model, self.form.states[0]).dtype
        if node is None:
            value = tensor(m, Value(Atom("0"), (), dtype, scalar=True), dtype)
        else:
            value = cast(m, tensor(m, expression(m, node), dtype), dtype)
        code = align(value, (BATCH, TIME, *copies, *inner, *entries))
        sizes = [tuple_of([*m.extents(d)]) for d in (copies, inner, entries)]
        lead = tuple_of([m.need("batch"), m.need("time")])
        return call(m.helper("_vectors"), code, lead, *sizes)

    # ---- Matrices

    def _order(self, state: str) -> tuple[int, ...]:
        dims, form = full_type(self.m.model, state).dims, self.form
        return tuple(dims.index(d) for d in (*form.copies, *form.rows, *form.columns))

    def matrix(self, values: Mapping[str, Expr]) -> Expr:
        """The states of the form, below one another."""
        m, form = self.m, self.form
        counts = len(form.copies), len(form.rows)
        parts = [
            call(
                m.helper("_rows"), values[s], 1, tuple_of(list(self._order(s))), *counts
            )
            for s in form.states
        ]
        return _joined(parts, -2)

    def after(self, place: int, state: str, last: Expr) -> Expr:
        """One of the states, given all."""
        m, form = self.m, self.form
        dims = full_type(m.model, state).dims
        code = last
        if len(form.states) > 1:
            code = Item(method(code, "chunk", len(form.states), -2), str(place))
        order = tuple_of(list(self._order(state)))
        return call(m.helper("_unrows"), code, 1, order, tuple_of(m.extents(dims)))


@dataclass
class _Reads:
    """What queries have read, `[batch, time, copies, queries, columns]`."""

    m: Method
    queries: Sequence[Read]
    forms: Sequence[Products]

    def unpack(self, reads: Sequence[Read], made: str) -> None:
        """Each read under its own name."""
        m, single = self.m, len(self.queries) == 1
        parts = _columns(m, self.forms, made)
        if not single:
            sizes = list_of([_size(m, q.extra) for q in self.queries])
            parts = [method(p, "split", sizes, -2) for p in parts]
        for read in reads:
            same = ((q.lag, q.query, q.extra) for q in self.queries)
            place = list(same).index((read.lag, read.query, read.extra))
            mine = next(i for i, f in enumerate(self.forms) if read in f.reads)
            code = parts[mine] if single else Item(parts[mine], str(place))
            self._named(read, self.forms[mine], code)

    def _named(self, read: Read, form: Products, code: Expr) -> None:
        m = self.m
        dims = (*form.copies, *read.extra, *form.columns)
        lead = [m.need("batch"), m.need("time")]
        shaped = method(code, "reshape", *lead, *m.extents(dims))
        type_ = full_type(m.model, read.source)
        kept = [d for d in type_.dims if d not in form.rows]
        value = Value(shaped, (BATCH, TIME, *dims), type_.dtype)
        value = permute(value, (BATCH, TIME, *read.extra, *kept))
        m.env["ref", read.name] = m.bind(m.names.new(read.name), value)


def _joined(parts: Sequence[Expr], dim: int) -> Expr:
    return parts[0] if len(parts) == 1 else call("torch.cat", list_of(list(parts)), dim)


def _is_one(node: ir.Node) -> bool:
    return isinstance(node, ir.Const) and node.value in (Lit(1), Lit(1.0))


def _is_zero(node: ir.Node) -> bool:
    return isinstance(node, ir.Const) and node.value in (Lit(0), Lit(0.0))
