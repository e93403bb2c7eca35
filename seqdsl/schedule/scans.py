"""The scans that a verdict allows, read off its normal form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from seqdsl.analysis.verdict import Affine, Semiring, Term, Verdict
from seqdsl.differentiate.broadcast import (
    ONE,
    ZERO,
    Dims,
    mul,
    pointwise,
    select,
    shaped,
)
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.schedule.forms import Block, DiagonalScan, MatrixScan, MonoidScan
from seqdsl.schedule.moves import (
    has_matrix,
    kept_dims,
    moved_dims,
    times_move,
    where_set,
)

PLUS: Mapping[Semiring, str] = {
    "real": "add",
    "log": "logaddexp",
    "max_plus": "max",
    "min_plus": "min",
    "max_min": "max",
    "boolean": "or",
}
"""The sum of a semiring as a pointwise operator."""


def scan_of(
    model: ir.Model, verdict: Verdict, *, filtered: bool = False
) -> DiagonalScan | MatrixScan | MonoidScan | None:
    """The scan of a scannable recurrence; None where its normal form has none.

    `filtered` asks for a convolution, which only a time-invariant diagonal one has.
    """
    if verdict.monoid is not None:
        states = verdict.recurrence.states
        return MonoidScan(
            states=states,
            monoid=verdict.monoid,
            leaf=verdict.leaf,
            entries=verdict.entries,
            dims=verdict.dims,
        )
    diagonal = _diagonal(model, verdict, filtered)
    if diagonal is not None or filtered:
        return diagonal
    return _Matrices(model, verdict).form()


def _diagonal(model: ir.Model, verdict: Verdict, filtered: bool) -> DiagonalScan | None:
    if len(verdict.updates) != 1 or verdict.semiring is None:
        return None
    (update,) = verdict.updates
    if any(t.kind != "diagonal" or t.lag != 1 for t in update.terms):
        return None
    if filtered and not (verdict.invariant and verdict.semiring == "real"):
        return None
    if verdict.semiring == "real":
        coefficient = update.diagonal
    else:
        coefficient = _weight(update.terms, verdict.semiring)
        whole = model.equation[update.state].expr.type.dtype == "int"
        if whole and update.offset is None:
            return None
    return DiagonalScan(
        state=update.state,
        semiring=verdict.semiring,
        coefficient=coefficient,
        offset=update.offset,
        filtered=filtered,
    )


def _weight(terms: Iterable[Term], semiring: Semiring) -> ir.Node | None:
    """The sum of the weights of terms that read the same; None is the product's one."""
    found: list[ir.Node | None] = [t.factors[0] if t.factors else None for t in terms]
    if len(found) == 1:
        return found[0]
    one = build.const({"boolean": True, "max_min": float("inf")}.get(semiring, 0.0))
    result: ir.Node | None = None
    for weight in found:
        value = one if weight is None else weight
        result = value if result is None else pointwise(PLUS[semiring], result, value)
    return result


@dataclass
class _Matrices:
    """Builds the joint matrix of several states, or of one whose entries mix."""

    model: ir.Model
    verdict: Verdict
    names: dict[tuple[str, str], str] = field(
        default_factory=dict[tuple[str, str], str]
    )

    def __post_init__(self) -> None:
        self.dims = Dims({**self.model.dims, **self.verdict.dims})

    def form(self) -> MatrixScan | None:
        """The form; None where a state is read re-indexed in a way that has no matrix."""
        updates, semiring = self.verdict.updates, self.verdict.semiring
        terms = [(u, t) for u in updates for t in u.terms]
        if semiring is None or not updates:
            return None
        if not all(has_matrix(t, semiring) for _, t in terms):
            return None
        mixed = self._mixed(terms)
        shared = {
            tuple(sorted(d for d in self._shape(u.state) if d not in mixed))
            for u in updates
        }
        if len(shared) > 1:
            return None
        along = {
            d for _, t in terms for f in (*t.factors, *t.masks) for d in f.type.dims
        }
        own = {
            u.state: tuple(d for d in self._shape(u.state) if d in mixed)
            for u in updates
        }
        copies = tuple(
            d for d in self._shape(updates[0].state) if d not in mixed and d in along
        )
        blocks = self._summed(self._blocks(terms, own, semiring), semiring)
        lags = {u.state: 1 for u in updates}
        for _, term in terms:
            lags[term.state] = max(lags[term.state], term.lag)
        offsets = {u.state: u.offset for u in updates if u.offset is not None}
        return MatrixScan(
            states=tuple(u.state for u in updates),
            semiring=semiring,
            copies=copies,
            mixed=own,
            lags=lags,
            blocks=tuple(blocks),
            offsets=offsets,
            dims={**self.verdict.dims, **self.dims.added},
        )

    def _shape(self, state: str) -> tuple[str, ...]:
        return self.model.equation[state].expr.type.dims

    def _mixed(self, terms: Sequence[tuple[Affine, Term]]) -> set[str]:
        """Names of dims along which some step mixes entries."""
        mixed: set[str] = set()
        for update, term in terms:
            target = self._shape(update.state)
            pairs = kept_dims(term.read)
            mixed |= {d for d, n in pairs if n != d or d not in target}
            mixed |= set(target) - {d for d, _ in pairs}
            mixed |= set(moved_dims(term.read))
        return mixed

    def _column(self, state: str, dim: str) -> str:
        """The name of a mixed dim where it counts columns of the matrix."""
        key = (state, dim)
        if key not in self.names:
            self.names[key] = self.dims.fresh(dim)
        return self.names[key]

    def _blocks(
        self,
        terms: Sequence[tuple[Affine, Term]],
        own: Mapping[str, tuple[str, ...]],
        semiring: Semiring,
    ) -> Iterator[Block]:
        for update, term in terms:
            pairs = kept_dims(term.read)
            table = {
                n: self._column(term.state, d)
                for d, n in pairs
                if d in own[term.state] and n in term.over
            }
            weight = _coefficient(term, table, semiring)
            if moved := moved_dims(term.read):
                names = {d: self._column(term.state, d) for d in moved}
                weight = times_move(weight, term, names, semiring)
            for dim, name in pairs:
                if dim in own[term.state] and name not in term.over:
                    column = self._column(term.state, dim)
                    weight = _on_diagonal(weight, name, column, semiring)
            columns = tuple(self._column(term.state, d) for d in own[term.state])
            rows = own[update.state]
            rest = [d for d in weight.type.dims if d not in (*rows, *columns)]
            weight = shaped(weight, (*rest, *rows, *columns))
            yield Block(
                target=update.state,
                source=term.state,
                lag=term.lag,
                weight=weight,
                columns=columns,
            )

    def _summed(self, blocks: Iterable[Block], semiring: Semiring) -> list[Block]:
        """Blocks at the same place, added up."""
        found: dict[tuple[str, str, int], Block] = {}
        for block in blocks:
            key = (block.target, block.source, block.lag)
            if key in found:
                both = pointwise(PLUS[semiring], found[key].weight, block.weight)
                found[key] = Block(
                    target=block.target,
                    source=block.source,
                    lag=block.lag,
                    weight=both,
                    columns=block.columns,
                )
            else:
                found[key] = block
        return list(found.values())


def _coefficient(term: Term, table: Mapping[str, str], semiring: Semiring) -> ir.Node:
    """What a term multiplies its read with, the names in `table` changed."""
    reads = set(term.read.type.dims)
    inner = [d for d in term.over if d not in reads]
    factors = list(term.factors)
    if semiring == "real":
        result = mul(*factors) if factors else ONE
        for mask in term.masks:
            result = select(mask, result, ZERO)
        held = [d for d in inner if d in result.type.dims]
        result = build.reduce("sum", result, held) if held else result
    else:
        one = {"boolean": True, "max_min": float("inf")}.get(semiring, 0.0)
        result = factors[0] if factors else build.const(one)
    pairs = [(d, table.get(d, d)) for d in result.type.dims]
    return build.rename(result, pairs)


def _on_diagonal(weight: ir.Node, row: str, column: str, semiring: Semiring) -> ir.Node:
    """`weight` where the row is the column, the semiring's zero elsewhere."""
    rows = build.one_hot(build.position(column, axis=False), row)
    return where_set(rows, weight, semiring)
