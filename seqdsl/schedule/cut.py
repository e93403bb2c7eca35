"""Equations cut where work for a library ends and work for a fused kernel begins.

A kernel wants recurrences with all the pointwise work around them, but not the products
with weights, for which a library is better. After the cut every equation is of one kind,
so that `fuse.py` moves whole equations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, references, with_children
from seqdsl.rewrite.real_parts import apart, full
from seqdsl.schedule.dependence import names_in
from seqdsl.schedule.repeats import of_step

Allowed = Callable[[ir.Node], bool]
"""Whether a kernel of the target has a form of a node, its operands aside."""


@dataclass(frozen=True)
class Fusion:
    """What kernels of a target can do.

    `allowed` says of which nodes they have a form. With `whole`, a sequence is always
    complete and one segment, so that a loop may read `x[t-1]` of what stands outside.
    `again` are states that are better run again than stored. With `turns`, a loop may hold
    repeats; `repeats` are the axes of those that some loop does hold.
    """

    allowed: Allowed
    whole: bool = False
    again: frozenset[str] = frozenset()
    turns: bool = False
    repeats: frozenset[str] = frozenset()


def cut(model: ir.Model, inside: frozenset[str], fusion: Fusion) -> ir.Model:
    """`model` with equations of one kind each; `inside` are members of recurrences."""
    cutter = _Cutter(model, inside, _reached(model, inside), fusion)
    return cutter.run()


def fits(node: ir.Node, inside: frozenset[str], fusion: Fusion, member: bool) -> bool:
    """Whether a kernel computes this node (its operands aside).

    `member` says that it stands in a recurrence. Elsewhere sums over dims are taken in
    only where they spare storing what is larger than what it is made of, a state for one,
    and products with weights never are.
    """
    if isinstance(node, ir.Const | ir.Ref | ir.Result):
        return True
    if of_step(node, fusion.repeats):
        return True
    if not fusion.allowed(node):
        return False
    own = bool(names_in(node) & inside)
    match node:
        case ir.Contract(args=args):
            return own and (member or not _widens(args))
        case ir.Reduce(arg=arg):
            streams = [r for r in references(node) if _name(r) not in inside]
            if not own:
                return TIME not in node.over and _spreads(arg, streams)
            return member or any(r.type.dims for r in streams)
        case ir.Along():
            return own and member
        case ir.Gather(arg=arg, dim=dim):
            # of a table that no state is in, all entries are gone through
            short = bool(names_in(arg) & inside) or arg.type.dims == (dim,)
            return own and member and short
        case ir.Split() | ir.Merge() | ir.SliceDim():
            return own
        case ir.Shift(offset=offset):
            return own or (fusion.whole and offset == -1)
        case _:
            return own or TIME in node.type.axes or not any(references(node))


def _spreads(arg: ir.Node, streams: list[ir.Ref | ir.Result]) -> bool:
    """Whether what is summed up is larger than all it is made of, and better not stored."""
    found = [set(s.type.dims) for s in streams if TIME in s.type.axes]
    return bool(found) and all(dims < set(arg.type.dims) for dims in found)


def _widens(args: tuple[ir.Node, ...]) -> bool:
    """Whether a weight brings dims of its own into a product: a matrix product."""
    for i, arg in enumerate(args):
        others = {d for j, a in enumerate(args) if j != i for d in a.type.dims}
        if not arg.type.varies and set(arg.type.dims) - others:
            return True
    return False


def _name(read: ir.Ref | ir.Result) -> str:
    return read.name if isinstance(read, ir.Ref) else read.call


def _reached(model: ir.Model, inside: frozenset[str]) -> frozenset[str]:
    """Names of everything computed from members of recurrences."""
    reads = {e.name: names_in(e.expr) for e in model.equations}
    for call in model.calls:
        reads[call.name] = frozenset[str]().union(*(names_in(a) for _, a in call.args))
    found = set(inside)
    while new := {n for n, r in reads.items() if r & found} - found:
        found |= new
    return frozenset(found)


def _of_parts(node: ir.Node) -> ir.Node:
    """A part of a complex value in terms of parts of what that is made of."""
    match node:
        case ir.Map(op="real" | "imag" as op, args=(arg,)) if (
            arg.type.dtype == "complex" and (parts := apart(arg)) is not None
        ):
            return full(parts[op == "imag"], node.type.dims)
        case _:
            return node


def _inward(node: ir.Node) -> ir.Node:
    """A view of pointwise work as pointwise work on views, which cost nothing there."""
    match node:
        case ir.Split(arg=ir.Map(op=op, args=args), dim=dim, into=into):
            return build.map_(
                op,
                *(build.split(a, dim, into) if dim in a.type.dims else a for a in args),
                span=node.span,
            )
        case ir.Merge(arg=ir.Map(op=op, args=args), dims=dims, into=into) if all(
            set(dims) <= set(a.type.dims) or not set(dims) & set(a.type.dims)
            for a in args
        ):
            return build.map_(
                op,
                *(
                    build.merge(a, dims, into) if dims[0] in a.type.dims else a
                    for a in args
                ),
                span=node.span,
            )
        case _:
            return node


@dataclass
class _Cutter:
    model: ir.Model
    inside: frozenset[str]
    reached: frozenset[str]
    fusion: Fusion
    found: dict[tuple[ir.Node, tuple[str, ...]], ir.Equation] = field(
        default_factory=dict[tuple[ir.Node, tuple[str, ...]], ir.Equation]
    )
    taken: set[str] = field(default_factory=set[str])
    member: bool = False

    def run(self) -> ir.Model:
        model = self.model
        self.taken = {
            *model.input,
            *model.param,
            *model.equation,
            *model.call,
            *model.dims,
            *model.repeat,
            *(o.name for o in model.options),
        }
        equations = [
            replace(e, expr=self.take(e.expr, e.name, e.scope)) for e in model.equations
        ]
        calls = [
            replace(
                c,
                args=tuple((k, self.argument(a, c.name, c.scope)) for k, a in c.args),
            )
            for c in model.calls
        ]
        outputs = [
            replace(o, expr=self.argument(o.expr, o.name, ())) for o in model.outputs
        ]
        return replace(
            model,
            equations=(*equations, *self.found.values()),
            calls=tuple(calls),
            outputs=tuple(outputs),
        )

    def argument(self, node: ir.Node, name: str, scope: tuple[str, ...]) -> ir.Node:
        """What a call or an output reads: named where a kernel computes it."""
        node = self.take(node, name, scope)
        if isinstance(node, ir.Rename | ir.Split | ir.Merge):
            inner = self.argument(node.arg, name, scope)
            return with_children(node, (inner,))
        return self.named(node, name, scope) if self.ours(node) else node

    def ours(self, node: ir.Node) -> bool:
        """Whether a kernel computes `node` from a recurrence."""
        if isinstance(node, ir.Ref | ir.Result | ir.Const | ir.Shift):
            return False
        return self.fits(node) and bool(names_in(node) & self.reached)

    def fits(self, node: ir.Node) -> bool:
        if node.type.axes & set(self.model.copies):
            return False  # kernels have no copies of time
        return fits(node, self.inside, self.fusion, self.member)

    def take(self, node: ir.Node, name: str, scope: tuple[str, ...]) -> ir.Node:
        """`node` with operands of the other kind replaced by names."""
        self.member = name in self.inside
        node = _inward(_of_parts(node))
        if isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy):
            return node
        new: list[ir.Node] = []
        kernel = self.fits(node)
        for child in children(node):
            taken = self.take(child, name, scope)
            bare = isinstance(taken, ir.Ref | ir.Const | ir.Result)
            if (
                kernel
                and not bare
                and not self.fits(taken)
                or not kernel
                and self.ours(taken)
            ):
                taken = self.named(taken, name, scope)
            new.append(taken)
        old = children(node)
        same = all(a is b for a, b in zip(old, new, strict=True))
        return node if same else with_children(node, tuple(new))

    def named(self, node: ir.Node, base: str, scope: tuple[str, ...]) -> ir.Node:
        """`node` under a name of its own; a complex stream by its parts."""
        stream = node.type.dtype == "complex" and TIME in node.type.axes
        if stream and (parts := apart(node)) is not None:
            named = (self.named(full(p, node.type.dims), base, scope) for p in parts)
            return build.map_("complex", *named, span=node.span)
        if (node, scope) not in self.found:
            number, name = 1, f"{base}_part"
            while name in self.taken:
                number += 1
                name = f"{base}_part{number}"
            self.taken.add(name)
            self.found[node, scope] = ir.Equation(
                name=name, expr=node, scope=scope, written=False, span=node.span
            )
        return build.ref(self.found[node, scope].name, node.type, node.span)
