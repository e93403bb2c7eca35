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
)


@dataclass
class Reads:
    """What each name of a layer is made of, and its axes as far as they are known."""

    expressions: Mapping[str, tuple[ast.Expr, ...]]
    axes: dict[str, Axes] = field(default_factory=dict[str, Axes])
    repeats: Axes = frozenset()
    is_pure: Callable[[str], bool] = bool

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
                if name == TIME or name in self.repeats:
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
                axes -= {TIME}
            elif isinstance(item.expr, ast.Binary):
                left = item.expr.left
                if isinstance(left, ast.Name):
                    axes |= _BOTH if left.id == TIME else {left.id}
        return axes

    def _call(self, expr: ast.Call) -> Axes:
        name = expr.func.id if isinstance(expr.func, ast.Name) else ""
        args = self._union((expr.args, tuple(k.value for k in expr.keywords)))
        if name in _RANDOM or (name == "conv" and expr.brackets is None):
            return args | _BOTH
        if not self.is_pure(name):
            # what a layer gives back varies as its own outputs do
            return args | _BOTH
        if name not in _REDUCING:
            return args
        if expr.brackets is None:
            return args - _BOTH if len(expr.args) == 1 else args
        over = {i.expr.id for i in expr.brackets if isinstance(i.expr, ast.Name)}
        where = self._union(
            i.expr for i in expr.brackets if not isinstance(i.expr, ast.Name)
        )
        return (args | where) - over
