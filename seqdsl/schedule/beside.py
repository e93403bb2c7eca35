"""Matrix states that are one, of more columns: a memory and its normalizer.

States that decay alike and are written to along the same vectors need what the steps of a
chunk do to each other only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from seqdsl.analysis.graph import edges_of, name_of
from seqdsl.analysis.verdict import Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import references
from seqdsl.schedule.choose import start_alike
from seqdsl.schedule.forms import DiagonalScan, Products, nodes_of
from seqdsl.schedule.plan import Parallel, Step, defined
from seqdsl.schedule.products import Chunked, products

Verdicts = Mapping[frozenset[str], Verdict]


def narrow_beside(
    model: ir.Model, verdicts: Verdicts, form: Products, step: Step
) -> tuple[Verdict, Chunked[Products]] | None:
    """A state that `step` scans, as columns beside those of `form`; None where it is not."""
    if not isinstance(step, Parallel) or not isinstance(step.form, DiagonalScan):
        return None
    verdict = verdicts.get(frozenset(defined(step.loop.body)))
    if verdict is None or len(verdict.recurrence.members) > 1:
        return None
    if not start_alike(model, verdict):
        return None
    found = products(model, verdict, form.chunk, narrow=True)
    if found is None or found.after or not alike(form, found.form):
        return None
    behind = _behind(model, (r.name for r in form.reads))
    read = {name_of(r) for n in nodes_of(found.form) for r in references(n)}
    held = {name_of(r) for n in found.replaced for r in references(n)}
    free = not behind & read and not {r.name for r in form.reads} & held
    return (verdict, found) if free else None


def alike(one: Products, other: Products) -> bool:
    """Whether both decay alike and are written to along the same vectors."""
    return (
        plain(one)
        and plain(other)
        and (one.rows, set(one.copies)) == (other.rows, set(other.copies))
        and _kept(one) == _kept(other)
        and _sides(one) == _sides(other)
    )


def plain(form: Products) -> bool:
    """Whether it is one state without erases."""
    erases = any(w.right or w.inner for w in form.writes)
    return len(form.states) == 1 and not erases and form.turn is None


def _kept(form: Products) -> list[ir.Node]:
    return [d.coefficient for d in form.decays]


def _sides(form: Products) -> list[list[ir.Node]]:
    return [list(w.left.values()) for w in form.writes]


def _behind(model: ir.Model, names: Iterable[str]) -> set[str]:
    """`names` and all that is computed from them."""
    found, edges, growing = set(names), edges_of(model), True
    while growing:
        more = {e.reader for e in edges if e.source in found} - found
        found |= more
        growing = bool(more)
    return found


def joined(steps: Sequence[Step], place: int, other: int, form: Products) -> list[Step]:
    """`steps` with the state at `other` beside those at `place`."""
    step = steps[place]
    assert isinstance(step, Parallel) and isinstance(step.form, Products)
    wide = replace(step.form, beside=(*step.form.beside, form))
    found = [replace(step, form=wide) if i == place else s for i, s in enumerate(steps)]
    return [s for i, s in enumerate(found) if i != other]
