"""Functions of the torch backend whose calls are put to kernels, as text."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import indent

SCAN = '''\
def _scanned(a: Tensor, b: Tensor, first: Tensor, reverse: bool) -> Tensor:
    """`_scanned_by_torch`, as kernels on a GPU."""
    if scan_fits(a, b, first):
        return scan_fused(a, b, first, reverse)
    return _scanned_by_torch(a, b, first, reverse)'''

SCAN_IN = '''\
def _scanned_in(
    semiring: str, a: Tensor, b: Tensor, first: Tensor, reverse: bool
) -> Tensor:
    """`_scanned_in_by_torch`, as kernels on a GPU."""
    if scan_fits(a, b, first):
        return scan_fused(a, b, first, reverse, semiring)
    return _scanned_in_by_torch(semiring, a, b, first, reverse)'''

PASSED = '''\
def _chunk_by_chunk(
    made: _Made, state: Tensor, fresh: _Fresh | None, states: int, plain: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """`_chunk_by_chunk_by_torch`, as one kernel on a GPU."""
    traced = torch.compiler.is_compiling()  # else `plain` is for gradients of gradients
    if plain and not traced or not passes_fit(state):
        return _chunk_by_chunk_by_torch(made, state, fresh, states, plain)
    seen, count = made.met.seen, len(made.met.seen.writers[0]) // len(state)
    added = None if made.value is None else seen.writers[-1].mT @ made.value
    into = None if made.pulled is None else seen.writers[0].mT
    begun = None if fresh is None else fresh.added
    return chunks_passed(
        state, seen.total, added, made.known, made.pulled, into, begun, states, count
    )'''

PULLED = '''\
def _states_back(
    made: _Made, before: Tensor, values: list[Tensor], d_state: Tensor, states: int
) -> tuple[Tensor, Tensor]:
    """`_states_back_by_torch`, as one kernel on a GPU."""
    if not passes_fit(d_state):
        return _states_back_by_torch(made, before, values, d_state, states)
    seen, erasing = made.met.seen, made.pulled is not None
    wrote, writers = (values[0], seen.writers[0]) if erasing else (None, None)
    after, found, first = chunks_pulled(
        d_state, seen.total, before, wrote, made.pulled, writers, states
    )
    if found is not None:
        values[0] = found
    return after, first'''

_CHUNKS = '''\
def _chunkwise(
    decay: Tensor | None,
    right: Tensor | None,
    into: Tensor | None,
    known: Tensor | None,
    left: Tensor | None,
    value: Tensor | None,
    old: Tensor | None,
    new: Tensor | None,
    first: Tensor,
    initial: Tensor | None,
    starts: Tensor | None,
    time: int,
    size: int,
    states: int = 1,
    reverse: bool = False,
    minus: bool = False,
) -> tuple[Tensor, Tensor]:
    """`_chunkwise_by_torch`, as kernels on a GPU where these can do it."""
    right = -right if minus and right is not None else right
    fresh = None if starts is None else initial
    if into is not None and known is None:
        known = first.new_zeros(1).expand(*into.shape[:4], first.shape[-1])
    lefts, values, query = beside(into, left), beside(known, value), beside(old, new)
    now = 0 if new is None else new.shape[3]
    if (
        lefts is not None
        and values is not None
        and chunks_fit(decay, right, lefts, values, query, fresh, states, bounded={bounded})
    ):
{calls}
    return _chunkwise_by_torch(
        decay, right, into, known, left, value, old, new, first, initial, starts,
        time, size, states, reverse,
    )'''
_OUTER = """\
return outer_fused(
    decay, lefts, values, query, first, starts, time, now, reverse
)"""
_DELTA = """\
return delta_fused(
    decay, right, lefts, values, query, first, starts, time, now, reverse, own={own}
)"""


@dataclass(frozen=True)
class Chunks:
    """Matrix states of a layer: whether any write erases, and whether any does not.

    `own`: what erases also writes a value of its own. `bounded`: log decays are.
    `coupled`: several states of a recurrence go by chunks together.
    """

    erasing: bool
    plain: bool
    own: bool
    bounded: bool
    coupled: bool

    def text(self) -> str:
        """The function that puts them to kernels."""
        delta = _DELTA.format(own=self.own)
        if self.erasing and self.plain:
            delta = f"if right is not None:\n{indent(delta, ' ' * 4)}"
        calls = [delta] * self.erasing + [_OUTER] * self.plain
        shown = indent("\n".join(calls), " " * 8)
        return _CHUNKS.format(bounded=self.bounded, calls=shown)

    def wanted(self) -> set[str]:
        """Functions that the text calls."""
        ways = ["delta_fused"] * self.erasing + ["outer_fused"] * self.plain
        return {"beside", "chunks_fit", *ways}
