"""A layer's statements to an `ir.Model`: declarations first, then equations on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from seqdsl.diagnostics import Diagnostic, Label
from seqdsl.elaborate import (
    calls,
    checks,
    dims,
    expressions,
    keys,
    layers,
    parametric,
)
from seqdsl.elaborate.context import (
    Axis,
    CallValue,
    Context,
    Poisoned,
    Scope,
    Site,
    Static,
    Value,
)
from seqdsl.elaborate.order import dependency_order, names_in, parametric_calls
from seqdsl.elaborate.program import File
from seqdsl.elaborate.varying import Axes, Reads
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Opt, Scalar, Size
from seqdsl.ir.types import BATCH, DTYPES, TIME, Type
from seqdsl.source import Span
from seqdsl.syntax import ast

_RESERVED = (TIME, BATCH)


@dataclass(frozen=True)
class Request:
    """A layer to elaborate: its options as far as known, and the shapes of its inputs.

    `shapes` gives, for a layer that is called, the dims of each input with the caller's extra dims
    written out; `extra` are the names of those.
    """

    file: File
    decl: ast.LayerDecl
    known: Mapping[str, Scalar]
    shapes: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: dict[str, tuple[str, ...]]()
    )
    extra: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()

    @property
    def key(self) -> object:
        """Requests with equal keys differ at most in options."""
        shapes = tuple(sorted(self.shapes.items()))
        return (self.file.key, self.decl.name, id(self.decl), shapes, self.extra)


def layer_model(
    request: Request, models: dict[object, object]
) -> ir.Model | tuple[Diagnostic, ...]:
    """The model of a sub-layer, or its errors; models are shared between calls."""
    cached = models.setdefault(request.key, list[tuple[dict[str, Scalar], object]]())
    assert isinstance(cached, list)
    entries: list[tuple[dict[str, Scalar], ir.Model | tuple[Diagnostic, ...]]] = cached
    for settled, result in entries:
        if all(request.known.get(k, None) == v for k, v in settled.items()):
            return result
    ctx = elaborate_layer(request, models)
    errors = tuple(d for d in ctx.diagnostics if d.is_error)
    given = {k: v for k, v in ctx.settled.items() if k in request.known}
    result = errors or finish(ctx, request)
    entries.append((given, result))
    return result


def elaborate_layer(request: Request, models: dict[object, object]) -> Context:
    """Elaborate one layer; look for errors in the context's diagnostics."""
    decl = request.decl
    known = dict(request.known)
    ctx = Context(decl.name, request.file, known, models, request.chain or (decl.name,))
    scope = Scope(request.file, copies=collect_copies(decl.body, request.file))
    scope.names[TIME] = Axis(TIME, decl.span)
    _options(ctx, scope, request, known)
    _declare(ctx, scope, decl.body)
    _input_types(ctx, scope, request)
    _repeat_counts(ctx, scope, decl.body)
    _state_types(ctx, scope, decl.body)
    values = [*_values(scope), *(v for v in ctx.inner.values())]
    for value in dependency_order(values):
        with ctx.recover():
            elaborate_equation(ctx, value, value.span)
    _finish_states(ctx, scope, decl.body)
    _outputs(ctx, scope, decl)
    checks.check(ctx, scope, decl)
    return ctx


def _values(scope: Scope) -> Iterator[Value]:
    for entity in scope.names.values():
        if isinstance(entity, Value):
            yield entity


# ---- Options and declarations


def _options(
    ctx: Context, scope: Scope, request: Request, known: dict[str, Scalar]
) -> None:
    for name in (*(b for b in request.decl.brackets),):
        _option(ctx, scope, name.id, None, name.span)
    for option in request.decl.options:
        default: Size | None = None
        if option.name in scope.names:
            old = scope.names[option.name]
            ctx.report(
                "E0105",
                f"`{option.name}` is already defined",
                option.span,
                "rename one",
                labels=(Label(old.span, "first defined here"),),
            )
            continue
        if option.default is not None:
            with ctx.recover():
                default = dims.require_static(ctx, scope, option.default, "a default")
        _option(ctx, scope, option.name, default, option.span)
        if option.name not in known and default is not None:
            value = ctx.value_of(default)
            if value is not None:
                known[option.name] = value
    for name in request.extra:
        _option(ctx, scope, name, None, request.decl.span)
        scope.names[name].used = True


def _option(
    ctx: Context, scope: Scope, name: str, default: Size | None, span: Span
) -> None:
    if name in _RESERVED:
        ctx.report(
            "E0116", f"`{name}` is the name of an axis", span, "choose another name"
        )
        return
    ctx.options[name] = ir.Option(name=name, default=default, integral=False, span=span)
    dim = ctx.fresh_dim(name, Opt(name))
    scope.names[name] = Static(Opt(name), span, dim)
    ctx.names.add(name)


def collect_copies(body: Sequence[ast.Stmt], file: File) -> frozenset[str]:
    """Names that stand alone in brackets behind a value, as `s` in `k[s]`."""
    found: set[str] = set()
    stack: list[object] = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Index):
            for item in node.items:
                if isinstance(item.expr, ast.Name) and item.axis is None:
                    found.add(item.expr.id)
        if isinstance(node, ast.Ast):
            stack.extend(getattr(node, f) for f in node.__dataclass_fields__)
        elif isinstance(node, tuple):
            stack.extend(node)  # pyright: ignore[reportUnknownArgumentType]
    return frozenset(found - {TIME})


def _declare(ctx: Context, scope: Scope, body: Sequence[ast.Stmt]) -> None:
    """Enter the names of all statements, dims first, since order does not matter."""
    for statement in body:
        if isinstance(statement, ast.DimStmt):
            with ctx.recover():
                _declare_dim(ctx, scope, statement)
    for statement in body:
        with ctx.recover():
            _declare_one(ctx, scope, statement)


def _declare_dim(ctx: Context, scope: Scope, statement: ast.DimStmt) -> None:
    _check_free(ctx, scope, statement.name, statement.span)
    size = dims.require_static(ctx, scope, statement.value, "the extent of a dim")
    dims.note_integral(ctx, size)
    dim = ctx.fresh_dim(statement.name, size)
    scope.names[statement.name] = Static(size, statement.span, dim)


def _declare_one(ctx: Context, scope: Scope, statement: ast.Stmt) -> None:
    match statement:
        case ast.InputStmt(name=name) if scope.axes:
            raise ctx.fail(
                "E0117",
                "inputs are declared outside `repeat`",
                statement.span,
                "move the line to the top of the layer",
            )
        case ast.InputStmt(name=name):
            _enter(ctx, scope, name, "input", _name_span(statement, name))
        case ast.ParamStmt(name=name):
            _declare_param(ctx, scope, statement)
        case ast.StateStmt(name=name):
            _enter(ctx, scope, name, "state", _name_span(statement, name))
        case ast.Equation():
            _declare_equation(ctx, scope, statement, "")
        case ast.RepeatStmt():
            _declare_repeat(ctx, scope, statement)
        case ast.OutputStmt() if scope.axes:
            raise ctx.fail(
                "E0117",
                "outputs stand outside `repeat`",
                statement.span,
                "after the repeat write for instance `output h[n = N]`",
            )
        case ast.Result():
            raise ctx.fail(
                "E0117",
                "this line is a value without a name",
                statement.span,
                "write `name = …`, or `output …` for a result of the layer",
            )
        case ast.OutputStmt() | ast.DimStmt():
            pass


def _name_span(statement: ast.Stmt, name: str) -> Span:
    """Where the declared name stands in its statement."""
    span = statement.span
    text = span.source.text
    start = text.find(" ", span.start)
    found = text.find(name, start if start >= 0 else span.start)
    if found < 0 or found >= span.end:
        return span
    return Span(span.source, found, found + len(name))


def _check_free(ctx: Context, scope: Scope, name: str, span: Span) -> None:
    if name in _RESERVED:
        raise ctx.fail(
            "E0116", f"`{name}` is the name of an axis", span, "choose another name"
        )
    old = scope.find(name) or ctx.inner.get(name)
    if old is not None:
        raise ctx.fail(
            "E0105",
            f"`{name}` is already defined",
            span,
            "rename one of the two",
            labels=(Label(old.span, "first defined here"),),
        )


def _enter(
    ctx: Context,
    scope: Scope,
    name: str,
    kind: str,
    span: Span,
    statement: ast.Equation | None = None,
    prefix: str = "",
) -> Value:
    _check_free(ctx, scope, name, span)
    unique = ctx.fresh(f"{prefix}{name}")
    value = Value(unique, kind, span, scope.axes, None, statement, scope)
    scope.names[name] = value
    if scope.axes and not prefix:
        ctx.inner[name] = value
    return value


def _declare_param(ctx: Context, scope: Scope, statement: ast.ParamStmt) -> None:
    span = _name_span(statement, statement.name)
    _check_free(ctx, scope, statement.name, span)
    type_ = dims.type_of(ctx, scope, statement.type)
    if type_.dtype in ("int", "bool") and not statement.frozen:
        raise ctx.fail(
            "E0205",
            f"a learned parameter cannot be {type_.dtype}",
            statement.type.span,
            "make it `frozen`, or leave the dtype away",
        )
    value = Value(statement.name, "param", span, scope.axes, type_, None, scope, "done")
    scope.names[statement.name] = value
    if scope.axes:
        ctx.inner[statement.name] = value
    key = statement.key or statement.name
    init = parametric.initial(ctx, scope, statement.name, type_, statement.initial)
    ref = parametric.add(
        ctx, scope, statement.name, key, type_, init, statement.span, statement.frozen
    )
    value.name, value.type = ref.name, ref.type


def _declare_equation(
    ctx: Context, scope: Scope, statement: ast.Equation, prefix: str
) -> None:
    for target in statement.targets:
        old = scope.names.get(target.id)
        if isinstance(old, Value) and old.kind == "state" and old.statement is None:
            old.statement = statement
            continue
        if isinstance(old, Value) and old.kind in ("input", "param"):
            raise ctx.fail(
                "E0119",
                f"`{target.id}` is an {old.kind} and cannot be redefined"
                if old.kind == "input"
                else f"`{target.id}` is a parameter and cannot be redefined",
                target.span,
                "choose another name",
                labels=(Label(old.span, "declared here"),),
            )
        outer = scope.find(target.id)
        if (
            isinstance(outer, Value)
            and outer.kind == "state"
            and outer.scope != scope.axes
        ):
            raise ctx.fail(
                "E0117",
                f"the state `{target.id}` belongs to another repeat",
                target.span,
                "declare a state where it is updated",
                labels=(Label(outer.span, "declared here"),),
            )
        _enter(ctx, scope, target.id, "equation", target.span, statement, prefix)


def _declare_repeat(ctx: Context, scope: Scope, statement: ast.RepeatStmt) -> None:
    span = _name_span(statement, statement.axis)
    _check_free(ctx, scope, statement.axis, span)
    if statement.axis in ctx.repeats:
        raise ctx.fail(
            "E0105",
            f"the axis `{statement.axis}` is already used by another repeat",
            span,
            "choose another letter",
            labels=(Label(ctx.repeats[statement.axis].span, "first used here"),),
        )
    ctx.repeats[statement.axis] = ir.Repeat(
        axis=statement.axis, count=Lit(1), condition=None, scope=scope.axes, span=span
    )
    inner = Scope(
        scope.file,
        parent=scope,
        axes=(*scope.axes, statement.axis),
        copies=scope.copies,
    )
    inner.names[statement.axis] = Axis(statement.axis, span)
    ctx.scopes[statement.axis] = inner
    # Counts decide whether parameters may stand inside, so they come first.
    _count(ctx, scope, statement)
    _declare(ctx, inner, statement.body)


def _count(ctx: Context, scope: Scope, statement: ast.RepeatStmt) -> None:
    old = ctx.repeats[statement.axis]
    size = dims.static(ctx, scope, statement.count)
    if size is not None:
        value = ctx.value_of(size)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < 0
        ):
            raise ctx.fail(
                "E0426",
                f"the count of a repeat is a whole number, not {value}",
                statement.count.span,
            )
        ctx.integral.update(o for o in _options_of(size))
        ctx.repeats[statement.axis] = replace(old, count=size)
        return
    # a run-time count; its type is checked once inputs have types
    ctx.repeats[statement.axis] = replace(
        old,
        count=build.ref(expr_name(statement.count), Type("int"), statement.count.span),
    )


def expr_name(expr: ast.Expr) -> str:
    """The name that an expression is, or an empty text."""
    return expr.id if isinstance(expr, ast.Name) else ""


def _options_of(size: Size) -> Iterator[str]:
    if isinstance(size, Opt):
        yield size.name


# ---- Types that are declared


def _input_types(ctx: Context, scope: Scope, request: Request) -> None:
    axes = {
        "step": frozenset({BATCH, TIME}),
        "batch": frozenset({BATCH}),
        "call": frozenset[str](),
    }
    for statement in request.decl.body:
        if not isinstance(statement, ast.InputStmt):
            continue
        with ctx.recover():
            if statement.per not in axes:
                raise ctx.fail(
                    "E0411",
                    f"`per {statement.per}` is not known",
                    statement.span,
                    "an input is `per step` (the default), `per batch` or `per call`",
                )
            type_ = _input_type(ctx, scope, statement, request)
            full = replace(type_, axes=axes[statement.per])
            value = scope.names.get(statement.name)
            if isinstance(value, Value) and value.kind == "input":
                value.type, value.status = full, "done"
                ctx.inputs[value.name] = ir.Input(
                    name=value.name, type=full, span=statement.span
                )


def _input_type(
    ctx: Context, scope: Scope, statement: ast.InputStmt, request: Request
) -> Type:
    written = statement.type
    given = request.shapes.get(statement.name)
    items = tuple(i for i in written.shape or () if i.expr is not None)
    base = dims.type_of(ctx, scope, replace(written, shape=items))
    if given is None:
        return base
    # written out by the caller: declared dims by our names, extra ones by theirs
    names = {dims_name: dims_name for dims_name in base.dims}
    return replace(base, dims=tuple(names.get(d, d) for d in given))


def _repeat_counts(ctx: Context, scope: Scope, body: Sequence[ast.Stmt]) -> None:
    """Check counts that are values: whole numbers that are the same for the whole call."""
    for statement in body:
        if not isinstance(statement, ast.RepeatStmt):
            continue
        repeat = ctx.repeats.get(statement.axis)
        inner = ctx.scopes.get(statement.axis)
        if repeat is None or inner is None:
            continue
        with ctx.recover():
            if isinstance(repeat.count, ir.Base):
                site = Site(statement.axis, 0, statement.count.span)
                node = expressions.value(ctx, scope, site, statement.count)
                if node.type.dtype != "int" or node.type.dims or node.type.axes:
                    raise ctx.fail(
                        "E0426",
                        "the count of a repeat is one whole number for the whole call",
                        statement.count.span,
                        "use an option, or `input steps: int per call`",
                    )
                ctx.repeats[statement.axis] = replace(repeat, count=node)
        _repeat_counts(ctx, inner, statement.body)


def _statements(
    ctx: Context, scope: Scope, body: Sequence[ast.Stmt]
) -> Iterator[tuple[Scope, ast.Stmt]]:
    """Every statement with its scope, repeats entered."""
    for statement in body:
        yield scope, statement
        if isinstance(statement, ast.RepeatStmt) and statement.axis in ctx.scopes:
            yield from _statements(ctx, ctx.scopes[statement.axis], statement.body)


def _state_types(ctx: Context, scope: Scope, body: Sequence[ast.Stmt]) -> None:
    pairs = list(_statements(ctx, scope, body))
    states = [(s, p) for p, s in pairs if isinstance(s, ast.StateStmt)]
    if not states:
        return
    reads = _reads(ctx, pairs)
    for statement, place in states:
        value = place.names.get(statement.name)
        if not isinstance(value, Value) or value.kind != "state":
            continue
        with ctx.recover():
            type_ = dims.type_of(ctx, place, statement.type)
            axes = reads.axes.get(statement.name, Axes()) | set(place.axes)
            value.type = replace(type_, axes=axes)


def _reads(ctx: Context, pairs: Sequence[tuple[Scope, ast.Stmt]]) -> Reads:
    found: dict[str, tuple[ast.Expr, ...]] = {}
    axes: dict[str, Axes] = {}
    for place, statement in pairs:
        match statement:
            case ast.Equation(targets=targets, value=value):
                for target in targets:
                    found[target.id] = (*found.get(target.id, ()), value)
                    axes[target.id] = axes.get(target.id, Axes()) | set(place.axes)
            case ast.StateStmt(name=name, initial=initial) if initial is not None:
                found[name] = (*found.get(name, ()), initial)
            case ast.ParamStmt(name=name):
                axes[name] = frozenset(place.axes)
            case _:
                pass
    for name, value in ctx.inputs.items():
        axes[name] = value.type.axes
    reads = Reads(found, axes, frozenset(ctx.repeats))
    reads.settle()
    return reads


# ---- Equations


def declare_equations(
    ctx: Context, scope: Scope, body: Sequence[ast.Stmt], prefix: str, span: Span
) -> None:
    """Enter and elaborate the equations of a def that is written out in place."""
    for statement in body:
        match statement:
            case ast.DimStmt():
                with ctx.recover():
                    _declare_dim(ctx, scope, statement)
            case ast.Equation():
                with ctx.recover():
                    _declare_equation(ctx, scope, statement, prefix)
            case ast.Result():
                pass
            case _:
                raise ctx.fail(
                    "E0117",
                    "a def holds equations and its result only",
                    statement.span,
                    "parameters, states and repeats belong in a layer",
                )
    for value in dependency_order([*_values(scope)]):
        with ctx.recover():
            elaborate_equation(ctx, value, value.span)


def elaborate_equation(ctx: Context, value: Value, span: Span) -> None:
    """Elaborate the equation of `value` unless that has been done.

    Raises `Poisoned` after reporting what is wrong with it.
    """
    if value.status == "failed":
        raise Poisoned
    if value.status == "done" or value.statement is None:
        return
    if value.status == "running":
        if value.kind == "state":
            return
        raise _cycle(ctx, value, span)
    value.status = "running"
    ctx.stack.append(value)
    try:
        _elaborate(ctx, value, value.statement)
        value.status = "done"
    except Poisoned:
        value.status = "failed"
        raise
    finally:
        ctx.stack.pop()


def _cycle(ctx: Context, value: Value, span: Span) -> Poisoned:
    circle = ctx.stack[ctx.stack.index(value) :]
    names = [v.name for v in (*circle, value)]
    shown = " → ".join(f"`{n}`" for n in names)
    labels = tuple(
        Label(v.statement.span, f"`{v.name}` is defined here")
        for v in circle
        if v.statement
    )
    text = span.source.text[span.end : span.end + 1]
    for other in circle:
        other.status = "failed"
    if text == "[":
        name = value.name
        return ctx.fail(
            "E0109",
            f"`{name}` reads its own past but is not a state",
            span,
            f"declare it: `state {name}: [H] = 0`",
            labels=labels[:1],
        )
    return ctx.fail(
        "E0108",
        f"these depend on each other within one step: {shown}",
        span,
        "read one of them a step earlier, as in `h[t-1]`",
        labels=labels,
    )


def _elaborate(ctx: Context, value: Value, statement: ast.Equation) -> None:
    scope = value.place
    assert scope is not None
    if len(statement.targets) > 1:
        _several(ctx, scope, statement)
        return
    plain = statement.targets[0].id
    if (
        value.kind == "equation"
        and layers.is_instance(scope, statement.value) is not None
    ):
        assert isinstance(statement.value, ast.Call)
        site = Site(value.name, 1, statement.span)
        made = layers.instance(ctx, scope, site, statement.value, keys.safe(value.name))
        made.used = value.used
        scope.names[plain] = made
        return
    site = Site(value.name, parametric_calls(scope, statement.value), statement.span)
    result = _result(ctx, scope, site, statement)
    if isinstance(result, dict):
        scope.names[plain] = CallValue(result, statement.span, value.used)
        return
    if statement.type is not None and value.kind != "state":
        _check_annotation(ctx, scope, statement, result)
    _store(ctx, scope, value, result, statement.span)


def _result(
    ctx: Context, scope: Scope, site: Site, statement: ast.Equation
) -> ir.Node | dict[str, ir.Node]:
    """What an equation defines; the outputs by name where there are several."""
    if layers.calls_layer(ctx, scope, statement.value):
        try:
            results = expressions.call_results(ctx, scope, site, statement.value)
        except build.Issue as issue:
            raise ctx.fail(
                issue.code, issue.message, statement.value.span, *issue.help
            ) from None
        assert results is not None
        return next(iter(results.values())) if len(results) == 1 else results
    return expressions.value(ctx, scope, site, statement.value)


def _several(ctx: Context, scope: Scope, statement: ast.Equation) -> None:
    """`a, b = Layer(x)`: the outputs in declared order."""
    first = scope.names[statement.targets[0].id]
    name = first.name if isinstance(first, Value) else "out"
    site = Site(name, parametric_calls(scope, statement.value), statement.span)
    results = expressions.call_results(ctx, scope, site, statement.value)
    if results is None or len(results) != len(statement.targets):
        count = 1 if results is None else len(results)
        raise ctx.fail(
            "E0409",
            f"{len(statement.targets)} names for {count} outputs",
            statement.span,
            "write one name for each output of the layer",
        )
    for target, node in zip(statement.targets, results.values(), strict=True):
        value = scope.names[target.id]
        if isinstance(value, Value):
            value.status = "done"
            _store(ctx, scope, value, node, statement.span)


def _check_annotation(
    ctx: Context, scope: Scope, statement: ast.Equation, node: ir.Node
) -> None:
    assert statement.type is not None
    declared = dims.type_of(ctx, scope, statement.type)
    same = set(declared.dims) == set(node.type.dims)
    fits = DTYPES.index(node.type.dtype) <= DTYPES.index(declared.dtype)
    if not same or not fits:
        raise ctx.fail(
            "E0205",
            f"declared {declared}, but the value is {node.type}",
            statement.type.span,
            "correct one of the two",
        )


def _store(ctx: Context, scope: Scope, value: Value, node: ir.Node, span: Span) -> None:
    if value.kind == "state":
        _check_update(ctx, value, node, span)
    else:
        axes = node.type.axes
        value.type = node.type
        if set(scope.axes) - axes:
            value.type = replace(node.type, axes=axes | set(scope.axes))
    ctx.equations[value.name] = ir.Equation(
        name=value.name, expr=node, scope=scope.axes, written=True, span=span
    )


def _check_update(ctx: Context, value: Value, node: ir.Node, span: Span) -> None:
    declared = ctx.type_of(value)
    where = value.statement.value.span if value.statement else span
    if set(node.type.dims) != set(declared.dims):
        raise ctx.fail(
            "E0206",
            f"the state `{value.name}` is {declared}, its update is {node.type}",
            where,
            "project or rename the update so that it has the state's dims",
            labels=(Label(value.span, "declared here"),),
        )
    if DTYPES.index(node.type.dtype) > DTYPES.index(declared.dtype):
        raise ctx.fail(
            "E0206",
            f"the state `{value.name}` is {declared.dtype}, its update is "
            f"{node.type.dtype}",
            where,
            f"declare the state as {node.type.dtype}",
            labels=(Label(value.span, "declared here"),),
        )
    extra = node.type.axes - declared.axes
    copies = [c for c in ctx.copies if c in extra]
    if copies:
        raise ctx.fail(
            "E0424",
            f"the update of `{value.name}` has one value for every `{copies[0]}`",
            where,
            f"sum it away, for instance `sum[{copies[0]} <= t](…)`",
        )
    if extra:
        value.type = replace(declared, axes=declared.axes | extra)


# ---- States, outputs, the model


def _finish_states(ctx: Context, scope: Scope, body: Sequence[ast.Stmt]) -> None:
    for place, statement in _statements(ctx, scope, body):
        match statement:
            case ast.StateStmt():
                with ctx.recover():
                    _finish_state(ctx, place, statement)
            case ast.RepeatStmt(axis=axis, condition=condition) if (
                condition is not None
            ):
                with ctx.recover():
                    _condition(ctx, ctx.scopes[axis], axis, condition)
            case _:
                pass


def _condition(ctx: Context, scope: Scope, axis: str, expr: ast.Expr) -> None:
    site = Site(f"{axis}_while", 0, expr.span)
    node = expressions.value(ctx, scope, site, expr)
    if node.type.dtype != "bool" or node.type.dims:
        raise ctx.fail(
            "E0210",
            f"the condition of a repeat is one bool, not {node.type}",
            expr.span,
            "compare something, such as `q[n-1] < 0.99`, and reduce its dims",
        )
    ctx.repeats[axis] = replace(ctx.repeats[axis], condition=node)


def _finish_state(ctx: Context, scope: Scope, statement: ast.StateStmt) -> None:
    value = scope.names.get(statement.name)
    if not isinstance(value, Value) or value.kind != "state" or value.type is None:
        return
    name = statement.name
    if value.statement is None:
        raise ctx.fail(
            "E0110",
            f"the state `{name}` has no equation",
            value.span,
            f"add one, such as `{name} = 0.9 * {name}[t-1] + x`",
        )
    if statement.initial is None:
        raise ctx.fail(
            "E0111",
            f"the state `{name}` has no initial value",
            value.span,
            f"write for instance `state {name}: … = 0`, or `= param` to learn it",
        )
    offsets = ctx.shifts.get(value.name, {})
    for axis, steps in offsets.items():
        if min(steps) < 0 < max(steps):
            raise ctx.fail(
                "E0429",
                f"`{name}` is read both earlier and later along `{axis}`",
                value.span,
                "use one state for each direction",
            )
    initial = _initial(ctx, scope, value, statement, frozenset(offsets))
    ctx.states[value.name] = ir.State(
        name=value.name,
        type=value.type,
        initial=initial,
        carried=frozenset(offsets),
        span=statement.span,
    )


def _initial(
    ctx: Context, scope: Scope, value: Value, statement: ast.StateStmt, carried: Axes
) -> ir.Node:
    assert statement.initial is not None and value.type is not None
    free = value.type.axes - carried
    kind = replace(value.type, axes=free)
    site = Site(
        value.name,
        parametric_calls(scope, statement.initial),
        statement.span,
        initial=kind,
    )
    node = expressions.value(ctx, scope, site, statement.initial)
    if set(node.type.dims) - set(value.type.dims):
        raise ctx.fail(
            "E0209",
            f"the initial value is {node.type}, the state {value.type}",
            statement.initial.span,
        )
    if DTYPES.index(node.type.dtype) > DTYPES.index(value.type.dtype):
        raise ctx.fail(
            "E0209",
            f"the initial value is {node.type.dtype}, the state {value.type.dtype}",
            statement.initial.span,
        )
    moving = node.type.axes & carried
    if moving:
        axis = sorted(moving)[0]
        raise ctx.fail(
            "E0430",
            f"the initial value of `{value.name}` changes along `{axis}`, "
            "along which the state starts",
            statement.initial.span,
            "use something that is the same at every step",
        )
    return node


def _outputs(ctx: Context, scope: Scope, decl: ast.LayerDecl) -> None:
    outputs = [s for s in decl.body if isinstance(s, ast.OutputStmt)]
    if not outputs:
        ctx.report(
            "E0112",
            f"the layer `{decl.name}` has no output",
            decl.header,
            "add a line such as `output h`",
        )
    for statement in outputs:
        with ctx.recover():
            _output(ctx, scope, statement)


def _output(ctx: Context, scope: Scope, statement: ast.OutputStmt) -> None:
    name = statement.name or _output_name(statement.value)
    taken = [o.name for o in ctx.outputs]
    if name in taken:
        raise ctx.fail(
            "E0105",
            f"two outputs are called `{name}`",
            statement.span,
            "name them: `output logits = …`",
        )
    site = Site(name, parametric_calls(scope, statement.value), statement.span)
    node = expressions.value(ctx, scope, site, statement.value)
    copies = [c for c in ctx.copies if c in node.type.axes]
    if copies:
        raise ctx.fail(
            "E0424",
            f"the output `{name}` has one value for every `{copies[0]}`",
            statement.value.span,
            f"sum it away, for instance `sum[{copies[0]} <= t](…)`",
        )
    ctx.outputs.append(ir.Output(name=name, expr=node, span=statement.span))


def _output_name(expr: ast.Expr) -> str:
    match expr:
        case ast.Name(id=name) | ast.Member(name=name):
            return name
        case ast.Index(value=value) | ast.Redim(value=value):
            return _output_name(value)
        case _:
            return "out"


def finish(ctx: Context, request: Request) -> ir.Model:
    """The model of a context without errors."""
    used = checks.dims_in_use(ctx)
    options = tuple(
        replace(o, integral=o.name in ctx.integral or o.name in used)
        for o in ctx.options.values()
    )
    return ir.Model(
        name=ctx.name,
        options=options,
        dims={n: s for n, s in ctx.dims.items() if n in used},
        inputs=tuple(ctx.inputs.values()),
        params=tuple(ctx.params.values()),
        states=tuple(ctx.states.values()),
        equations=tuple(ctx.equations.values()),
        outputs=tuple(ctx.outputs),
        repeats=tuple(ctx.repeats.values()),
        instances=tuple(ctx.instances.values()),
        calls=tuple(ctx.calls.values()),
        externs=tuple(ctx.externs.values()),
        copies=tuple(ctx.copies),
        constraints=tuple(ctx.constraints),
        doc=checks.doc_of(request.file.spec, request.decl),
        span=request.decl.header,
    )
