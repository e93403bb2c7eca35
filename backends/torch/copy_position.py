"""Where a step of a copy of time stands."""

from __future__ import annotations

from seqdsl.backends.torch.python import Atom
from seqdsl.backends.torch.values import Value
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH
from seqdsl.ir.walk import subtree


def copy_position(model: ir.Model, copy: str, at: Atom) -> Value:
    """The positions of a copy of time, which are -1 in segments that have ended.

    Nothing sees those steps; where something is looked up by position they take the first entry.
    """
    expressions = (x.expr for x in (*model.equations, *model.outputs))
    indices = [
        n.index for e in expressions for n in subtree(e) if isinstance(n, ir.Gather)
    ]
    if any(copy in i.type.axes for i in indices):
        at = Atom(f"{at.text}.clamp(min=0)")
    return Value(at, (BATCH, copy), "int")
