"""Scans whose step is more than a number per entry: matrices, and elements of monoids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from seqdsl.analysis import monoids
from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.memory import Body, full, full_type
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Expr,
    Item,
    call,
    list_of,
    one_line,
    tuple_of,
)
from seqdsl.backends.torch.reindex import canonical
from seqdsl.backends.torch.settle import (
    Ends,
    at_starts,
    ends_of,
    settle,
    whole,
    whole_type,
)
from seqdsl.backends.torch.values import Value, align
from seqdsl.differentiate.broadcast import shaped
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.schedule.forms import MatrixScan, MonoidScan
from seqdsl.schedule.plan import Parallel

# ---- Matrices


@dataclass(frozen=True)
class Part:
    """Rows of the joint vector: a state as it was `lag` steps before."""

    state: str
    lag: int
    dims: tuple[str, ...]
    order: tuple[int, ...]
    copies: int
    mixed: tuple[str, ...]

    def packed(self, m: Method, value: Expr, lead: int) -> Expr:
        """`value` as copies of rows by columns."""
        order = tuple_of(list(self.order))
        return call(m.helper("_rows"), value, lead, order, self.copies, len(self.mixed))

    def unpacked(self, m: Method, rows: Expr, lead: int) -> Expr:
        """The value whose rows these are."""
        shape, order = tuple_of(m.extents(self.dims)), tuple_of(list(self.order))
        return call(m.helper("_unrows"), rows, lead, order, shape)

    def height(self, m: Method) -> Expr:
        """How many rows it has."""
        sizes = [one_line(e, 7) for e in m.extents(self.mixed)]
        return Atom(" * ".join(sizes) or "1")


def parts_of(
    m: Method,
    copies: tuple[str, ...],
    mixed: Mapping[str, tuple[str, ...] | None],
    lags: Mapping[str, int],
) -> list[Part]:
    """Rows of the joint vector, the latest first; `mixed` None means all but `copies`."""
    found: list[Part] = []
    for state, named in mixed.items():
        dims = full_type(m.model, state).dims
        rows = tuple(d for d in dims if d not in copies) if named is None else named
        rest = [d for d in dims if d not in copies and d not in rows]
        order = tuple(dims.index(d) for d in (*copies, *rows, *rest))
        for lag in range(1, lags[state] + 1):
            found.append(Part(state, lag, dims, order, len(copies), rows))
    return found


def matrices(body: Body, step: Parallel, form: MatrixScan) -> None:
    """`h = a @ h[t-1] + b` for the joint vector of all states, and their parts of it."""
    m = body.m
    m.current = form.states[0]
    ends = {s: ends_of(body, step, s) for s in form.states}
    parts = parts_of(m, form.copies, form.mixed, form.lags)
    matrix = m.names.new("steps")
    m.write(f"{matrix} = ", _matrix(m, form, parts))
    offset = m.names.new("offset")
    m.write(f"{offset} = ", stacked([_offset(m, form, p) for p in parts]))
    first = stacked([p.packed(m, _lagged(ends[p.state], p.lag), 1) for p in parts])
    starts = [at_starts(m, ends[p.state], p.state) for p in parts]
    begun = stacked([p.packed(m, s, 2) for p, s in zip(parts, starts, strict=True)])
    made, last = m.names.new("rows"), m.names.new("rows_t")
    done = call(
        m.helper("_scan_matrices"), f'"{form.semiring}"', matrix, offset, first,
        ends[form.states[0]].starts, begun, **reversed_(step),
    )  # fmt: skip
    span = m.model.equation[form.states[0]].span
    m.write(f"{made}, {last} = ", done, "", span)
    unpack(body, step, parts, ends, (made, last))


def reversed_(step: Parallel) -> dict[str, str]:
    """The keyword of a scan that runs from the last step to the first."""
    return {"reverse": "True"} if step.loop.direction == "backward" else {}


def stacked(values: Sequence[Expr]) -> Expr:
    """Rows one below another."""
    return values[0] if len(values) == 1 else call("torch.cat", list_of(values), -2)


def _matrix(m: Method, form: MatrixScan, parts: Sequence[Part]) -> Expr:
    """The joint matrix; of a longer memory each step moves up by one lag."""
    place = {(p.state, p.lag): i for i, p in enumerate(parts)}
    blocks: list[str] = []
    for block in form.blocks:
        rows, columns = form.mixed[block.target], block.columns
        target = (BATCH, TIME, *form.copies, *rows, *columns)
        value = tensor(m, expression(m, block.weight))
        value = cast(m, value, full_type(m.model, block.target).dtype)
        code = call(m.helper("_block"), align(value, target), len(rows), len(columns))
        at = place[block.target, 1], place[block.source, block.lag]
        blocks.append(f"{at}: {one_line(code)}")
    units = [
        (place[p.state, p.lag], place[p.state, p.lag - 1]) for p in parts if p.lag > 1
    ]
    sizes = list_of([p.height(m) for p in parts])
    table = Atom("{" + ", ".join(blocks) + "}")
    return call(
        m.helper("_joint"), f'"{form.semiring}"', sizes, table, str(units)
    )  # fmt: skip


_ZEROS = {"real": 0.0, "boolean": False, "min_plus": float("inf")}


def _offset(m: Method, form: MatrixScan, part: Part) -> Expr:
    zero = _ZEROS.get(form.semiring, float("-inf"))
    node = form.offsets.get(part.state) if part.lag == 1 else None
    value = whole(m, node, whole_type(m, part.state), zero)
    return part.packed(m, value.code, 2)


def _lagged(ends: Ends, lag: int) -> Expr:
    """The state `lag` steps before the first."""
    return ends.first if ends.past is None else Item(ends.past, f":, -{lag}")


def unpack(
    body: Body,
    step: Parallel,
    parts: Sequence[Part],
    ends: Mapping[str, Ends],
    names: tuple[str, str],
) -> None:
    """The states, whole and after the last step, from rows of the joint vector."""
    m = body.m
    begin: list[str] = []
    for part in parts:
        end = [*begin, one_line(part.height(m), 6)]
        if part.lag == 1:
            lines = f"..., {' + '.join(begin)}:{' + '.join(end)}, :"
            made = m.names.new(part.state)
            last = m.names.new(f"{part.state}_t")
            for name, source, lead in ((made, names[0], 2), (last, names[1], 1)):
                code = Item(Atom(source), lines) if len(parts) > 1 else Atom(source)
                m.write(f"{name} = ", part.unpacked(m, code, lead))
            settle(body, step, part.state, ends[part.state], Atom(made), Atom(last))
        begin = end


# ---- Monoids


def monoid(body: Body, step: Parallel, form: MonoidScan) -> None:
    """A scan of a known monoid, whose two functions are written out before it."""
    m = body.m
    m.current = form.states[0]
    ends = {s: ends_of(body, step, s) for s in form.states}
    state = {
        s: replace(full_type(m.model, s), axes=frozenset({BATCH})) for s in form.states
    }
    made_of = monoids.element_types(form.monoid, form.entries, list(state.values()))
    types = [replace(t, axes=frozenset({BATCH})) for t in made_of]
    combine = _function(
        m,
        "combine",
        [types, types],
        lambda a, b: monoids.combine(form.monoid, form.entries, a, b),
        types,
    )
    apply = _function(
        m, "apply", [types, list(state.values())],
        lambda e, s: tuple(monoids.apply(form.monoid, form.entries, e, dict(zip(form.states, s, strict=True))).values()),
        list(state.values()),
    )  # fmt: skip
    leaves = [
        whole(m, shaped(n, t.dims), replace(t, axes=frozenset({BATCH, TIME})), 0).code
        for n, t in zip(form.leaf, types, strict=True)
    ]
    begun = [at_starts(m, ends[s], s) for s in form.states]
    made = [m.names.new(s) for s in form.states]
    last = [m.names.new(f"{s}_t") for s in form.states]
    done = call(
        m.helper("_scan_monoid"), combine, apply, tuple_of(leaves),
        tuple_of([ends[s].first for s in form.states]),
        ends[form.states[0]].starts, tuple_of(begun), **reversed_(step),
    )  # fmt: skip
    head = f"{one_line(tuple_of(made))}, {one_line(tuple_of(last))} = "
    m.write(head, done, "", m.model.equation[form.states[0]].span)
    for s, a, b in zip(form.states, made, last, strict=True):
        settle(body, step, s, ends[s], Atom(a), Atom(b))


_Build = Callable[[tuple[ir.Node, ...], tuple[ir.Node, ...]], tuple[ir.Node, ...]]


def _function(
    m: Method,
    kind: str,
    takes: Sequence[Sequence[Type]],
    make: _Build,
    gives: Sequence[Type],
) -> Expr:
    """A local function of two tuples of tensors `[rows, …]`, written before its use."""
    inner = replace(m, lines=[], indent=m.indent + 4, in_time=True, env={}, zipped={})
    arguments, name = ("e", "f"), m.names.new(f"{m.current}_{kind}")
    given: list[tuple[ir.Node, ...]] = []
    for argument, types in zip(arguments, takes, strict=True):
        nodes: list[ir.Node] = []
        for i, type_ in enumerate(types):
            code = Atom(f"{argument}[{i}]")
            inner.env["ref", f"{argument}[{i}]"] = Value(
                code, (BATCH, *type_.dims), type_.dtype
            )
            nodes.append(build.ref(f"{argument}[{i}]", type_))
        given.append(tuple(nodes))
    found = make(given[0], given[1])
    codes = [
        full(
            inner,
            canonical(
                inner, cast(inner, tensor(inner, expression(inner, n)), t.dtype), t.dims
            ),
            t,
        ).code
        for n, t in zip(found, gives, strict=True)
    ]
    m.line(
        f"def {name}(e: tuple[Tensor, ...], f: tuple[Tensor, ...]) -> tuple[Tensor, ...]:"
    )
    inner.write("return ", tuple_of(codes))
    m.lines += inner.lines
    m.line("")
    return Atom(name)
