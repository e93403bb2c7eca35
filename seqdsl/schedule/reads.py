"""What the rest of a layer wants to know of matrix states, as products with queries.

Expressions outside of a recurrence are put in normal form over reads of its states at
this step and the one before. The smallest expressions in which the states' rows are
summed away become a `Read` and what is done with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from seqdsl.analysis.graph import Edge, edges_of, name_of
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.offset import offset
from seqdsl.analysis.rebuild import term_node
from seqdsl.analysis.terms import Factor, Term, is_bad
from seqdsl.analysis.verdict import Recurrence
from seqdsl.differentiate.broadcast import Dims, add, shaped
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.walk import children, with_children
from seqdsl.schedule.forms import Read
from seqdsl.schedule.reindexed import Reindexed, reindexed


@dataclass
class Readers:
    """Rewrites expressions over the reads of `recurrence`'s states.

    With `rows` None anything that sums a dim of a state is a read, and `summed` collects
    which dims each of them sums. `tied` are dims of the states on which a query depends.
    Values that are `held` count as given.
    """

    model: ir.Model
    recurrence: Recurrence
    dims: Dims
    rows: frozenset[str] | None = None
    held: frozenset[str] = frozenset()
    summed: list[frozenset[str]] = field(default_factory=list[frozenset[str]])
    tied: set[str] = field(default_factory=set[str])
    reads: list[Read] = field(default_factory=list[Read])
    replaced: dict[ir.Node, ir.Node] = field(default_factory=dict[ir.Node, ir.Node])
    after: list[str] = field(default_factory=list[str])
    failed: bool = False

    def __post_init__(self) -> None:
        scope = self.model.equation[self.recurrence.states[0]].scope
        edges = [e for e in edges_of(self.model) if e.reader not in self.held]
        before = [e for e in edges if _of_a_turn_before(e, scope)]
        edges = [e for e in edges if e not in before]
        self.states = frozenset(self.recurrence.states)
        self.reached = _reached(edges, self.states)
        self.before = {e.source for e in before} & self.reached
        self.normal = Normal(
            self.model,
            TIME,
            self.reached,
            [e for e in edges if e.source in self.reached],
            current=self.states,
        )
        self.normal.dims = self.dims
        self._settled: dict[str, bool] = {}
        self._assumed: set[str] = set()

    # ---- Which values can be computed from reads

    def run(self) -> bool:
        """Rewrite all that reads the states; False where some of it needs them whole."""
        kept = all(self.rewritten(root) is not None for root in self._roots())
        return kept and all(map(self.settled, self.before)) and not self.failed

    def dropped(self) -> tuple[str, ...]:
        """Equations outside that read the states whole and that nothing needs."""
        gone = self.reached - frozenset(self.recurrence.members)
        return tuple(
            e.name
            for e in self.model.equations
            if e.name in gone and not self._settled.get(e.name)
        )

    def settled(self, name: str) -> bool:
        """Whether the equation `name` can be computed from reads."""
        if name in self.states or name not in self.model.equation:
            return name not in self.states
        if name not in self._settled:
            # What reads itself at another step counts as settled until it is not.
            self._settled[name] = True
            found = self.rewritten(self.model.equation[name].expr) is not None
            self.failed |= name in self._assumed and not found
            self._settled[name] = found
            if found and name in self.recurrence.members:
                self.after.append(name)
        else:
            self._assumed.add(name)
        return self._settled[name]

    def _roots(self) -> Iterator[ir.Node]:
        for output in self.model.outputs:
            yield output.expr
        for call in self.model.calls:
            for _, arg in call.args:
                yield arg
        for state in self.model.states:
            if state.name not in self.recurrence.members:
                yield state.initial
        for repeat in self.model.repeats:
            if repeat.condition is not None:
                yield repeat.condition
            if isinstance(repeat.count, ir.Base):
                yield repeat.count

    # ---- Expressions

    def rewritten(self, node: ir.Node) -> ir.Node | None:
        """`node` over reads, None where it has the rows of a state."""
        if not self.normal.active(node):
            return node
        if isinstance(node, ir.Ref | ir.Result):
            return node if self.settled(name_of(node)) else None
        if isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy):
            return node if self.settled(name_of(node.arg)) else None
        if node in self.replaced:
            return self.replaced[node]
        new = [self.rewritten(c) for c in children(node)]
        kept = [n for n in new if n is not None]
        if len(kept) == len(new):
            return with_children(node, tuple(kept))
        found = self._from_reads(node)
        if found is not None:
            found = self.replaced[node] = shaped(found, node.type.dims)
        return found

    def _from_reads(self, node: ir.Node) -> ir.Node | None:
        if node.type.dtype not in ("float", "complex"):
            return None
        poly = self.normal.poly(node)
        if self.normal.bad(poly):
            return None
        result: ir.Node | None = None
        for term in poly:
            if not term.active or is_bad(term):
                continue
            part = self._part(term)
            if part is None:
                return None
            result = add(result, part)
        rest = offset(self.normal, node)
        if result is None or rest is None:
            return result if rest is None else rest
        return add(result, rest)

    def _part(self, term: Term) -> ir.Node | None:
        """One term as a read and what is done with it."""
        (factor,) = term.active
        found = reindexed(factor.node)
        if found is None or found.state not in self.states:
            return None
        lag = self._lag(found.read)
        names = factor.names
        if lag is None or len(set(names)) < len(names):
            return None
        rows = self._rows(term, found, factor)
        return None if rows is None else self._made(term, found, lag, rows)

    def _lag(self, read: ir.Ref | ir.Shift) -> int | None:
        if isinstance(read, ir.Ref):
            return 0
        back = -1 if self.recurrence.direction == "forward" else 1
        return 1 if read.axis == TIME and read.offset == back else None

    def _rows(
        self, term: Term, found: Reindexed, factor: Factor
    ) -> frozenset[str] | None:
        """The state's dims that count as its rows, where the term sums all of them."""
        pairs = zip(factor.node.type.dims, factor.names, strict=True)
        here = {d for d, n in pairs if n in term.bound}
        whole = frozenset(d for d in found.dims if found.held(d) <= here)
        rows = whole if self.rows is None else self.rows
        if not rows or not rows <= whole:
            return None
        self.summed.append(whole)
        held = {h for d in rows for h in found.held(d)}
        mixed = any(found.held(d) & held for d in found.dims if d not in rows)
        return None if mixed else rows

    def _made(
        self, term: Term, found: Reindexed, lag: int, rows: frozenset[str]
    ) -> ir.Node | None:
        (factor,) = term.active
        held = {h for d in rows for h in found.held(d)}
        ends = dict(zip(factor.names, factor.node.type.dims, strict=True))
        table = {n: d for n, d in ends.items() if d in held}
        own = tuple(f for f in term.passive if set(table) & set(f.names))
        others = tuple(f for f in term.passive if f not in own)
        outside = {n for f in others for n in f.names} | set(ends)
        inside = {n for f in own for n in f.names} & term.bound - outside
        for name in sorted({n for f in own for n in f.names} & set(ends) - set(table)):
            if found.held(ends[name]) != frozenset({ends[name]}):
                return None
            self.tied.add(ends[name])
            table[name] = ends[name]
        extra = self._extra(own, table, found, inside)
        table |= extra
        renamed = tuple(f.renamed(table) for f in own)
        query = term_node(Term(term.scale, renamed, frozenset(inside)), self.dims)
        query = found.back(query, held)
        if query is None or self._of_a_turn(query):
            return None
        value = found.on(self._read(found, lag, query, tuple(extra.values()), rows))
        index = {d: n for n, d in (*ends.items(), *extra.items())}
        back = {d: index[d] for d in value.type.dims}
        made = self.normal.factor("free", value).renamed(back)
        bound = term.bound - inside - {n for n in ends if ends[n] in held}
        return term_node(Term(Fraction(1), (*others, made), bound), self.dims)

    def _of_a_turn(self, query: ir.Node) -> bool:
        """Whether it is another one in each turn of a repeat that the states are not in."""
        around = self.model.equation[self.recurrence.states[0]].scope
        return bool(query.type.axes & set(self.model.repeat) - set(around))

    def _extra(
        self,
        own: Sequence[Factor],
        table: Mapping[str, str],
        found: Reindexed,
        inside: Collection[str],
    ) -> dict[str, str]:
        """Index names that only the query has, with the dims that they become."""
        extra: dict[str, str] = {}
        for factor in own:
            for dim, name in zip(factor.node.type.dims, factor.names, strict=True):
                if name in table or name in extra or name in inside:
                    continue
                taken = {*found.dims, *found.ends, *extra.values()}
                fresh = name.startswith("#") or name in taken
                extra[name] = self.dims.fresh(dim) if fresh else name
        return extra

    def _read(
        self,
        found: Reindexed,
        lag: int,
        query: ir.Node,
        extra: tuple[str, ...],
        rows: frozenset[str],
    ) -> ir.Ref:
        state, read = found.state, found.read
        kept = tuple(d for d in read.type.dims if d not in rows)
        axes = read.type.axes | query.type.axes | {BATCH, TIME}
        type_ = Type(read.type.dtype, (*extra, *kept), axes)
        for known in self.reads:
            same = (known.source, known.lag, known.extra) == (state, lag, extra)
            if same and known.query == query:
                return build.ref(known.name, type_)
        made = Read(
            name=self._fresh(f"{state}_read"),
            source=state,
            lag=lag,
            query=query,
            extra=extra,
        )
        self.reads.append(made)
        return build.ref(made.name, type_)

    def _fresh(self, name: str) -> str:
        model = self.model
        taken = {r.name for r in self.reads} | {*model.equation, *model.call}
        taken |= {*model.input, *model.param, *model.dims, *model.repeat}
        number, result = 1, name
        while result in taken:
            number += 1
            result = f"{name}_{number}"
        return result


def _of_a_turn_before(edge: Edge, scope: Collection[str]) -> bool:
    """Whether it reads what is known before this turn of a repeat."""
    return edge.kind == "shift" and edge.axis in scope and edge.offset < 0


def _reached(edges: Sequence[Edge], states: frozenset[str]) -> frozenset[str]:
    """The states and everything that depends on them, at whatever step."""
    found = set(states)
    growing = True
    while growing:
        more = {e.reader for e in edges if e.source in found and e.reader} - found
        found |= more
        growing = bool(more)
    return frozenset(found)
