"""What a kernel has a form of, as a table."""

from __future__ import annotations

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import children
from seqdsl.rewrite.real_parts import parted
from seqdsl.schedule.lookups import computed

MAPS = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "floordiv",
        "mod",
        "pow",
        "neg",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "and",
        "or",
        "not",
        "where",
        "exp",
        "log",
        "log1p",
        "expm1",
        "sqrt",
        "rsqrt",
        "square",
        "sin",
        "cos",
        "tan",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "atanh",
        "sigmoid",
        "logsigmoid",
        "softplus",
        "silu",
        "gelu",
        "relu",
        "erf",
        "sign",
        "floor",
        "ceil",
        "round",
        "abs",
        "min",
        "max",
        "logaddexp",
        "atan2",
        "float",
        "int",
        "bool",
        "stopgrad",
    ]
)
"""Pointwise operators that kernels compute."""

REDUCTIONS = frozenset(["sum", "mean", "prod", "max", "min", "logsumexp", "any", "all"])
ALONGS = frozenset(["softmax", "log_softmax"])


def allowed(node: ir.Node) -> bool:
    """Whether a kernel has a form of `node`, its operands aside."""
    wide = any(c.type.dtype == "complex" for c in children(node))
    if wide or node.type.dtype == "complex":
        return parted(node) and (isinstance(node, ir.Map) or _fits(node))
    return _fits(node)


def _fits(node: ir.Node) -> bool:
    match node:
        case ir.Const() | ir.Ref():
            return True
        case ir.Position(along=along):
            return along in node.type.dims
        case ir.Map(op=op):
            return op in MAPS
        case ir.Reduce(op=op, over=over, where=where):
            dims = not {TIME, BATCH} & set(over)
            return op in REDUCTIONS and where is None and dims
        case ir.Along(op=op, where=where):
            return op in ALONGS and where is None
        case ir.Contract(over=over):
            return not {TIME, BATCH} & set(over)
        case ir.Rename() | ir.Split() | ir.Merge() | ir.SliceDim():
            return True
        case ir.Shift(arg=arg, axis=axis):
            return isinstance(arg, ir.Ref) and axis == TIME
        case ir.Gather():
            return computed(node)
        case _:
            return False
