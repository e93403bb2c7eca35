"""Region → statements: every sum over dims under a name of its own.

A statement is pointwise over its dims or a reduction of something pointwise; what a
kernel loops over can be read off it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import DType
from seqdsl.ir.walk import children, with_children
from seqdsl.schedule.region import Region


@dataclass(frozen=True)
class Statement:
    """`name[dims] = expr`, or `op` over the dims `over` of it."""

    name: str
    dims: tuple[str, ...]
    dtype: DType
    expr: ir.Node
    op: str | None = None
    over: tuple[str, ...] = ()

    @property
    def space(self) -> frozenset[str]:
        """All dims that its loops run over."""
        return frozenset((*self.dims, *self.over))


def statements(
    region: Region, names: tuple[str, ...], base: str = "sum"
) -> tuple[Statement, ...]:
    """What the equations `names` of `region` compute in each step, in order.

    Sums that have no name get one that begins with `base`.
    """
    flattener = _Flattener(region, base)
    for name in names:
        flattener.equation(region.model.equation[name])
    return tuple(flattener.found)


@dataclass
class _Flattener:
    region: Region
    base: str
    found: list[Statement] = field(default_factory=list[Statement])
    sums: dict[ir.Node, ir.Node] = field(default_factory=dict[ir.Node, ir.Node])

    def equation(self, equation: ir.Equation) -> None:
        """The statement of an equation, behind those of the sums in it."""
        state = self.region.model.state.get(equation.name)
        type_ = equation.expr.type if state is None else state.type
        expr = self.flat(equation.expr)
        if isinstance(expr, ir.Ref) and self._takes_over(expr, equation, type_.dims):
            return
        self.found.append(Statement(equation.name, type_.dims, type_.dtype, expr))

    def _takes_over(
        self, expr: ir.Ref, equation: ir.Equation, dims: tuple[str, ...]
    ) -> bool:
        """Whether the equation is the sum made last, which then gets its name."""
        if not self.found or not self.found[-1].op or self.found[-1].name != expr.name:
            return False
        last = self.found[-1]
        if last.dims != dims or last.name in self.region.model.equation:
            return False
        self.found[-1] = replace(last, name=equation.name)
        new = build.ref(equation.name, expr.type)
        self.sums = {k: new if v == expr else v for k, v in self.sums.items()}
        return True

    def flat(self, node: ir.Node) -> ir.Node:
        """`node` with its sums replaced by names."""
        if isinstance(node, ir.Shift):
            return node
        old = children(node)
        new = tuple(map(self.flat, old))
        node = with_children(node, new) if new != old else node
        match node:
            case ir.Contract():
                return self._contract(node)
            case ir.Reduce(op=op, arg=arg, over=over):
                return self._reduce(op, arg, over)
            case ir.Along(op=op, arg=arg, over=over):
                return self._along(op, arg, over)
            case _:
                return node

    def _contract(self, node: ir.Contract) -> ir.Node:
        """Factors that lack the dims summed over stand outside of the sum."""
        if not node.over:
            return _product([*node.args])
        factors = [f for arg in node.args for f in _factors(arg)]
        inner = [f for f in factors if set(f.type.dims) & set(node.over)]
        outer = [f for f in factors if f not in inner]
        # what varies along fewer dims first: it is multiplied further outside
        inner.sort(key=lambda f: len(f.type.dims))
        total = self._sum("sum", _product(inner), node.over)
        return _product([*outer, total])

    def _reduce(self, op: str, arg: ir.Node, over: tuple[str, ...]) -> ir.Node:
        match op:
            case "mean":
                total = self._sum("sum", arg, over)
                for dim in over:
                    total = build.map_("div", total, build.const(_extent(dim)))
                return total
            case "logsumexp":
                return self._logsumexp(arg, over)
            case _:
                return self._sum(op, arg, over)

    def _exponentials(
        self, arg: ir.Node, over: tuple[str, ...]
    ) -> tuple[ir.Node, ir.Node]:
        """exp(arg - top), and top: the largest entry, or 0 where that is infinite."""
        top = self._sum("max", arg, over)
        size = build.map_("abs", top)
        infinite = build.map_("eq", size, build.const(float("inf")))
        top = build.map_("where", infinite, build.const(0.0), top)
        top = self._pointwise(top)
        return build.map_("exp", build.map_("sub", arg, top)), top

    def _logsumexp(self, arg: ir.Node, over: tuple[str, ...]) -> ir.Node:
        powers, top = self._exponentials(arg, over)
        total = self._sum("sum", powers, over)
        return build.map_("add", build.map_("log", total), top)

    def _along(self, op: str, arg: ir.Node, over: tuple[str, ...]) -> ir.Node:
        powers, top = self._exponentials(arg, over)
        total = self._sum("sum", powers, over)
        none = build.map_("eq", total, build.const(0.0))
        if op == "softmax":
            return build.map_(
                "div", powers, build.map_("where", none, build.const(1.0), total)
            )
        log = build.map_("add", build.map_("log", total), top)
        # of nothing the logarithms are those of 0
        return build.map_("where", none, arg, build.map_("sub", arg, log))

    def _name(self) -> str:
        return f"{self.base}.{len(self.found)}"

    def _sum(self, op: str, arg: ir.Node, over: tuple[str, ...]) -> ir.Node:
        node = build.reduce(op, arg, over)
        if node not in self.sums:
            name = self._name()
            made = Statement(name, node.type.dims, node.type.dtype, arg, op, over)
            self.found.append(made)
            self.sums[node] = build.ref(name, node.type)
        return self.sums[node]

    def _pointwise(self, node: ir.Node) -> ir.Node:
        if node not in self.sums:
            name = self._name()
            made = Statement(name, node.type.dims, node.type.dtype, node)
            self.found.append(made)
            self.sums[node] = build.ref(name, node.type)
        return self.sums[node]


def _extent(dim: str):
    from seqdsl.ir.sizes import Opt

    return Opt(dim)


def _factors(node: ir.Node) -> list[ir.Node]:
    """Factors of a product of floats."""
    if isinstance(node, ir.Map) and node.op == "mul" and node.type.dtype == "float":
        return [f for arg in node.args for f in _factors(arg)]
    return [node]


def _product(factors: list[ir.Node]) -> ir.Node:
    result = factors[0]
    for factor in factors[1:]:
        result = build.map_("mul", result, factor)
    return result


def addends(node: ir.Node) -> list[ir.Node]:
    """What a sum of floats adds up."""
    if isinstance(node, ir.Map) and node.op == "add" and node.type.dtype == "float":
        return [a for arg in node.args for a in addends(arg)]
    return [node]


def added(terms: Sequence[ir.Node]) -> ir.Node:
    """The sum of `terms`."""
    result = terms[0]
    for term in terms[1:]:
        result = build.map_("add", result, term)
    return result


def reads(node: ir.Node) -> Mapping[tuple[str, bool], bool]:
    """Names that `node` reads, whether at another step: whether at its very index."""
    found: dict[tuple[str, bool], bool] = {}
    _collect(node, True, found)
    return found


def _collect(node: ir.Node, plain: bool, found: dict[tuple[str, bool], bool]) -> None:
    match node:
        case ir.Ref(name=name):
            key = (name, False)
            found[key] = found.get(key, True) and plain
        case ir.Shift(arg=ir.Ref(name=name)):
            key = (name, True)
            found[key] = found.get(key, True) and plain
        case ir.Rename() | ir.Split() | ir.SliceDim() | ir.Merge():
            _collect(node.arg, False, found)
        case ir.Gather(arg=arg, index=index):
            _collect(arg, False, found)
            _collect(index, plain, found)
        case _:
            for child in children(node):
                _collect(child, plain, found)
