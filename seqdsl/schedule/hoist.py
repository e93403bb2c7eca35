"""Takes out of a loop along time whatever does not depend on what the loop carries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, subtree, with_children
from seqdsl.schedule.dependence import names_in
from seqdsl.schedule.forms import Pieces, computed, with_nodes
from seqdsl.schedule.plan import (
    Assign,
    Call,
    DepthLoop,
    Parallel,
    Step,
    TimeLoop,
    defined,
)

_POINTWISE = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
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
        "stopgrad",
        "min",
        "max",
    ]
)


def hoist(steps: tuple[Step, ...], taken: frozenset[str]) -> tuple[Step, ...]:
    """`steps` with the state-free work of every time loop computed before it.

    `taken` are names that temporaries must not have. Cheap pointwise arithmetic on
    values that stand outside anyway stays where it was written.
    """
    used = set(taken)

    def outside(step: Step) -> Step:
        match step:
            case TimeLoop():
                return _hoist_loop(step, used)
            case DepthLoop(body=body):
                return replace(step, body=tuple(outside(s) for s in body))
            case Parallel(form=Pieces() as form):
                return _hoist_pieces(step, form, used)
            case Parallel(loop=loop):
                return replace(step, loop=_hoist_loop(loop, used))
            case Assign() | Call():
                return step

    return tuple(outside(step) for step in steps)


def _hoist_loop(loop: TimeLoop, used: set[str]) -> TimeLoop:
    hoister = _Hoister(frozenset(defined(loop.body)), used)
    body = tuple(hoister.step(step) for step in loop.body)
    return replace(loop, hoisted=tuple(hoister.found.values()), body=body)


def _hoist_pieces(step: Parallel, form: Pieces, used: set[str]) -> Parallel:
    """The same for what goes from border to border, all of which sees some steps only."""
    loop = step.loop
    inside = {*defined(loop.body), *computed(form), *(e.name for e in form.between)}
    hoister = _Hoister(frozenset(inside), used)
    body = tuple(hoister.step(s) for s in loop.body)
    equation = next(s.equation for s in loop.body if isinstance(s, Assign))
    borders = form.borders
    made = with_nodes(replace(form, borders=()), lambda n: hoister.take(n, equation))
    assert isinstance(made, Pieces)
    loop = replace(loop, hoisted=tuple(hoister.found.values()), body=body)
    return Parallel(loop=loop, form=replace(made, borders=borders))


@dataclass
class _Hoister:
    """Collects the temporaries of one loop; `inside` are the names that it computes."""

    inside: frozenset[str]
    used: set[str]
    axes: tuple[str, ...] = ()
    found: dict[ir.Node, ir.Equation] = field(
        default_factory=dict[ir.Node, ir.Equation]
    )

    def step(self, step: Step) -> Step:
        """`step` over the temporaries."""
        match step:
            case Assign(equation=equation):
                expr = self.take(equation.expr, equation)
                return Assign(equation=replace(equation, expr=expr))
            case DepthLoop(repeat=repeat, body=body):
                outer, self.axes = self.axes, (*self.axes, repeat.axis)
                body = tuple(self.step(s) for s in body)
                self.axes = outer
                return replace(step, body=body)
            case Call() | TimeLoop() | Parallel():
                return step

    def take(self, node: ir.Node, equation: ir.Equation) -> ir.Node:
        """`node` with its largest state-free parts replaced by names."""
        if self._free(node):
            if not any(_works(sub) for sub in subtree(node)):
                return node
            return self._named(node, equation)
        if isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy):
            return node
        old = children(node)
        new = tuple(self.take(child, equation) for child in old)
        same = all(a is b for a, b in zip(old, new, strict=True))
        return node if same else with_children(node, new)

    def _free(self, node: ir.Node) -> bool:
        inner = any(axis in node.type.axes for axis in self.axes)
        return not inner and not (names_in(node) & self.inside)

    def _named(self, node: ir.Node, equation: ir.Equation) -> ir.Node:
        if node not in self.found:
            name = _fresh(_name(node, equation), lambda n: n in self.used)
            self.used.add(name)
            scope = equation.scope[: len(equation.scope) - len(self.axes)]
            self.found[node] = ir.Equation(
                name=name, expr=node, scope=scope, written=False, span=node.span
            )
        return build.ref(self.found[node].name, node.type, node.span)


def _works(node: ir.Node) -> bool:
    """Whether doing `node` once for all steps is worth a name (or the only way)."""
    match node:
        case ir.Map(op=op):
            return op not in _POINTWISE
        case ir.Const() | ir.Ref() | ir.Result() | ir.Training() | ir.Rename():
            return False
        case ir.Position(along=along):
            return along == TIME
        case ir.Shift(axis=axis):
            return axis == TIME
        case _:
            return True


def _name(node: ir.Node, equation: ir.Equation) -> str:
    """`r_x` for what `r` takes from `x`."""
    if isinstance(node, ir.Position):
        return node.along
    varying = [
        sub.name for sub in subtree(node) if isinstance(sub, ir.Ref) and sub.type.varies
    ]
    names = list(dict.fromkeys(varying))
    return f"{equation.name}_{names[0] if len(names) == 1 else 'in'}"


def _fresh(name: str, taken: Callable[[str], bool]) -> str:
    """`name`, or `name_2`, … where it is taken."""
    number = 1
    result = name
    while taken(result):
        number += 1
        result = f"{name}_{number}"
    return result
