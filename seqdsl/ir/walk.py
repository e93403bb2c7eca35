"""Children of nodes, and rebuilding a node from new children."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

from seqdsl.ir import nodes as ir


def children(node: ir.Node) -> tuple[ir.Node, ...]:
    """Direct operands of `node`, in a fixed order."""
    match node:
        case ir.Const() | ir.Ref() | ir.Position() | ir.Sample():
            return ()
        case ir.Training() | ir.Result():
            return ()
        case ir.Map(args=args) | ir.Contract(args=args) | ir.Concat(args=args):
            return args
        case ir.ExternCall(args=args):
            return args
        case ir.Reduce(arg=arg, where=where) | ir.Along(arg=arg, where=where):
            return (arg,) if where is None else (arg, where)
        case ir.At(arg=arg, index=index):
            return (arg,) if index is None else (arg, index)
        case ir.Gather(arg=arg, index=index):
            return (arg, index)
        case ir.OneHot(index=index):
            return (index,)
        case ir.Conv(arg=arg, weight=weight):
            return (arg, weight)
        case ir.Grad(of=of, wrt=wrt):
            return (of, wrt)
        case _:
            return (node.arg,)


def with_children(node: ir.Node, new: tuple[ir.Node, ...]) -> ir.Node:
    """`node` over other operands of the same types."""
    match node:
        case ir.Const() | ir.Ref() | ir.Position() | ir.Sample():
            return node
        case ir.Training() | ir.Result():
            return node
        case ir.Map() | ir.Contract() | ir.Concat() | ir.ExternCall():
            return replace(node, args=new)
        case ir.Reduce() | ir.Along():
            return replace(node, arg=new[0], where=new[1] if len(new) > 1 else None)
        case ir.At():
            arg = cast(ir.Ref, new[0])
            return replace(node, arg=arg, index=new[1] if len(new) > 1 else None)
        case ir.Gather():
            return replace(node, arg=new[0], index=new[1])
        case ir.OneHot():
            return replace(node, index=new[0])
        case ir.Conv():
            return replace(node, arg=new[0], weight=new[1])
        case ir.Grad():
            return replace(node, of=new[0], wrt=cast(ir.Ref, new[1]))
        case ir.Shift() | ir.Stack() | ir.Copy():
            return replace(node, arg=cast(ir.Ref, new[0]))
        case _:
            return replace(node, arg=new[0])


def transform(node: ir.Node, rule: Callable[[ir.Node], ir.Node]) -> ir.Node:
    """`rule` applied to every node bottom-up; unchanged subtrees are shared."""
    old = children(node)
    new = tuple(transform(child, rule) for child in old)
    same = all(a is b for a, b in zip(old, new, strict=True))
    return rule(node if same else with_children(node, new))


def subtree(node: ir.Node) -> Iterator[ir.Node]:
    """`node` and everything below it, parents first."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(children(current)))


def roots(model: ir.Model) -> Iterator[ir.Node]:
    """Every expression that a call evaluates, without those of sub-layers."""
    yield from (e.expr for e in model.equations)
    yield from (s.initial for s in model.states)
    yield from (o.expr for o in model.outputs)
    for call in model.calls:
        yield from (arg for _, arg in call.args)
    for repeat in model.repeats:
        if isinstance(repeat.count, ir.Base):
            yield repeat.count
        if repeat.condition is not None:
            yield repeat.condition


def references(node: ir.Node) -> Iterator[ir.Ref | ir.Result]:
    """Every name that `node` reads, with repetition."""
    for sub in subtree(node):
        if isinstance(sub, ir.Ref | ir.Result):
            yield sub


def map_roots(model: ir.Model, rule: Callable[[ir.Node], ir.Node]) -> ir.Model:
    """`model` with `rule` applied to each whole expression, initial values of parameters left out."""

    def repeat(r: ir.Repeat) -> ir.Repeat:
        count = rule(r.count) if isinstance(r.count, ir.Base) else r.count
        condition = None if r.condition is None else rule(r.condition)
        return replace(r, count=count, condition=condition)

    return replace(
        model,
        equations=tuple(replace(e, expr=rule(e.expr)) for e in model.equations),
        outputs=tuple(replace(o, expr=rule(o.expr)) for o in model.outputs),
        states=tuple(replace(s, initial=rule(s.initial)) for s in model.states),
        calls=tuple(
            replace(c, args=tuple((n, rule(a)) for n, a in c.args)) for c in model.calls
        ),
        repeats=tuple(map(repeat, model.repeats)),
    )
