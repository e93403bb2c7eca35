"""Constructors of IR nodes: they compute types and refuse what does not fit.

Every stage that makes nodes (elaborate, rewrite, differentiate) makes them here, so a
node that exists is well typed. Refusals are `Issue`s: a code and facts, to which the
elaborator adds the place.
"""

from __future__ import annotations

from seqdsl.ir.combine import (
    Issue,
    along,
    at_span,
    const,
    contract,
    map_,
    merge_dims_in_order,
    position,
    reduce,
    ref,
)
from seqdsl.ir.reindex import (
    at,
    concat,
    conv,
    copy,
    gather,
    grad,
    merge,
    one_hot,
    rename,
    roll,
    shift,
    slice_dim,
    split,
    stack,
)

__all__ = [
    "Issue",
    "along",
    "at",
    "at_span",
    "concat",
    "const",
    "contract",
    "conv",
    "copy",
    "gather",
    "grad",
    "map_",
    "merge",
    "merge_dims_in_order",
    "one_hot",
    "position",
    "reduce",
    "ref",
    "rename",
    "roll",
    "shift",
    "slice_dim",
    "split",
    "stack",
]
