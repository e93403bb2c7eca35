"""Mixtures of experts, recognized: an expert only runs for the tokens that chose it.

The meaning of `sum[E](g * e)` is dense. Where `g` is a multiple of `top[E](…)`, it is 0
for all but a few entries of E, and where E is nothing but a batch of weights in `e`,
the entries that are multiplied by 0 need not be computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.python import Atom, Binary, Expr, Item, call, one_line
from seqdsl.backends.torch.reindex import canonical
from seqdsl.backends.torch.streaming import expressions
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import references, subtree, transform

Evaluate = Callable[[Method, ir.Node], Value]
Sum = ir.Contract | ir.Reduce


@dataclass(frozen=True)
class Dispatch:
    """A sum over experts: who is chosen, with which weight, and what one computes."""

    dim: str
    top: ir.Along
    gate: ir.Node
    expert: ir.Node
    equations: tuple[ir.Equation, ...]


def match_experts(model: ir.Model, node: Sum) -> Dispatch | None:
    """The dispatch that `node` allows, if it is one."""
    if len(node.over) != 1 or node.over[0] not in model.dims:
        return None
    if isinstance(node, ir.Reduce) and (node.op != "sum" or node.where is not None):
        return None
    (dim,) = node.over
    factors = list(node.args if isinstance(node, ir.Contract) else _factors(node.arg))
    tops = (_top(model, f, dim) for f in factors)
    top = next((t for t in tops if t is not None), None)
    if top is None:
        return None
    works = [_works(model, f, dim) for f in factors]
    gates = [f for f, does in zip(factors, works, strict=True) if not does]
    experts = [f for f, does in zip(factors, works, strict=True) if does]
    if len(experts) != 1 or not gates:
        return None
    gate = gates[0] if len(gates) == 1 else build.contract(gates, ())
    expert, equations = _resolved(model, experts[0], dim)
    if gate.type.dims != (dim,) or not _is_batch(expert, dim):
        return None
    if node.type.axes != gate.type.axes or BATCH not in gate.type.axes:
        return None
    return Dispatch(dim, top, gate, expert, equations)


def _factors(node: ir.Node) -> Iterator[ir.Node]:
    if isinstance(node, ir.Map) and node.op == "mul":
        for arg in node.args:
            yield from _factors(arg)
    else:
        yield node


def _top(model: ir.Model, node: ir.Node, dim: str) -> ir.Along | None:
    """The `top` outside of whose choice `node` is 0."""
    match node:
        case ir.Along(op="top", over=over) if over == (dim,):
            return node
        case ir.Ref(name=name) if name in model.equation and name not in model.state:
            return _top(model, model.equation[name].expr, dim)
        case ir.Map(op="mul", args=(a, b)):
            return _top(model, a, dim) or _top(model, b, dim)
        case ir.Map(op="div", args=(a, _)):
            return _top(model, a, dim)
        case _:
            return None


def _works(model: ir.Model, node: ir.Node, dim: str) -> bool:
    """Whether `node` contracts parameters that have one entry for each of `dim`."""
    resolved, _ = _resolved(model, node, dim)
    return any(
        isinstance(sub, ir.Contract)
        and any(dim in a.type.dims and not a.type.axes for a in sub.args)
        for sub in subtree(resolved)
    )


def _resolved(
    model: ir.Model, node: ir.Node, dim: str
) -> tuple[ir.Node, tuple[ir.Equation, ...]]:
    """`node` with names that nothing else reads replaced by what they stand for."""
    reads = Counter(
        r.name
        for expr, _ in expressions(model)
        for r in references(expr)
        if isinstance(r, ir.Ref)
    )
    found: list[ir.Equation] = []

    def open_(sub: ir.Node) -> ir.Node:
        if not isinstance(sub, ir.Ref) or sub.name not in model.equation:
            return sub
        if dim not in sub.type.dims:
            return sub
        equation = model.equation[sub.name]
        if sub.name in model.state or reads[sub.name] != 1 or equation.scope:
            return sub
        expr = transform(equation.expr, open_)
        found.append(equation)
        return expr

    return transform(node, open_), tuple(found)


def _is_batch(node: ir.Node, dim: str) -> bool:
    """Whether entries of `dim` stay apart all through `node`."""
    for sub in subtree(node):
        match sub:
            case ir.Const() | ir.Map() | ir.Training():
                continue
            case ir.Ref(type=type_):
                # rows are picked from whole tensors: they must vary with the tokens
                if type_.axes and (
                    dim in type_.dims or not {BATCH, TIME} <= type_.axes
                ):
                    return False
            case ir.Contract(over=over) | ir.Reduce(over=over) | ir.Along(over=over):
                if dim in over or set(over) & {BATCH, TIME}:
                    return False
            case ir.Rename(pairs=pairs):
                if any(dim in pair for pair in pairs):
                    return False
            case ir.Split(dim=other) | ir.SliceDim(dim=other):
                if other == dim:
                    return False
            case ir.Merge(dims=dims):
                if dim in dims:
                    return False
            case _:
                return False
    return True


def fused_experts(model: ir.Model) -> frozenset[str]:
    """Equations that are only computed for the tokens that need them."""
    found = [
        match_experts(model, node)
        for expr, _ in expressions(model)
        for node in subtree(expr)
        if isinstance(node, ir.Contract | ir.Reduce)
    ]
    return frozenset(e.name for d in found if d is not None for e in d.equations)


# ---- Statements


def dispatch(
    m: Method,
    node: Sum,
    found: Dispatch,
    evaluate: Evaluate,
    dense: Callable[[], Value],
) -> Value:
    """The sum as a local: dense while compiling, else expert by expert."""
    lead = (BATCH,) if m.in_time else (BATCH, TIME)
    dims = node.type.dims
    name = m.names.new(f"{m.current}_experts")
    gate = canonical(m, evaluate(m, found.gate), (found.dim,))
    gate = _local(m, gate, f"{m.current}_gate")
    span = node.span
    with m.block("if torch.compiler.is_compiling():"):
        saved = dict(m.env)
        for equation in found.equations:
            value = evaluate(m, equation.expr)
            local = m.local(equation.name, TIME in equation.expr.type.axes)
            m.env["ref", equation.name] = m.bind(local, value, equation.span)
        whole = canonical(m, dense(), dims)
        m.write(f"{name} = ", align(whole, (*lead, *dims)), "", span)
        m.env.clear()
        m.env.update(saved)
    with m.block("else:"):
        _sparse(m, node, found, evaluate, gate, name)
    return Value(Atom(name), (*lead, *dims), node.type.dtype)


def _local(m: Method, value: Value, name: str) -> Value:
    if isinstance(value.code, Atom):
        return value
    return m.bind(m.names.new(f"{name}_t" if m.in_time else name), value)


def _sparse(
    m: Method, node: Sum, found: Dispatch, evaluate: Evaluate, gate: Value, name: str
) -> None:
    chosen, rows, parts, index, row = (
        m.names.new(n) for n in ("chosen", "rows", "parts", "expert", "row")
    )
    top = canonical(m, evaluate(m, found.top.arg), (found.dim,))
    count = m.whole(found.top.count) if found.top.count is not None else Atom("1")
    m.write(f"{chosen} = ", call(m.helper("_kept"), top.code, count, -1))
    m.line(f"{rows}: list[tuple[Tensor, ...]] = []")
    m.line(f"{parts}: list[Tensor] = []")
    extent = one_line(m.layer.extent(found.dim))
    with m.block(f"for {index} in range({extent}):"):
        m.line(f"{row} = {chosen}[..., {index}].nonzero(as_tuple=True)")
        inner = replace(m, in_time=True, looping=False, env=dict(m.env))
        expr = _one(inner, found, index, row)
        part = canonical(inner, evaluate(inner, expr), node.type.dims)
        weight: Expr = Item(Item(gate.code, f"..., {index}"), row)
        marks = ", ".join([":", *("None" for _ in node.type.dims)])
        weight = Item(weight, marks) if node.type.dims else weight
        m.write(
            "", call(f"{parts}.append", Binary("*", weight, part.code)), "", node.span
        )
        m.line(f"{rows}.append({row})")
    shape = Atom(f"{one_line(gate.code)}.shape[:-1]")
    m.write(f"{name} = ", call(m.helper("_scatter"), shape, rows, parts))


def _one(m: Method, found: Dispatch, index: str, row: str) -> ir.Node:
    """What one expert computes: its own weights, and the rows that chose it."""

    def rule(node: ir.Node) -> ir.Node:
        dims = tuple(d for d in node.type.dims if d != found.dim)
        node = replace(node, type=replace(node.type, dims=dims))
        return node

    def leaf(node: ir.Node) -> ir.Node:
        if isinstance(node, ir.Ref) and node.name in m.model.param:
            return _weight(m, found, node, index)
        if isinstance(node, ir.Ref) and node.name not in selected:
            selected.add(node.name)
            value = m.env["ref", node.name]
            if BATCH in value.layout:
                rest = tuple(n for n in value.layout if n not in (BATCH, TIME))
                code = Item(value.code, row)
                m.env["ref", node.name] = Value(code, (BATCH, *rest), value.dtype)
        return node

    selected: set[str] = set()
    return transform(found.expert, lambda node: rule(leaf(node)))


def _weight(m: Method, found: Dispatch, node: ir.Ref, index: str) -> ir.Node:
    from seqdsl.backends.torch.parameters import parameter

    if found.dim not in node.type.dims:
        return node
    value = parameter(m, m.model.param[node.name])
    place = value.layout.index(found.dim)
    marks = ", ".join([*(":" for _ in range(place)), index])
    rest = tuple(n for n in value.layout if n != found.dim)
    name = f"{node.name} of one expert"
    m.env["ref", name] = Value(Item(value.code, marks), rest, value.dtype)
    return replace(node, name=name)
