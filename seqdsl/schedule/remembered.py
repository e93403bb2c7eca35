"""Which steps of its past a stream must remember for copies of time."""

from __future__ import annotations

from seqdsl.analysis.visibility import reach_of_copies
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size, apply


def remembered(model: ir.Model) -> tuple[Size, tuple[ir.Node, ...]] | None:
    """Which steps of its past a stream needs, where those are not just the last ones.

    Those of a window that ends at the next step, and where one of the conditions holds.
    None: all of them, or a window alone.
    """
    reaches = reach_of_copies(model)
    window: Size = Lit(1)
    found: list[ir.Node] = []
    for reach in reaches.values():
        if reach.window is not None and reach.window != Lit(float("inf")):
            window = apply("max", window, reach.window)
        elif reach.later is None:
            return None
        else:
            found.append(reach.later)
    return (window, tuple(found)) if found else None
