"""Checks over a whole layer: circles within a step, and names that nobody uses."""

from __future__ import annotations

from collections.abc import Iterator

from seqdsl.diagnostics import Label
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.scope import (
    CallValue,
    LayerOption,
    LayerValue,
    Scope,
    Static,
    Value,
)
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children, subtree
from seqdsl.syntax import ast


def check(ctx: Context, scope: Scope, decl: ast.LayerDecl) -> None:
    """Report circles, and warn about what has no effect."""
    _cycles(ctx)
    if any(d.is_error for d in ctx.diagnostics):
        return
    live = _live(ctx)
    for entity in _entities(ctx, scope):
        _unused(ctx, entity, live)
    _unused_statics(ctx, scope, decl)


# ---- Circles within one step


def same_step_reads(node: ir.Node) -> Iterator[str]:
    """Names that `node` needs at its own index: reads that are not shifted."""
    match node:
        case ir.Shift() | ir.Copy():
            return
        case ir.At(index=index):
            if index is not None:
                yield from same_step_reads(index)
        case ir.Stack():
            return
        case ir.Ref(name=name):
            yield name
        case ir.Result(call=call):
            yield call
        case _:
            for child in children(node):
                yield from same_step_reads(child)


def _cycles(ctx: Context) -> None:
    reads = {e.name: list(same_step_reads(e.expr)) for e in ctx.equations.values()}
    for site in ctx.calls.values():
        reads[site.name] = [n for _, a in site.args for n in same_step_reads(a)]
    for param in ctx.params.values():
        if param.init.expr is not None:
            reads[param.name] = list(same_step_reads(param.init.expr))
    color: dict[str, int] = {}
    for root, first in reads.items():
        if root in color:
            continue
        path: list[str] = [root]
        stack = [iter(first)]
        color[root] = 1
        while stack:
            for name in stack[-1]:
                if color.get(name) == 1 and name in path:
                    _report_cycle(ctx, path[path.index(name) :])
                elif name in reads and name not in color:
                    color[name] = 1
                    path.append(name)
                    stack.append(iter(reads[name]))
                    break
            else:
                color[path.pop()] = 2
                stack.pop()


def _report_cycle(ctx: Context, circle: list[str]) -> None:
    shown = " → ".join(f"`{n}`" for n in (*circle, circle[0]))
    defined = {**ctx.equations, **ctx.params}
    spans = [(n, defined[n].span) for n in circle if n in defined]
    labels = tuple(Label(span, f"`{name}` is defined here") for name, span in spans[1:])
    if not spans:
        return
    ctx.report(
        "E0108",
        f"these depend on each other within one step: {shown}"
        if len(circle) > 1
        else f"`{circle[0]}` depends on itself within one step",
        spans[0][1],
        "give one of these parameters an initial value of its own"
        if circle[0] in ctx.params
        else f"read it a step earlier, as in `{circle[0]}[t-1]`",
        labels=labels,
    )


# ---- What has no effect


def _live(ctx: Context) -> set[str]:
    """Names that some output depends on."""
    todo = [o.expr for o in ctx.outputs]
    seen = set(ctx.made)
    while todo:
        for node in subtree(todo.pop()):
            name = ""
            if isinstance(node, ir.Ref):
                name = node.name
            elif isinstance(node, ir.Result):
                name = node.call
            axes = [node.axis] if isinstance(node, ir.At | ir.Stack) else []
            todo.extend(_conditions(ctx, axes, seen))
            if not name or name in seen:
                continue
            seen.add(name)
            if name in ctx.equations:
                todo.append(ctx.equations[name].expr)
            if name in ctx.states:
                todo.append(ctx.states[name].initial)
            if name in ctx.calls:
                todo.extend(a for _, a in ctx.calls[name].args)
                seen.add(ctx.calls[name].instance)
    return seen


def _conditions(ctx: Context, axes: list[str], seen: set[str]) -> Iterator[ir.Node]:
    for axis in axes:
        repeat = ctx.repeats.get(axis)
        if repeat is None or f"while {axis}" in seen:
            continue
        seen.add(f"while {axis}")
        if repeat.condition is not None:
            yield repeat.condition
        if isinstance(repeat.count, ir.Base):
            yield repeat.count


def _entities(ctx: Context, scope: Scope) -> Iterator[Value | CallValue | LayerValue]:
    for place in (scope, *ctx.scopes.values()):
        for entity in place.names.values():
            if isinstance(entity, Value | CallValue | LayerValue):
                yield entity


def _unused(
    ctx: Context, entity: Value | CallValue | LayerValue, live: set[str]
) -> None:
    if isinstance(entity, CallValue | LayerValue):
        if not entity.used:
            ctx.report("W0101", "this is never used", entity.span, "remove the line")
        return
    name = entity.name
    elsewhere = ctx.shifts.get(name) or name in ctx.copied
    if entity.kind == "state" and not elsewhere:
        ctx.report(
            "W0105",
            f"`{name}` is never read at another step, so it need not be a state",
            entity.span,
            "remove the `state` line",
        )
    if name in live or name.startswith("_"):
        return
    if entity.kind == "param":
        ctx.report(
            "W0102",
            f"the parameter `{name}` cannot influence any output",
            entity.span,
            "use it, or remove it",
        )
    elif not entity.used or entity.kind != "input":
        ctx.report(
            "W0101",
            f"`{name}` has no effect on any output",
            entity.span,
            "remove it, or start its name with `_`",
        )


def _unused_statics(ctx: Context, scope: Scope, decl: ast.LayerDecl) -> None:
    options = {o.name for o in decl.options}
    for name, entity in scope.names.items():
        if not isinstance(entity, Static | LayerOption):
            continue
        if entity.used or name.startswith("_"):
            continue
        if name in options:
            ctx.report(
                "W0104", f"the option `{name}` is never used", entity.span, "remove it"
            )
        elif name not in {b.id for b in decl.brackets}:
            ctx.report(
                "W0101", f"the dim `{name}` is never used", entity.span, "remove it"
            )


# ---- What the model needs


def _all_nodes(ctx: Context) -> Iterator[ir.Node]:
    for equation in ctx.equations.values():
        yield from subtree(equation.expr)
    for state in ctx.states.values():
        yield from subtree(state.initial)
    for output in ctx.outputs:
        yield from subtree(output.expr)
    for site in ctx.calls.values():
        for _, arg in site.args:
            yield from subtree(arg)
    for param in ctx.params.values():
        if param.init.expr is not None:
            yield from subtree(param.init.expr)
    for repeat in ctx.repeats.values():
        if repeat.condition is not None:
            yield from subtree(repeat.condition)


def dims_in_use(ctx: Context) -> set[str]:
    """Dims that some value of the layer has."""
    used: set[str] = set()
    for node in _all_nodes(ctx):
        used.update(node.type.dims)
        if isinstance(node, ir.Position) and node.type.dims:
            used.add(node.along)
    for param in ctx.params.values():
        used.update(param.type.dims)
    for state in ctx.states.values():
        used.update(state.type.dims)
    for value in ctx.inputs.values():
        used.update(value.type.dims)
    for site in ctx.calls.values():
        used.update(own for _, own in site.dims if own in ctx.dims)
    return used


def doc_of(spec: ast.Spec, decl: ast.LayerDecl) -> str:
    """The comment block that ends on the line above the layer."""
    by_line = {
        c.span.line: c.span.text.lstrip("#").strip() for c in spec.comments if c.alone
    }
    line = decl.span.line - 1
    lines: list[str] = []
    while line in by_line:
        lines.append(by_line[line])
        line -= 1
    return "\n".join(reversed(lines))
