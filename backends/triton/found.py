"""What there is to know of the matrix states of a layer before kernels are put together."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.backends.triton.calls import Chunks
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.schedule.forms import Products
from seqdsl.schedule.plan import Parallel, Plan, walk


def chunks_of(plans: Sequence[Plan]) -> Chunks:
    """The matrix states that `plans` run by chunks and kernels can, all together.

    Of several coupled states only the way from chunk to chunk is a kernel.
    """
    every = [
        (plan.model, step.form)
        for plan in plans
        for step in walk(plan.steps)
        if isinstance(step, Parallel) and isinstance(step.form, Products)
    ]
    found = [(model, form) for model, form in every if len(form.states) == 1]
    erasing = [w for _, form in found for w in form.writes if w.right]
    return Chunks(
        erasing=bool(erasing),
        plain=any(not any(w.right for w in form.writes) for _, form in found),
        own=any(w.value is not None for w in erasing),
        coupled=len(found) < len(every),
        bounded=all(
            bounded_log(model, decay.coefficient)
            for model, form in found
            for decay in form.decays
        ),
    )


def bounded_log(model: ir.Model, node: ir.Node) -> bool:
    """Whether d log(node) is bounded by a constant times the change of its inputs.

    Kernels find the gradient of log a; that of a itself is this over a, which is lost
    where a is 0 unless what made a has a derivative that is as small as a.

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
