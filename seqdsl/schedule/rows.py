"""States along a copy of time: `state u: [K] = k[s]` has a row for every step `s`.

Such a layer streams where the row of a step is still at its initial value when that step
comes, so that rows can be added one by one. That is proved by simplifying the update
under the assumption that the step of the row has yet to come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from seqdsl.analysis.visibility import KEEPS_ZERO, holds
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import TIME

Known = Literal["before", "zero", "one", "least", "unknown"]
"""What an expression is: the state a step earlier, a number (`least` is -inf), or else."""


def copies_of(model: ir.Model, name: str) -> tuple[str, ...]:
    """Copies of time along which the state `name` varies, in order."""
    state = model.state[name]
    axes = model.equation[name].expr.type.axes | state.type.axes
    axes |= state.initial.type.axes
    return tuple(c for c in model.copies if c in axes)


def still_initial(model: ir.Model, name: str, copy: str) -> bool:
    """Whether rows of `name` are proved to stay at their initial value before their step."""
    update = model.equation[name].expr
    return _Early(model, name, copy).known(update) == "before"


@dataclass(frozen=True)
class _Early:
    """Simplifies where `copy > t`, for finite numbers."""

    model: ir.Model
    name: str
    copy: str

    def known(self, node: ir.Node) -> Known:
        if node.type.dtype == "bool":
            return self._truth(node)
        match node:
            case ir.Shift(arg=ir.Ref(name=self.name), axis=axis, offset=-1) if (
                axis == TIME
            ):
                return "before"
            case ir.Const(value=Lit(value)):
                return _number(value)
            case ir.Ref(name=name) if self._equation(name) is not None:
                return self.known(self.model.equation[name].expr)
            case ir.Map(op="where", args=(condition, a, b)):
                return self._where(condition, a, b)
            case ir.Map(op=op, args=args):
                return _pointwise(op, [self.known(a) for a in args])
            case ir.Contract(args=args, over=over):
                found = _product([self.known(a) for a in args])
                return found if found == "zero" or not over else "unknown"
            case ir.Rename(arg=arg) | ir.Split(arg=arg) | ir.Merge(arg=arg):
                found = self.known(arg)
                return "unknown" if found == "before" else found
            case _:
                return "unknown"

    def _equation(self, name: str) -> ir.Equation | None:
        return None if name in self.model.state else self.model.equation.get(name)

    def _where(self, condition: ir.Node, a: ir.Node, b: ir.Node) -> Known:
        match self._truth(condition):
            case "zero":
                return self.known(b)
            case "one":
                return self.known(a)
            case _:
                one, two = self.known(a), self.known(b)
                return one if one == two else "unknown"

    def _truth(self, node: ir.Node) -> Known:
        if self._never(node):
            return "zero"
        return "one" if self._always(node) else "unknown"

    def _never(self, node: ir.Node) -> bool:
        match node:
            case ir.Map(op="not", args=(arg,)):
                return self._always(arg)
            case ir.Map(op="and", args=args):
                return any(map(self._never, args))
            case ir.Map(op="or", args=args):
                return all(map(self._never, args))
            case _:
                bounds = holds(self.model, node, self.copy)
                return bounds.least is not None and bounds.least >= 0

    def _always(self, node: ir.Node) -> bool:
        match node:
            case ir.Ref(name=name) if self._equation(name) is not None:
                return self._always(self.model.equation[name].expr)
            case ir.Map(op="not", args=(arg,)):
                return self._never(arg)
            case ir.Map(op="and", args=args):
                return all(map(self._always, args))
            case ir.Map(op="or", args=args):
                return any(map(self._always, args))
            case ir.Map(op=op, args=args) if op in _OPPOSITE:
                return self._never(replace(node, op=_OPPOSITE[op]))
            case _:
                return False


_OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "ne": "eq"}


def _number(value: object) -> Known:
    match value:
        case 0:
            return "zero"
        case 1:
            return "one"
        case float() if value == -float("inf"):
            return "least"
        case _:
            return "unknown"


def _product(args: list[Known]) -> Known:
    if "zero" in args:
        return "zero"
    rest: list[Known] = [a for a in args if a != "one"]
    if not rest:
        return "one"
    return rest[0] if len(rest) == 1 else "unknown"


def _pointwise(op: str, args: list[Known]) -> Known:
    match op, args:
        case ("mul", _):
            return _product(args)
        case ("add", ["zero", _]) | ("max" | "logaddexp", ["least", _]):
            return args[1]
        case ("add" | "sub", [_, "zero"]) | ("max" | "logaddexp", [_, "least"]):
            return args[0]
        case ("div", [_, "one"]):
            return args[0]
        case ("exp", ["zero"]) | ("cos", ["zero"]):
            return "one"
        case ("exp", ["least"]):
            return "zero"
        case ("div", ["zero", _]):
            return "zero"
        case ("float" | "stopgrad", ["zero" | "one" | "least"]):
            return args[0]
        case (_, ["zero"]) if op in KEEPS_ZERO:
            return "zero"
        case _:
            return "unknown"
