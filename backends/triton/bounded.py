"""Whether the logarithm of a decay has a derivative that stays bounded."""

from __future__ import annotations

from collections.abc import Iterable

from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.schedule.forms import Products
from seqdsl.schedule.plan import Parallel, Plan, walk


def bounded(plans: Iterable[Plan]) -> bool:
    """Whether all decays of matrix states are such.

    Kernels find the gradient of log a; that of a itself is this over a, which is lost
    where a is 0 unless what made a has a derivative that is as small as a.
    """
    return all(
        bounded_log(plan.model, decay.coefficient)
        for plan in plans
        for step in walk(plan.steps)
        if isinstance(step, Parallel) and isinstance(step.form, Products)
        for decay in step.form.decays
    )


def bounded_log(model: ir.Model, node: ir.Node) -> bool:
    """Whether d log(node) is bounded by a constant times the change of its inputs.

    `exp`, `sigmoid` and positive constants are such, and products of such.
    """
    match node:
        case ir.Const(value=Lit(float() | int() as value)):
            return value > 0
        case ir.Map(op="exp" | "sigmoid"):
            return True
        case ir.Map(op="mul", args=args) | ir.Contract(args=args, over=()):
            return all(bounded_log(model, arg) for arg in args)
        case ir.Ref(name=name) if name in model.equation and name not in model.state:
            return bounded_log(model, model.equation[name].expr)
        case ir.Rename(arg=arg) | ir.Split(arg=arg) | ir.Merge(arg=arg):
            return bounded_log(model, arg)
        case _:
            return False
