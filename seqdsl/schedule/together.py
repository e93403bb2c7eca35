"""Loops along time that are one recurrence, though each could run alone.

A declared monoid composes its states together. Where one of them does not read the others,
they have loops of their own, and a form for all of them needs these loops as one.
"""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.schedule.plan import Assign, Step, TimeLoop, defined
from seqdsl.schedule.step_reads import reads_of


def together(steps: Sequence[Step], members: frozenset[str]) -> list[Step] | None:
    """`steps` with all that computes `members` in one loop; None where there is no need.

    What stands between, and reads some of them, comes after it.
    """
    own = [s for s in steps if set(defined((s,))) <= members]
    loops = [s for s in own if isinstance(s, TimeLoop)]
    plain = all(isinstance(b, Assign) for loop in loops for b in loop.body)
    plain = plain and all(isinstance(s, Assign | TimeLoop) for s in own)
    ways = {loop.direction for loop in loops}
    if (
        len(loops) < 2
        or not plain
        or len(ways) > 1
        or frozenset(defined(tuple(own))) != members
    ):
        return None
    body = [b for s in own for b in (s.body if isinstance(s, TimeLoop) else (s,))]
    whole = TimeLoop(
        direction=loops[0].direction,
        carried=tuple(name for loop in loops for name in loop.carried),
        hoisted=(),
        body=tuple(body),
    )
    known = set(members)
    before: list[Step] = []
    after: list[Step] = []
    for step in steps:
        if any(step is s for s in own):
            continue
        late = bool(reads_of(step) & known)
        (after if late else before).append(step)
        known |= set(defined((step,))) if late else set[str]()
    return [*before, whole, *after] if not reads_of(whole) & known else None
