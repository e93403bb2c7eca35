"""A layer to an `ir.Model`: declarations first, then equations, states, outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from seqdsl.diagnostics import Label
from seqdsl.elaborate import (
    checks,
    choices,
    claims,
    declare,
    equations,
    expressions,
    inputs,
    late,
    repeats,
    states,
    statics,
    whole,
)
from seqdsl.elaborate.context import Context, Entry, Models
from seqdsl.elaborate.order import dependency_order, parametric_calls
from seqdsl.elaborate.program import File
from seqdsl.elaborate.scope import Axis, Choice, LayerOption, Scope, Site, Static
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Opt, Scalar, Size
from seqdsl.ir.types import BATCH, TIME
from seqdsl.source import Span
from seqdsl.syntax import ast

_RESERVED = (TIME, BATCH)


@dataclass(frozen=True)
class Request:
    """A layer to elaborate: its options as far as known, and the shapes of its inputs.

    `shapes` gives, for a layer that is called, the dims of each input with the caller's extra dims
    written out; `extra` are the names of those. `layers` are the options that are layers.
    """

    file: File
    decl: ast.LayerDecl
    known: Mapping[str, Scalar]
    shapes: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )
    layers: Mapping[str, Choice] = field(default_factory=dict[str, Choice])
    extra: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()

    @property
    def key(self) -> object:
        """Requests with equal keys differ at most in options."""
        shapes = tuple(sorted(self.shapes.items()))
        layers = tuple(
            (name, id(choice.binding.decl), choice.text)
            for name, choice in sorted(self.layers.items())
        )
        return (
            self.file.key,
            self.decl.name,
            id(self.decl),
            shapes,
            layers,
            self.extra,
        )


def layer_model(request: Request, models: Models) -> Entry:
    """The model of a sub-layer, or its errors; models are shared between calls."""
    entries = models.setdefault(request.key, [])
    for entry in entries:
        if entry.serves(request.known):
            return entry
    ctx = elaborate_layer(request, models)
    errors = tuple(d for d in ctx.diagnostics if d.is_error)
    result = errors or finish(ctx, request)
    known, settled = dict(request.known), dict(ctx.settled)
    entry = Entry(known, settled, result, ctx.written + 1)
    entries.append(entry)
    return entry


def elaborate_layer(request: Request, models: Models) -> Context:
    """Elaborate one layer; look for errors in the context's diagnostics."""
    decl = request.decl
    known = dict(request.known)
    ctx = Context(decl.name, request.file, known, models, request.chain or (decl.name,))
    copies = declare.collect_copies(decl.body, request.file)
    scope = Scope(request.file, copies=copies, late=late.collect(decl.body))
    scope.names[TIME] = Axis(TIME, decl.span)
    ctx.whole = whole.names_of_dims(request.file, decl) | set(request.extra)
    _options(ctx, scope, request, known)
    declare.declare_all(ctx, scope, decl.body)
    inputs.input_types(ctx, scope, request)
    repeats.repeat_counts(ctx, scope, decl.body)
    states.state_types(ctx, scope, decl.body)
    values = [*scope.values(), *(v for v in ctx.inner.values())]
    for value in dependency_order(values):
        with ctx.recover():
            equations.elaborate_equation(ctx, value, value.span)
    declare.param_initials(ctx, scope, decl.body)
    states.finish_states(ctx, scope, decl.body)
    _outputs(ctx, scope, decl)
    claims.unclaimed(ctx)
    checks.check(ctx, scope, decl)
    return ctx


def _options(
    ctx: Context, scope: Scope, request: Request, known: dict[str, Scalar]
) -> None:
    for name in (*(b for b in request.decl.brackets),):
        _option(ctx, scope, name.id, None, name.span)
    for option in request.decl.options:
        default: Size | None = None
        if option.name in scope.names and option.name not in _RESERVED:
            old = scope.names[option.name]
            ctx.report(
                "E0105",
                f"`{option.name}` is already defined",
                option.span,
                "rename one",
                labels=(Label(old.span, "first defined here"),),
            )
            continue
        if choices.names_layer(request.file, option.default):
            with ctx.recover():
                _layer_option(ctx, scope, request, option, known)
            continue
        if option.default is not None:
            with ctx.recover():
                default = statics.require_static(
                    ctx, scope, option.default, "a default"
                )
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


def _layer_option(
    ctx: Context,
    scope: Scope,
    request: Request,
    option: ast.OptionDecl,
    known: dict[str, Scalar],
) -> None:
    """An option that is a layer: the one chosen becomes part of the model's form."""
    assert option.default is not None
    name = option.name
    chosen = choices.without_options(scope, option.default)
    with ctx.recover():
        chosen = choices.choice(ctx, scope, option.default)
    if name in request.layers:
        chosen = request.layers[name]
    elif name in known:
        with ctx.recover():
            chosen = choices.spelled(ctx, scope, option, known[name])
    known[name] = chosen.text
    ctx.options[name] = ir.Option(
        name=name, default=Lit(chosen.text), integral=False, span=option.span
    )
    ctx.names.add(name)
    scope.names[name] = LayerOption(chosen, option.span)
    ctx.settle(Opt(name), option.span)


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
    sizes = ctx.integral | used
    options = tuple(
        replace(
            option,
            integral=option.name in sizes | ctx.counts | ctx.whole,
            least=int(option.name in sizes or option.name not in ctx.counts),
        )
        for option in ctx.options.values()
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
        monoids=tuple(ctx.monoids),
        copies=tuple(ctx.copies),
        constraints=tuple(ctx.constraints),
        doc=checks.doc_of(request.file.spec, request.decl),
        span=request.decl.header,
    )
