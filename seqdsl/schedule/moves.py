"""Entries of a state that a step moves, as the matrix of the move."""

from __future__ import annotations

from collections.abc import Mapping

from seqdsl.analysis.verdict import Semiring, Term
from seqdsl.differentiate.broadcast import mul, shaped
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import subtree
from seqdsl.schedule.reindexed import Reindexed, after, move_ends, reindexed


def has_matrix(term: Term, semiring: Semiring) -> bool:
    """Whether what a term reads is the state times a matrix of the semiring.

    Moved entries are, unless a semiring without subtraction sums them or zeros come in.
    """
    if _plain(term.read):
        return True
    found = reindexed(term.read)
    if found is None or not isinstance(found.read, ir.Shift):
        return False
    if semiring == "real":
        return True
    filled = any(isinstance(m, ir.Roll) and not m.wrap for m in found.moves)
    ends = {e for d in moved_dims(term.read) for e in found.held(d)}
    return not filled and not ends & set(term.over)


def kept_dims(read: ir.Node) -> list[tuple[str, str]]:
    """The dims of a state that a read leaves as they are, with their names there."""
    if _plain(read):
        shift = next(n for n in subtree(read) if isinstance(n, ir.Shift))
        return list(zip(shift.type.dims, read.type.dims, strict=True))
    found = _found(read)
    moved = moved_dims(read)
    return [(d, next(iter(found.held(d)))) for d in found.dims if d not in moved]


def moved_dims(read: ir.Node) -> tuple[str, ...]:
    """The dims of a state along which a read finds entries elsewhere."""
    if _plain(read):
        return ()
    found = _found(read)
    return tuple(d for d in found.dims if _is_moved(found, d))


def times_move(
    weight: ir.Node, term: Term, columns: Mapping[str, str], semiring: Semiring
) -> ir.Node:
    """`weight` times the matrix of a move; `columns` names the dims before it."""
    units = (build.one_hot(build.position(columns[d], axis=False), d) for d in columns)
    matrix = _found(term.read).on(mul(*units))
    if semiring != "real":
        return where_set(matrix, weight, semiring)
    summed = [d for d in matrix.type.dims if d in term.over]
    result = mul(weight, matrix)
    return build.reduce("sum", result, summed) if summed else result


def where_set(matrix: ir.Node, weight: ir.Node, semiring: Semiring) -> ir.Node:
    """`weight` where a matrix of zeros and ones is 1, the semiring's zero elsewhere."""
    here = build.map_("ne", matrix, build.const(0))
    zero = {"boolean": False, "real": 0.0, "min_plus": float("inf")}.get(
        semiring, float("-inf")
    )
    dims = tuple(dict.fromkeys((*weight.type.dims, *here.type.dims)))
    return build.map_("where", here, shaped(weight, dims), build.const(zero))


def _plain(read: ir.Node) -> bool:
    """Whether a read is the state itself, at most under other names."""
    while isinstance(read, ir.Rename):
        read = read.arg
    return isinstance(read, ir.Shift)


def _found(read: ir.Node) -> Reindexed:
    found = reindexed(read)
    assert found is not None
    return found


def _is_moved(found: Reindexed, dim: str) -> bool:
    """Whether a dim of the state goes through more than other names."""
    here = {dim}
    for move in found.moves:
        touched = here & set(move_ends(move)[0])
        if touched and not isinstance(move, ir.Rename):
            return True
        here = after(move, here)
    return False
