"""What has a part for every step of the loops along depth, made outside of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.parameters import holders_of, path
from seqdsl.backends.torch.python import Atom, Each, Expr, list_of, one_line
from seqdsl.backends.torch.values import Value
from seqdsl.ir import nodes as ir


def each_step(m: Method, axes: Sequence[str], make: Callable[[], Expr]) -> Expr:
    """Lists in lists: what `make` gives for every step of the loops along `axes`.

    Those of a loop that is counted at run time are empty: they grow when it runs.
    """
    if not axes:
        return make()
    count = m.model.repeat[axes[0]].count
    if isinstance(count, ir.Base):
        return list_of([])
    value, step, lists = at_step(m, axes[0], lambda: each_step(m, axes[1:], make))
    used = {where: name for where, name in lists.items() if mentions(value, name)}
    targets = ", ".join(used.values())
    over = next(iter(used)) if len(used) == 1 else f"zip({', '.join(used)})"
    if not mentions(value, step) and used:
        return Each(value, f"for {targets} in {over}")
    if used:
        targets = f"({targets})" if len(used) > 1 else targets
        return Each(value, f"for {step}, {targets} in enumerate({over}, start=1)")
    counted = one_line(m.whole(count))
    if not mentions(value, step):
        return Each(value, f"for _ in range({counted})")
    return Each(value, f"for {step} in range(1, {counted} + 1)")


def at_step(
    m: Method, axis: str, make: Callable[[], Expr]
) -> tuple[Expr, str, dict[str, str]]:
    """`make` within a step of `axis`: the step's name, and lists of modules with the
    names that stand for their entries.
    """
    holders = holders_of(m, axis)
    lists = {path(m, prefix): name for prefix, name in holders.items()}
    step = m.names.new(axis)
    before = (m.steps, m.holders, m.env)
    m.steps, m.holders = {**m.steps, axis: step}, {**m.holders, **holders}
    position = Value(Atom(step), (), "int", scalar=True)
    m.env = {**m.env, ("position", axis): position}
    value = make()
    m.steps, m.holders, m.env = before
    return value, step, lists


def mentions(value: Expr, name: str) -> bool:
    """Whether the code of `value` reads `name`."""
    return re.search(rf"\b{re.escape(name)}\b", one_line(value)) is not None
