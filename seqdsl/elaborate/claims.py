"""Calls of monoids and the equations around them: which states move by which monoid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seqdsl.diagnostics import Label
from seqdsl.elaborate.context import Context, MonoidUse
from seqdsl.elaborate.scope import Value
from seqdsl.ir import nodes as ir
from seqdsl.syntax import ast


def claim(ctx: Context, statement: ast.Equation, targets: Sequence[Value]) -> None:
    """Note that the call in `statement` is the update of `targets`; E0414 where it is not."""
    use = ctx.uses.pop(id(statement.value), None)
    if use is None:
        return
    reads = [n for n in use.before if isinstance(n, ir.Shift)]
    names = [n.arg.name for n in reads if isinstance(n.arg, ir.Ref)]
    steps = {(n.axis, n.offset) for n in reads}
    states = [v.name for v in targets if v.kind == "state"]
    ((axis, offset), *more) = steps or {("", 0)}
    if len(states) < len(targets) or names != states or more or abs(offset) != 1:
        raise _refused(ctx, use)
    ctx.monoids.append(
        replace(use.claim, states=tuple(states), axis=axis, offset=offset)
    )


def unclaimed(ctx: Context) -> None:
    """E0414 for calls that stand inside of something else, in what is right so far."""
    if any(d.is_error for d in ctx.diagnostics):
        return
    for use in ctx.uses.values():
        with ctx.recover():
            raise _refused(ctx, use)


def _refused(ctx: Context, use: MonoidUse) -> Exception:
    count = len(use.before)
    names = ", ".join(f"h{i + 1}" if count > 1 else "h" for i in range(count))
    reads = names.replace(",", "[t-1],") + "[t-1]"
    return ctx.fail(
        "E0414",
        f"a step of `{use.claim.name}` is not the whole update of its states",
        use.span,
        f"write `{names} = {use.claim.name}({reads}, …)` with states on the left, "
        "in the same order on both sides",
        "what else happens to them, do to the fields of the step or in an equation of its own",
        labels=(Label(use.claim.span, "declared here"),),
    )
