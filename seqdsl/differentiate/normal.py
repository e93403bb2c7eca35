"""The form of a model that is differentiated: one layer, every costly result named.

Derivatives read what an operator was given and what it gave. Where those are names,
the adjoint says them once, and a rule can decide which of them are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from seqdsl.differentiate.copies import flatten_copies, require_known_rows
from seqdsl.differentiate.halting import unconditional
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.walk import children, with_children
from seqdsl.rewrite.drop_unused import drop_unused
from seqdsl.rewrite.expand_grad import expand_grad
from seqdsl.rewrite.inline import inline_calls
from seqdsl.rewrite.widen_axes import widen_axes

CHEAP = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "neg",
        "square",
        "min",
        "max",
        "abs",
        "sign",
        "relu",
        "where",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "and",
        "or",
        "not",
        "float",
        "int",
        "bool",
        "real",
        "imag",
        "conj",
        "complex",
        "stopgrad",
        "floor",
        "ceil",
        "round",
    ]
)
"""Pointwise operators that are redone rather than named."""


def normal_form(model: ir.Model) -> ir.Model:
    """`model` without `grad`s, calls and halting, all that costs under a name.

    Raises `SpecError` (E0315) where a `grad` cannot be written out, `UnsupportedError`
    where rows of a state start from what they are read for.
    """
    return named(flatten_copies(unconditional(inlined(model))))


def inlined(model: ir.Model) -> ir.Model:
    """`model` without `grad`s and calls, and only what its outputs need.

    Raises `UnsupportedError` where rows of a state start from what they are read for.
    """
    while model.calls:
        model = inline_calls(model, [c.name for c in model.calls])
    model = drop_unused(expand_grad(model))
    require_known_rows(model)
    # Claims about monoids are of the equations as they were written.
    return replace(widen_axes(model), monoids=())


def named(model: ir.Model) -> ir.Model:
    """`model` in which outputs are names, and so is all that costs."""
    return _Naming(model, names_of(model)).run()


def costly(node: ir.Node) -> bool:
    """Whether `node` itself is more than arithmetic on numbers already at hand."""
    match node:
        case ir.Map(op=op):
            return op not in CHEAP
        case ir.Contract() | ir.Reduce() | ir.Along() | ir.Conv() | ir.Sample():
            return True
        case ir.ExternCall():
            return True
        case _:
            return False


def _feeds(node: ir.Node, above: ir.Node) -> bool:
    """Whether `node` is a sum or product that a costly operator is given.

    Its gradient, shared by the terms of the sum, thus gets a name.
    """
    return isinstance(node, ir.Map) and node.op in ("add", "sub") and costly(above)


def _hint(node: ir.Node) -> str:
    match node:
        case ir.Map(op="add" | "sub" | "mul"):
            return "in"
        case ir.Map(op=op) | ir.Reduce(op=op) | ir.Along(op=op):
            return op
        case ir.Contract():
            return "dot"
        case ir.Conv():
            return "conv"
        case ir.Sample():
            return "sample"
        case _:
            return "value"


@dataclass
class _Naming:
    """One run over a model: `taken` are the names it may not use."""

    model: ir.Model
    taken: set[str]
    known: dict[tuple[ir.Node, tuple[str, ...]], ir.Ref] = field(
        default_factory=dict[tuple[ir.Node, tuple[str, ...]], ir.Ref]
    )

    def run(self) -> ir.Model:
        """The model with names for the costly parts of its equations and outputs."""
        model = self.model
        equations: list[ir.Equation] = []
        for equation in model.equations:
            equations.extend(self._equation(equation))
        outputs: list[ir.Output] = []
        for output in model.outputs:
            expr = output.expr
            if not isinstance(expr, ir.Ref):
                name = fresh(output.name, self.taken)
                whole = ir.Equation(name=name, expr=expr, span=output.span)
                equations.extend(self._equation(whole))
                expr = build.ref(name, expr.type, output.span)
            outputs.append(replace(output, expr=expr))
        return replace(model, equations=tuple(equations), outputs=tuple(outputs))

    def _equation(self, equation: ir.Equation) -> list[ir.Equation]:
        """`equation` after those of its costly parts."""
        found: list[ir.Equation] = []

        def named(node: ir.Node, above: ir.Node | None) -> ir.Node:
            old = children(node)
            new = tuple(named(c, node) for c in old)
            if any(a is not b for a, b in zip(old, new, strict=True)):
                node = with_children(node, new)
            bound = node.type.axes & frozenset(self.model.copies)
            if above is None or bound or not (costly(node) or _feeds(node, above)):
                return node
            key = node, equation.scope
            if key not in self.known:
                name = fresh(f"{equation.name}_{_hint(node)}", self.taken)
                part = replace(equation, name=name, expr=node, written=False)
                found.append(replace(part, span=node.span))
                self.known[key] = build.ref(name, node.type, node.span)
            return self.known[key]

        whole = replace(equation, expr=named(equation.expr, None))
        return [*found, whole]
