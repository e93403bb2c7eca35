"""Which statements of a kernel share their loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seqdsl.backends.mlir.layout import Layout
from seqdsl.backends.mlir.statements import Statement, reads


@dataclass
class _Group:
    """A nest while statements are added to it."""

    space: frozenset[str]
    lane: str | None
    found: list[Statement] = field(default_factory=list[Statement])

    def fits(self, space: frozenset[str], lane: str | None) -> bool:
        """Whether loops over `space`, by vectors along `lane`, are these."""
        return self.space == space and self.lane == lane

    def takes(self, statement: Statement, layout: Layout) -> bool:
        """Whether a statement may join: registers have room for so many sums."""
        space, lane = statement.space - set(layout.tasks), layout.lane_of(statement)
        sums = sum(s.op is not None for s in self.found)
        full = statement.op is not None and sums >= layout.machine.registers // 2
        return self.fits(space, lane) and not full


def group(
    found: Sequence[Statement], states: Sequence[str], layout: Layout
) -> tuple[list[list[Statement]], frozenset[str]]:
    """Statements in groups that share loops, and the states kept twice.

    A statement joins the first group it can: sums are over when their group is, and
    what reads a state of the step before comes no later than the update.
    """
    groups: list[_Group] = []
    place: dict[str, int] = {}
    old: dict[str, int] = {}
    sums = {s.name for s in found if s.op}
    for statement in found:
        space, lane = statement.space - set(layout.tasks), layout.lane_of(statement)
        known = reads(statement.expr)
        first = old.get(statement.name, 0) if statement.name in states else 0
        for (name, shifted), plain in known.items():
            if not shifted and name in place:
                same = (
                    plain and name not in sums and groups[place[name]].fits(space, lane)
                )
                first = max(first, place[name] + (0 if same else 1))
        chosen = next(
            (
                i
                for i in range(first, len(groups))
                if groups[i].takes(statement, layout)
            ),
            None,
        )
        if chosen is None:
            groups.append(_Group(space, lane))
            chosen = len(groups) - 1
        groups[chosen].found.append(statement)
        place[statement.name] = chosen
        for (name, shifted), plain in known.items():
            if shifted and name in states:
                old[name] = max(old.get(name, 0), chosen + (0 if plain else 1))
    twice = frozenset(n for n in states if n in place and old.get(n, 0) > place[n])
    return [g.found for g in groups], twice


def read_later(
    statement: Statement, found: Sequence[Statement], place: Mapping[str, int]
) -> bool:
    """Whether another nest reads the value."""
    mine = place[statement.name]
    return any(
        (statement.name, False) in reads(s.expr) and place[s.name] != mine
        for s in found
    )
