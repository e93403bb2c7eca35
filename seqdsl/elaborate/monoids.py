"""Calls of monoids: a step of some states, and what the analysis may know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from seqdsl.elaborate import declare, defs, dims, expressions, late
from seqdsl.elaborate.context import Context, MonoidUse
from seqdsl.elaborate.monoid_parts import PAIR, Parts, parts_of
from seqdsl.elaborate.order import names_in
from seqdsl.elaborate.program import Binding, suggest
from seqdsl.elaborate.scope import Bound, CallValue, Scope, Site
from seqdsl.elaborate.unify import item_name
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, DTYPES, TIME, Type
from seqdsl.ir.walk import subtree, transform
from seqdsl.syntax import ast

Nodes = Mapping[str, ir.Node]


def call(
    ctx: Context, scope: Scope, site: Site, expr: ast.Call, found: Binding
) -> dict[str, ir.Node]:
    """The states after a step, by name; the claim waits for the equation around it."""
    decl = found.decl
    assert isinstance(decl, ast.MonoidDecl)
    parts = parts_of(ctx, decl)
    ctx.enter(expr.span)
    ctx.grow(1, expr.span)
    if decl.name in ctx.chain:
        raise ctx.fail("E0115", f"`{decl.name}` calls itself", expr.span)
    place = Scope(found.file, axes=scope.axes, late=late.collect(decl.body))
    bound = defs.bracket_dims(ctx, scope, expr, decl.brackets, decl.name, place)
    old = ctx.chain
    ctx.chain = (*old, decl.name)
    try:
        return _Call(ctx, scope, site, expr, decl, parts, place, bound).results()
    finally:
        ctx.chain = old


@dataclass
class _Call:
    """One call on its way; `bound` are the declaration's dims in ours."""

    ctx: Context
    scope: Scope
    site: Site
    expr: ast.Call
    decl: ast.MonoidDecl
    parts: Parts
    place: Scope
    bound: dict[str, str]

    def __post_init__(self) -> None:
        self.extra: dict[str, None] = {}

    def results(self) -> dict[str, ir.Node]:
        before, given = self._arguments()
        made = len(self.ctx.params) + len(self.ctx.calls) + len(self.ctx.externs)
        leaf = {a.name: given.get(a.name) for a in self.parts.fields}
        types = {a.name: self._type(a) for a in self.parts.fields}
        identity = {a.name: self._identity(a) for a in self.parts.fields}
        step = {n: v if v is not None else identity[n] for n, v in leaf.items()}
        step = {n: _as(v, types[n]) for n, v in step.items()}
        after = self._read(before, step)
        after = {n: build.at_span(v, self.expr.span) for n, v in after.items()}
        pair = _refs("first", types), _refs("second", types)
        combine = self._alone(lambda: self._combined(*pair))
        claim = ir.Monoid(
            name=self.decl.name,
            states=(),
            axis="",
            offset=0,
            fields=tuple(types.items()),
            leaf=tuple(step.values()),
            identity=tuple(_as(identity[n], t) for n, t in types.items()),
            combine=combine,
            read=combine if self.parts.free else self._claimed_read(before, types),
            free=self.parts.free,
            commutes=self.decl.commutes,
            span=self.decl.header,
        )
        more = len(self.ctx.params) + len(self.ctx.calls) + len(self.ctx.externs)
        nodes = [n for e in (*claim.combine, *claim.read) for n in subtree(e)]
        if more > made or any(isinstance(n, ir.Sample) for n in nodes):
            raise self.ctx.fail(
                "E0122",
                f"the monoid `{self.decl.name}` is more than a function of two elements",
                self.decl.header,
                "layers, parameters, random numbers and extern ops cannot stand in it; "
                "give what it needs as a field of the step",
            )
        use = MonoidUse(tuple(before.values()), claim, self.expr.span)
        self.ctx.uses[id(self.expr)] = use
        return after

    # ---- Arguments

    def _arguments(self) -> tuple[dict[str, ir.Node], dict[str, ir.Node]]:
        """The states before, and the fields of the step that are given."""
        ctx, expr, parts = self.ctx, self.expr, self.parts
        names = [a.name for a in parts.before]
        if not len(names) <= len(expr.args) <= len(names) + len(parts.fields):
            fields = ", ".join(a.name for a in parts.fields)
            raise ctx.fail(
                "E0401",
                f"`{self.decl.name}` takes {len(names)} states and up to "
                f"{len(parts.fields)} fields of a step, not {len(expr.args)} values",
                expr.span,
                f"first {', '.join(f'`{n}`' for n in names)} at the step before, "
                f"then what the step is: {fields}",
            )
        first, rest = expr.args[: len(names)], expr.args[len(names) :]
        given = dict(zip((a.name for a in parts.fields), rest, strict=False))
        for keyword in expr.keywords:
            known = [a.name for a in parts.fields if a.name not in given]
            if keyword.name not in known:
                message = (
                    f"`{self.decl.name}` has no field `{keyword.name}` left to give"
                )
                raise ctx.fail(
                    "E0402", message, keyword.span, suggest(keyword.name, known)
                )
            given[keyword.name] = keyword.value
        before = {
            a.name: self._fitted(a, e) for a, e in zip(parts.before, first, strict=True)
        }
        step = {
            a.name: defs.shared(
                ctx, self.scope, self.site, a.name, self._fitted(a, given[a.name])
            )
            for a in parts.fields
            if a.name in given
        }
        return before, step

    def _fitted(self, arg: ast.ArgDecl, expr: ast.Expr) -> ir.Node:
        ctx = self.ctx
        node = expressions.value(ctx, self.scope, self.site, expr)
        assert arg.type is not None
        defs.check_dtype(ctx, arg, node, expr.span)
        if set(node.type.dims) or arg.type.shape is None:
            rest = defs.fit_shape(
                ctx, self.place, self.bound, _shaped(arg), node, expr.span
            )
            self.extra |= dict.fromkeys(rest)
        return node

    def _type(self, arg: ast.ArgDecl) -> Type:
        """A field's own dims behind those that some argument has in addition."""
        assert arg.type is not None
        own: list[str] = []
        for item in arg.type.shape or ():
            own.append(self.bound.get(item_name(item)) or self._dim(item))
        shape = (*(d for d in self.extra if d not in own), *own)
        axes = frozenset({BATCH, TIME, *self.scope.axes})
        return Type(dims.dtype_of(arg.type), shape, axes)

    def _dim(self, item: ast.DimItem) -> str:
        return dims.dim_name(self.ctx, self.place, item)

    def _identity(self, arg: ast.ArgDecl) -> ir.Node:
        assert arg.default is not None
        node = expressions.value(self.ctx, self.place, self.site, arg.default)
        defs.check_dtype(self.ctx, arg, node, arg.default.span)
        return node

    # ---- Bodies

    def _combined(self, first: Nodes, second: Nodes) -> dict[str, ir.Node]:
        place = self._inner()
        for name, nodes in zip(PAIR, (first, second), strict=True):
            place.names[name] = CallValue(dict(nodes), self.decl.header, used=True)
        names = [a.name for a in self.parts.fields]
        self._declare(place, names)
        span = self.expr.span
        return {n: expressions.named(self.ctx, place, n, span) for n in names}

    def _read(self, before: Nodes, element: Nodes) -> dict[str, ir.Node]:
        if self.parts.free:
            return self._combined(before, element)
        place = self._inner()
        for name, node in (*before.items(), *element.items()):
            place.names[name] = Bound(node, self.decl.header, used=True)
        wanted = [n for r in self.parts.results for n in names_in(r)]
        self._declare(place, [n for n in wanted if n not in place.names])
        pairs = zip(self.parts.states, self.parts.results, strict=True)
        found: dict[str, ir.Node] = {}
        for state, result in pairs:
            site = Site(f"{self.site.name}_{state.name}", 0, self.expr.span)
            found[state.name] = expressions.value(self.ctx, place, site, result)
        return found

    def _inner(self) -> Scope:
        return replace(self.place, names=dict(self.place.names))

    def _declare(self, place: Scope, wanted: Sequence[str]) -> None:
        """Enter the equations that `wanted` need, and no others."""
        needed: dict[str, ast.Equation] = {}
        todo = list(wanted)
        while todo:
            name = todo.pop()
            statement = self.parts.equations.get(name)
            if statement is None or name in needed or name in place.names:
                continue
            needed[name] = statement
            todo.extend(names_in(statement.value))
        kept = (*needed.values(), *self._dims())
        body = [s for s in self.decl.body if s in kept]
        prefix = f"{self.site.name}_"
        declare.declare_equations(self.ctx, place, body, prefix, self.expr.span)

    def _dims(self) -> list[ast.Stmt]:
        return [s for s in self.decl.body if isinstance(s, ast.DimStmt)]

    # ---- The claim, over names that stand for any elements

    def _claimed_read(
        self, before: Nodes, types: Mapping[str, Type]
    ) -> tuple[ir.Node, ...]:
        any_ = {n: replace(v.type, dims=self._state_dims(n)) for n, v in before.items()}
        both = _refs("before", any_), _refs("element", types)
        return self._alone(lambda: self._read(*both))

    def _state_dims(self, name: str) -> tuple[str, ...]:
        arg = next(a for a in self.parts.states if a.name == name)
        return self._type(arg).dims

    def _alone(self, make: Callable[[], Nodes]) -> tuple[ir.Node, ...]:
        """What `make` gives, with the equations that it adds written out instead."""
        equations = self.ctx.equations
        old = set(equations)
        nodes = make()
        new = {n: equations.pop(n) for n in set(equations) - old}

        def rule(node: ir.Node) -> ir.Node:
            if isinstance(node, ir.Ref) and node.name in new:
                return transform(new[node.name].expr, rule)
            return node

        return tuple(transform(n, rule) for n in nodes.values())


def _shaped(arg: ast.ArgDecl) -> ast.ArgDecl:
    """An argument whose type says its shape, a bare dtype being that of a scalar."""
    assert arg.type is not None
    if arg.type.shape is not None:
        return arg
    return replace(arg, type=replace(arg.type, shape=()))


def _as(node: ir.Node, type_: Type) -> ir.Node:
    if DTYPES.index(node.type.dtype) >= DTYPES.index(type_.dtype):
        return node
    number = isinstance(node, ir.Const) and isinstance(node.value, Lit)
    if number and type_.dtype in ("float", "complex"):
        return replace(node, type=Type(type_.dtype))
    if type_.dtype == "complex":
        return build.map_("complex", node, build.const(0.0))
    return build.map_(type_.dtype, node)


def _refs(name: str, types: Mapping[str, Type]) -> dict[str, ir.Node]:
    return {n: build.ref(f"{name}.{i}", t) for i, (n, t) in enumerate(types.items())}
