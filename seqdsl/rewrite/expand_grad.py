"""Replaces `grad(of, wrt)` by equations of the same step: reverse accumulation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.differentiate.active import Active
from seqdsl.differentiate.broadcast import ONE, ZERO, Dims, add, placed, typed
from seqdsl.differentiate.vjp import vjp
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.walk import children, subtree, transform
from seqdsl.rewrite.inline import inline_calls
from seqdsl.source import Span

LONG = 16
"""A cotangent of more nodes than this gets a name where it is needed twice."""


def expand_grad(model: ir.Model) -> ir.Model:
    """`model` without `Grad` nodes.

    Cotangents that are long and needed more than once become equations of their own,
    named like `loss_d_e`; sub-layers that a gradient goes through are inlined. Raises
    `SpecError` (E0315) where something on the way cannot be differentiated.
    """
    if not any(isinstance(n, ir.Grad) for n in _everything(model)):
        return model
    return _Expansion(_inline_needed(model)).run()


def _everything(model: ir.Model) -> Iterator[ir.Node]:
    for equation in model.equations:
        yield from subtree(equation.expr)
    for output in model.outputs:
        yield from subtree(output.expr)
    for state in model.states:
        yield from subtree(state.initial)
    for call in model.calls:
        for _, arg in call.args:
            yield from subtree(arg)
    for repeat in model.repeats:
        if repeat.condition is not None:
            yield from subtree(repeat.condition)


def _inline_needed(model: ir.Model) -> ir.Model:
    """`model` after inlining the calls through which some `Grad` goes."""
    while True:
        grads = [n for n in _everything(model) if isinstance(n, ir.Grad)]
        needed: set[str] = set()
        for grad in grads:
            needed |= _calls_between(model, grad)
        if not needed:
            return model
        model = inline_calls(model, needed)


def _calls_between(model: ir.Model, grad: ir.Grad) -> set[str]:
    def lookup(name: str) -> ir.Node | None:
        return model.equation[name].expr if name in model.equation else None

    try:
        return Active(model, grad.wrt, lookup).calls(grad.of)
    except build.Issue as issue:
        raise _refusal(issue, grad.span) from None


def _refusal(issue: build.Issue, span: Span) -> SpecError:
    return SpecError([Diagnostic(issue.code, issue.message, span, help=issue.help)])


class _Expansion:
    """One run over a model: what has been expanded and what was added."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self._taken = names_of(model)
        self.dims = Dims(model.dims, frozenset(model.copies), taken=self._taken)
        self._shared: dict[str, ir.Equation] = {}
        self._done: dict[str, ir.Equation] = {}

    def run(self) -> ir.Model:
        """The whole model without gradients."""
        model = self.model
        equations = tuple(map(self.equation, model.equations))
        outputs = (
            replace(o, expr=self.expand(o.expr, o.name, ())) for o in model.outputs
        )
        calls = tuple(map(self.call, model.calls))
        states = (
            replace(s, initial=self.expand(s.initial, s.name, ())) for s in model.states
        )
        expanded = replace(
            model,
            outputs=tuple(outputs),
            calls=calls,
            states=tuple(states),
            repeats=tuple(map(self.repeat, model.repeats)),
        )
        # Last, when everything that is shared has its name.
        return replace(
            expanded,
            equations=(*equations, *self.added),
            dims={**model.dims, **self.dims.added},
            copies=(*model.copies, *self.dims.more),
        )

    def call(self, call: ir.CallSite) -> ir.CallSite:
        """`call` without gradients in its arguments."""
        args = ((n, self.expand(a, call.name, call.scope)) for n, a in call.args)
        return replace(call, args=tuple(args))

    @property
    def added(self) -> tuple[ir.Equation, ...]:
        """Equations that the model did not have."""
        return tuple(self._shared.values())

    def equation(self, equation: ir.Equation) -> ir.Equation:
        """`equation` without gradients."""
        if equation.name not in self._done:
            expr = self.expand(equation.expr, equation.name, equation.scope)
            self._done[equation.name] = replace(equation, expr=expr)
        return self._done[equation.name]

    def repeat(self, repeat: ir.Repeat) -> ir.Repeat:
        """`repeat` without gradients in its condition."""
        if repeat.condition is None:
            return repeat
        scope = (*repeat.scope, repeat.axis)
        condition = self.expand(repeat.condition, repeat.axis, scope)
        return replace(repeat, condition=condition)

    def expand(self, node: ir.Node, holder: str, scope: tuple[str, ...]) -> ir.Node:
        """`node` without gradients; `holder` names what it stands in."""

        def rule(sub: ir.Node) -> ir.Node:
            if not isinstance(sub, ir.Grad):
                return sub
            root = sub.of.name if isinstance(sub.of, ir.Ref) else holder
            return _Backward(self, sub, root, scope).run()

        return transform(node, rule)

    def lookup(self, name: str) -> ir.Node | None:
        """What the value `name` is, without gradients; None where no equation says."""
        if name in self._shared:
            return self._shared[name].expr
        if name not in self.model.equation:
            return None
        return self.equation(self.model.equation[name]).expr

    def named(
        self, node: ir.Node, name: str, scope: tuple[str, ...], span: Span
    ) -> ir.Node:
        """`node` as an equation of its own, unless it is short; one for all gradients."""
        long = len(list(islice(subtree(node), LONG))) == LONG
        if not long or node.type.axes & self.dims.copies:
            return node
        known = next(
            (e for e in self.added if (e.expr, e.scope) == (node, scope)), None
        )
        if known is not None:
            return build.ref(known.name, node.type, span)
        unique = fresh(name, self._taken)
        node = placed(node, span)
        equation = ir.Equation(
            name=unique, expr=node, scope=scope, written=False, span=span
        )
        self._shared[unique] = equation
        return build.ref(unique, node.type, span)


class _Backward:
    """Reverse accumulation for one `Grad`."""

    def __init__(
        self, expansion: _Expansion, grad: ir.Grad, root: str, scope: tuple[str, ...]
    ) -> None:
        self.expansion = expansion
        self.grad = grad
        self.root = root
        self.scope = scope
        self.active = Active(expansion.model, grad.wrt, expansion.lookup)
        self.pending: dict[str, ir.Node] = {}
        self.result: ir.Node | None = None

    def run(self) -> ir.Node:
        """The gradient with all dims of `wrt`."""
        order = self._order()
        self._push(self.grad.of, ONE)
        for name in order:
            ct = self.pending.pop(name, None)
            expr = self.expansion.lookup(name)
            if ct is not None and expr is not None:
                self._push(expr, self._share(ct, name))
        whole = typed(self.result or ZERO, self.grad.type)
        return placed(whole, self.grad.span)

    def _share(self, ct: ir.Node, name: str) -> ir.Node:
        wanted = f"{self.root}_d_{name}"
        return self.expansion.named(ct, wanted, self.scope, self.grad.span)

    def _order(self) -> list[str]:
        """Equations between `of` and `wrt`, readers before what they read."""
        order: list[str] = []
        seen: set[str] = set()

        def visit(node: ir.Node) -> None:
            for sub in _same_step(node, self.grad.wrt):
                if sub.name in seen or not self.active.of_name(sub.name):
                    continue
                seen.add(sub.name)
                visit(self.expansion.lookup(sub.name) or sub)
                order.append(sub.name)

        visit(self.grad.of)
        return order[::-1]

    def _push(self, node: ir.Node, ct: ir.Node) -> None:
        """Hands `ct` to everything below `node` that depends on `wrt`."""
        if node == self.grad.wrt:
            self.result = add(self.result, ct)
            return
        if isinstance(node, ir.Ref):
            self.pending[node.name] = add(self.pending.get(node.name), ct)
            return
        operands = children(node)
        if sum(map(self.active, operands)) > 1:
            ct = self._share(ct, "value")
        for child, own in zip(operands, self._pulled(node, ct), strict=True):
            if own is not None:
                self._push(child, own)

    def _pulled(self, node: ir.Node, ct: ir.Node) -> tuple[ir.Node | None, ...]:
        try:
            return vjp(node, ct, self.expansion.dims, self.active)
        except build.Issue as issue:
            raise _refusal(issue, node.span) from None


def _same_step(node: ir.Node, wrt: ir.Node) -> Iterator[ir.Ref]:
    """Names that `node` reads at its own index, `wrt` excepted."""
    match node:
        case _ if node == wrt:
            return
        case ir.Ref():
            yield node
        case ir.Shift() | ir.Copy() | ir.At() | ir.Stack():
            return
        case _:
            for child in children(node):
                yield from _same_step(child, wrt)
