"""Values that cannot be negative, by the way they are made."""

from __future__ import annotations

from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit

_FUNCTIONS = ("exp", "sigmoid", "softplus", "square", "abs", "relu", "sqrt", "cosh")


def positive(model: ir.Model, node: ir.Node) -> bool:
    """Whether `node` is known to be at least 0 wherever it is a number."""
    match node:
        case ir.Const(value=Lit(value)):
            return isinstance(value, int | float) and value >= 0
        case ir.Ref(name=name) if name in model.equation:
            return positive(model, model.equation[name].expr)
        case ir.Map(op=op) if op in _FUNCTIONS:
            return True
        case ir.Map(op="add" | "mul" | "div" | "min", args=args):
            return all(positive(model, a) for a in args)
        case ir.Map(op="max", args=args):
            return any(positive(model, a) for a in args)
        case ir.Map(op="where", args=(_, a, b)):
            return positive(model, a) and positive(model, b)
        case ir.Map(op="sub", args=(a, b)):
            return _is_one(a) and _at_most_one(model, b)
        case ir.Reduce(op="sum" | "mean" | "max" | "min" | "prod", arg=arg):
            return positive(model, arg)
        case ir.Along(op="softmax"):
            return True
        case ir.Contract(args=args):
            return all(positive(model, a) for a in args)
        case ir.Rename(arg=arg) | ir.Split(arg=arg) | ir.Merge(arg=arg):
            return positive(model, arg)
        case _:
            return False


def _is_one(node: ir.Node) -> bool:
    return isinstance(node, ir.Const) and node.value in (Lit(1), Lit(1.0))


def _at_most_one(model: ir.Model, node: ir.Node) -> bool:
    match node:
        case ir.Ref(name=name) if name in model.equation:
            return _at_most_one(model, model.equation[name].expr)
        case ir.Map(op="sigmoid" | "tanh"):
            return True
        case ir.Along(op="softmax"):
            return True
        case _:
            return False
