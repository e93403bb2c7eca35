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
from seqdsl.backends.torch.settle import Ends, at_starts, ends_of
from seqdsl.backends.torch.values import Value, align, permute
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.forms import Products, Read, Write
from seqdsl.schedule.plan import Parallel


def products(body: Body, step: Parallel, form: Products) -> None:
    """All reads of the states at all steps, and the states after the last."""
    m = body.m
    m.current = form.states[0]
    ends = {s: ends_of(body, step, s) for s in form.states}
    packer = _Packer(m, form)
    reads = sorted(form.reads, key=lambda r: -r.lag)
    vectors = _vectors(packer, form, reads)
    if form.turn is not None:
        vectors |= _in_turns(packer, form, vectors)
    vectors["first"] = packer.matrix({s: ends[s].first for s in form.states})
    vectors["initial"] = packer.initial(ends)
    args = [_local(m, name, code) for name, code in vectors.items()]
    args += [ends[form.states[0]].starts, m.need("time"), str(form.chunk)]
    keywords: dict[str, Expr | str] = {}
    if len(form.states) > 1:
        keywords["states"] = str(len(form.states))
    if step.loop.direction == "backward":
        keywords["reverse"] = "True"
    made, last = m.names.new("reads"), m.names.new("last")
    done = call(m.helper("_chunkwise"), *args, **keywords)
    m.write(f"{made}, {last} = ", done, "", m.model.equation[m.current].span)
    packer.unpack(reads, made)
    if step.loop.direction == "forward":
        for i, state in enumerate(form.states):
            m.next[ends[state].entry.key] = packer.after(i, state, last)


def _local(m: Method, name: str, code: Expr) -> Expr | str:
    """`code` under a name of its own, where it is more than a name."""
    if isinstance(code, Atom) and code.text.isidentifier():
        return code
    local = m.names.new(name)
    m.write(f"{local} = ", code)
    return Atom(local)


def _vectors(packer: _Packer, form: Products, reads: Sequence[Read]) -> dict[str, Expr]:
    """What a step does, by the names of `_chunkwise`."""
    erases = [w for w in form.writes if w.right]
    writes = [w for w in form.writes if not w.right]
    known = any(w.value is not None for w in erases)
    old, new = (
        [_pair({r.source: r.query}, r.extra) for r in reads if r.lag == lag]
        for lag in (1, 0)
    )
    return {
        "decay": packer.decay(),
        "right": packer.side([_pair(w.right, w.inner) for w in erases]),
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
        """States below one another."""
        form = self.form
        counts = len(form.copies), len(form.rows)
        parts = [
            call(self.m.helper("_rows"), v, 1, tuple_of(list(self._order(s))), *counts)
            for s, v in values.items()
        ]
        return _joined(parts, -2)

    def initial(self, ends: Mapping[str, Ends]) -> Expr:
        """What they are where a segment starts; None is 0."""
        states = self.form.states
        if all(_is_zero(self.m.model.state[s].initial) for s in states):
            return Atom("None")
        values = {s: Item(at_starts(self.m, ends[s], s), ":, 0") for s in states}
        return self.matrix(values)

    def after(self, place: int, state: str, last: str) -> Expr:
        """One of the states, given all."""
        m, form = self.m, self.form
        dims = full_type(m.model, state).dims
        code: Expr = Atom(last)
        if len(form.states) > 1:
            code = Item(method(code, "chunk", len(form.states), -2), str(place))
        order = tuple_of(list(self._order(state)))
        return call(m.helper("_unrows"), code, 1, order, tuple_of(m.extents(dims)))

    # ---- Reads

    def total(self, inner: Sequence[tuple[str, ...]]) -> Expr:
        """How many vectors there are."""
        m = self.m
        sizes = [" * ".join(one_line(e, 7) for e in m.extents(d)) or "1" for d in inner]
        if all(s == "1" for s in sizes):
            return Atom(str(len(sizes)))
        return Atom(" + ".join(sizes))

    def unpack(self, reads: Sequence[Read], made: str) -> None:
        """Each read under its own name."""
        m, form = self.m, self.form
        code: Expr = Atom(made)
        if len(reads) > 1:
            sizes = list_of([self.total([r.extra]) for r in reads])
            code = method(code, "split", sizes, -2)
        for i, read in enumerate(reads):
            one = Item(code, str(i)) if len(reads) > 1 else code
            dims = (*form.copies, *read.extra, *form.columns)
            lead = [m.need("batch"), m.need("time")]
            shaped = method(one, "reshape", *lead, *m.extents(dims))
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
