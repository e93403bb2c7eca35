"""What a derivative goes through: the values that depend on a variable at its step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import Type
from seqdsl.ir.values import type_of
from seqdsl.ir.walk import children, references

Lookup = Callable[[str], ir.Node | None]
"""The expression of the equation of a name, None for inputs and parameters."""


class Active:
    """Which nodes depend on `wrt` at the same index of every axis."""

    def __init__(self, model: ir.Model, wrt: ir.Node, lookup: Lookup) -> None:
        self.model = model
        self.wrt = wrt
        self.lookup = lookup
        self._names: dict[str, bool] = {}
        # Nodes are kept beside their answer so that an id is never used again.
        self._nodes: dict[int, tuple[ir.Node, bool]] = {}
        self._through: set[str] = set()

    def __call__(self, node: ir.Node) -> bool:
        """Whether `node` changes with `wrt`."""
        if id(node) not in self._nodes:
            self._nodes[id(node)] = (node, self._depends(node))
        return self._nodes[id(node)][1]

    def _depends(self, node: ir.Node) -> bool:
        match node:
            case _ if node == self.wrt:
                return True
            case ir.Ref(name=name):
                return self.of_name(name)
            case ir.Result(call=call):
                return self._of_call(call)
            case ir.Shift() | ir.Copy():
                return False
            case ir.At(arg=arg) | ir.Stack(arg=arg):
                self._refuse_loop(arg)
                return False
            case _:
                return max(map(self, children(node)), default=False)

    def _of_call(self, call: str) -> bool:
        found = max((self(a) for _, a in self.model.call[call].args), default=False)
        if found:
            self._through.add(call)
        return found

    def of_name(self, name: str) -> bool:
        """Whether the value called `name` changes with `wrt`."""
        if name not in self._names:
            expr = self.lookup(name)
            self._names[name] = expr is not None and self(expr)
        return self._names[name]

    def calls(self, of: ir.Node) -> set[str]:
        """The sub-layer calls between `wrt` and `of`."""
        self(of)
        return self._through

    def _refuse_loop(self, arg: ir.Ref | ir.Result) -> None:
        """A loop over another axis cannot be differentiated within one of its steps."""
        if any(node == self.wrt for node in _upstream(self.model, arg)):
            raise build.Issue(
                "E0315",
                "`grad` cannot go through a `repeat`",
                "write its steps out, or take the gradient inside it",
            )


def _upstream(model: ir.Model, start: ir.Node) -> Iterator[ir.Node]:
    """All that a value is computed from along every axis but time."""
    seen: set[str] = set()
    stack = [start]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(children(node))
        match node:
            case ir.Ref(name=name) if name in model.equation and name not in seen:
                seen.add(name)
                stack.append(model.equation[name].expr)
                if name in model.state:
                    stack.append(model.state[name].initial)
            case ir.Result(call=call) if call not in seen:
                seen.add(call)
                stack.extend(a for _, a in model.call[call].args)
            case _:
                pass


def smooth(type_: Type) -> bool:
    """Whether values of a type have gradients."""
    return type_.dtype in ("float", "complex")


def differentiable(model: ir.Model) -> list[str]:
    """Inputs and learned parameters that have gradients."""
    names = [i.name for i in model.inputs if smooth(i.type)]
    return names + [p.name for p in model.params if smooth(p.type) and not p.frozen]


def influenced(model: ir.Model, wanted: Collection[str]) -> frozenset[str]:
    """Float and complex values that depend on something `wanted`, along any axis."""
    readers: dict[str, list[str]] = {}
    for equation in model.equations:
        exprs = [equation.expr]
        if equation.name in model.state:
            exprs.append(model.state[equation.name].initial)
        for expr in exprs:
            for read in references(expr):
                if isinstance(read, ir.Ref):
                    readers.setdefault(read.name, []).append(equation.name)
    active: set[str] = set()
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name not in active and smooth(type_of(model, name)):
            active.add(name)
            todo.extend(readers.get(name, ()))
    return frozenset(active)
