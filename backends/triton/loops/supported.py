"""What a kernel of a whole loop has a form of."""

from __future__ import annotations

from seqdsl.backends.torch.names import identifier
from seqdsl.backends.triton.loops.extents import dims_of
from seqdsl.backends.triton.loops.pointwise import REDUCTIONS, TEXTS, WHOLE
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.region import Region


def allowed(node: ir.Node) -> bool:
    """Whether a kernel has a form of `node`, its operands aside."""
    if node.type.dtype == "complex":
        return False
    match node:
        case ir.Ref():
            return True
        case ir.Const(value=value):
            return not (isinstance(value, Lit) and isinstance(value.value, str))
        case ir.Map(op=op):
            return op in TEXTS and (op not in WHOLE or node.type.dtype == "float")
        case ir.Along(op="softmax" | "log_softmax", over=over, where=where):
            return where is None and not {TIME, BATCH} & set(over)
        case ir.Reduce(op=op, over=over, where=where):
            return op in REDUCTIONS and where is None and not {TIME, BATCH} & set(over)
        case ir.Contract(over=over):
            return not {TIME, BATCH} & set(over)
        case ir.Rename():
            return True
        case ir.Shift(arg=arg, axis=axis):
            return isinstance(arg, ir.Ref) and axis == TIME
        case _:
            return False


def supported(region: Region) -> bool:
    """Whether there is a kernel for `region`."""
    model = region.model
    kinds = [s.type.dtype for s in model.states]
    kinds += [o.expr.type.dtype for o in model.outputs]
    plain = all(identifier(d) == d for d in dims_of(region))
    return not region.replay and plain and set(kinds) <= {"float"}
