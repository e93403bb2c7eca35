"""Along which axes a state varies, found before its equations are elaborated.

A state's own type is needed to elaborate the equation that defines it, so its axes
come from what its update and initial value read, as written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from seqdsl.elaborate.order import names_in, read_order
from seqdsl.ir.types import BATCH, TIME
from seqdsl.syntax import ast

Axes = frozenset[str]
_BOTH: Axes = frozenset({BATCH, TIME})
_RANDOM = ("normal", "uniform", "dropout")
_REDUCING = (
    "sum",
    "mean",
    "prod",
    "max",
    "min",
    "any",
    "all",
    "logsumexp",
    "argmax",
    "argmin",
    "dot",
)


@dataclass
class Reads:
    """What each name of a layer is made of, and its axes as far as they are known.

    `own` gives the axes along which what a function gives back varies by itself.
    `copies` are those of time; what is no `operator` is taken to sum them away, as a def
    for attention does.
    """

    expressions: Mapping[str, tuple[ast.Expr, ...]]
    axes: dict[str, Axes] = field(default_factory=dict[str, Axes])
    repeats: Axes = frozenset()
    own: Callable[[str], Axes] = lambda _: _BOTH
    copies: Axes = frozenset()
    operator: Callable[[str], bool] = lambda _: True

    def settle(self) -> None:
        """Grow the axes of all names until nothing changes."""
        # What is read comes first, so that only circles need another round.
        order = read_order({n: names_in(e) for n, e in self.expressions.items()})
        changed = True
        while changed:
            changed = False
            for name in order:
                exprs = self.expressions[name]
                found = self.axes.get(name, Axes()).union(*map(self.of, exprs))
                if found != self.axes.get(name):
                    self.axes[name] = found
                    changed = True

    def of(self, expr: object) -> Axes:
        """Axes along which an expression varies."""
        match expr:
            case ast.Name(id=name):
                if name == TIME or name in self.repeats or name in self.copies:
                    return Axes({name})
                return self.axes.get(name, Axes())
            case ast.Index():
                return self._index(expr)
            case ast.Call():
                return self._call(expr)
            case ast.Ast():
                fields = (getattr(expr, f) for f in expr.__dataclass_fields__)
                return self._union(fields)
            case tuple():
                return self._union(expr)  # pyright: ignore[reportUnknownArgumentType]
            case _:
                return Axes()

    def _union(self, parts: object) -> Axes:
        return Axes().union(*(self.of(p) for p in parts))  # pyright: ignore

    def _index(self, expr: ast.Index) -> Axes:
        axes = self.of(expr.value)
        for item in expr.items:
            if item.axis is not None:
                axes -= {item.axis}
                axes |= self.of(item.expr)
            elif isinstance(item.expr, ast.Name) and item.expr.id != TIME:
                axes = axes - {TIME} | {item.expr.id} & self.copies
            elif isinstance(item.expr, ast.Binary):
                left = item.expr.left
                if isinstance(left, ast.Name):
                    axes |= _BOTH if left.id == TIME else {left.id}
        return axes

    def _given_back(self, name: str) -> Axes:
        """What `name` adds where it is called; it may be an instance of a layer."""
        match self.expressions.get(name):
            case (ast.Call(func=ast.Name(id=layer)),):
                return self.own(layer)
            case None:
                return self.own(name)
            case _:
                return _BOTH

    def _call(self, expr: ast.Call) -> Axes:
        name = expr.func.id if isinstance(expr.func, ast.Name) else ""
        args = self._union((expr.args, tuple(k.value for k in expr.keywords)))
        if name in _RANDOM or (name == "conv" and expr.brackets is None):
            return args | _BOTH
        if not self.operator(name):
            args -= self.copies
        if name == "stack" and expr.brackets is not None:
            named = (i.expr for i in expr.brackets)
            return args - {n.id for n in named if isinstance(n, ast.Name)}
        if name not in _REDUCING:
            return args | self._given_back(name)
        if expr.brackets is None:
            return args - _BOTH if len(expr.args) == 1 else args
        over = {i.expr.id for i in expr.brackets if isinstance(i.expr, ast.Name)}
        where = self._union(
            i.expr for i in expr.brackets if not isinstance(i.expr, ast.Name)
        )
        return (args | where) - over - (where & self.copies)


_PER: Mapping[str, Axes] = {"batch": Axes({BATCH}), "call": Axes()}


def axes_of_outputs(decl: ast.LayerDecl, own: Callable[[str], Axes]) -> Axes:
    """Axes of the batch and of time along which a layer's outputs vary by themselves."""
    found: dict[str, tuple[ast.Expr, ...]] = {}
    axes: dict[str, Axes] = {}
    outputs: list[ast.Expr] = []
    repeats: set[str] = set()
    rest = list(decl.body)
    while rest:
        match rest.pop():
            case ast.InputStmt(name=name, per=per):
                axes[name] = _PER.get(per, _BOTH)
            case ast.Equation(targets=targets, value=value):
                for target in targets:
                    found[target.id] = (*found.get(target.id, ()), value)
            case ast.StateStmt(name=name, initial=initial) if initial is not None:
                found[name] = (*found.get(name, ()), initial)
            case ast.OutputStmt(value=value):
                outputs.append(value)
            case ast.RepeatStmt(axis=axis, condition=condition, body=inner):
                repeats.add(axis)
                rest += inner
                outputs += [condition] if condition is not None else []
            case _:
                pass
    reads = Reads(found, axes, Axes(repeats), own)
    reads.settle()
    return reads.of(tuple(outputs)) & _BOTH
