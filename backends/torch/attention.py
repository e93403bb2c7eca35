"""Softmax attention, recognized: one call of `F.scaled_dot_product_attention`.

The pattern is `dot[s](p, v[s])` with `p = softmax[s …](dot[K](q, k[s]) · scale)`, where
q, k and v have the same further dims (heads) and nothing else reads `p`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import tensor
from seqdsl.backends.torch.python import Atom, Binary, Expr, Item, call, one_line
from seqdsl.backends.torch.reductions import with_segments
from seqdsl.backends.torch.streaming import expressions
from seqdsl.backends.torch.values import Value, align, permute
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import references, subtree

Evaluate = Callable[[Method, ir.Node], Value]


@dataclass(frozen=True)
class Attention:
    """One attention: what asks, what is asked and read, who sees whom."""

    query: ir.Node
    key: ir.Copy
    value: ir.Copy
    copy: str
    width: str
    heads: tuple[str, ...]
    scale: ir.Node | None
    inverse: bool
    where: ir.Node | None
    weights: str | None


def fused(model: ir.Model) -> frozenset[str]:
    """Equations (attention weights) that are never computed by themselves."""
    found = [
        match(model, node)
        for expr, _ in expressions(model)
        for node in subtree(expr)
        if isinstance(node, ir.Contract)
    ]
    return frozenset(a.weights for a in found if a is not None and a.weights)


def match(model: ir.Model, node: ir.Contract) -> Attention | None:
    """The attention that `node` computes, if it is one."""
    if len(node.over) != 1 or node.over[0] not in model.copies or len(node.args) != 2:
        return None
    (copy,) = node.over
    weights, value = node.args
    if isinstance(weights, ir.Copy):
        weights, value = value, weights
    name, softmax = _named(model, weights)
    if not isinstance(softmax, ir.Along) or softmax.op != "softmax":
        return None
    if softmax.over != (copy,) or not isinstance(value, ir.Copy) or value.copy != copy:
        return None
    scores, scale, inverse = _scaled(softmax.arg)
    if not isinstance(scores, ir.Contract) or len(scores.args) != 2:
        return None
    query, key = scores.args
    if isinstance(query, ir.Copy):
        query, key = key, query
    if not isinstance(key, ir.Copy) or key.copy != copy or len(scores.over) != 1:
        return None
    (width,) = scores.over
    heads = tuple(d for d in query.type.dims if d != width)
    found = Attention(
        query, key, value, copy, width, heads, scale, inverse, softmax.where, name
    )
    return found if _fits(found) else None


def _named(model: ir.Model, node: ir.Node) -> tuple[str | None, ir.Node]:
    """What a name stands for that is read exactly once."""
    if not isinstance(node, ir.Ref) or node.name not in model.equation:
        return None, node
    reads = Counter(
        r.name
        for expr, _ in expressions(model)
        for r in references(expr)
        if isinstance(r, ir.Ref)
    )
    if node.name in model.state or reads[node.name] != 1:
        return None, node
    return node.name, model.equation[node.name].expr


def _scaled(node: ir.Node) -> tuple[ir.Node, ir.Node | None, bool]:
    """Scores without the constant that they are multiplied with or divided by."""
    match node:
        case ir.Map(op="div", args=(scores, scale)) if _is_number(scale):
            return scores, scale, True
        case ir.Map(op="mul", args=(scores, scale)) if _is_number(scale):
            return scores, scale, False
        case ir.Map(op="mul", args=(scale, scores)) if _is_number(scale):
            return scores, scale, False
        case _:
            return node, None, False


def _is_number(node: ir.Node) -> bool:
    match node:
        case ir.Const():
            return True
        case ir.Map(op="sqrt" | "div" | "mul" | "pow", args=args):
            return all(map(_is_number, args))
        case _:
            return False


def _fits(found: Attention) -> bool:
    """Whether the same heads stand everywhere and each has one further dim."""
    q, k, v = found.query.type, found.key.type, found.value.type
    axes = {BATCH, TIME}
    return (
        all(t.dtype == "float" for t in (q, k, v))
        and q.axes == frozenset(axes)
        and set(k.dims) == {*found.heads, found.width} == set(q.dims)
        and len(set(v.dims) - set(found.heads)) == 1
        and set(found.heads) <= set(v.dims)
        and (found.where is None or not found.where.type.dims)
        and found.width not in found.heads
    )


def attend(m: Method, found: Attention, evaluate: Evaluate) -> Value:
    """The attention as a local; causal on its own it needs no mask."""
    (entry,) = (d for d in found.value.type.dims if d not in found.heads)
    lead = (BATCH,) if m.in_time else (BATCH, TIME)
    heads = found.heads
    query = tensor(m, evaluate(m, found.query))
    query = permute(query, (BATCH, *heads, *lead[1:], found.width))
    asked = permute(evaluate(m, found.key), (BATCH, *heads, found.copy, found.width))
    read = permute(evaluate(m, found.value), (BATCH, *heads, found.copy, entry))
    asking = Item(query.code, "..., None, :") if m.in_time else query.code
    args = (asking, asked.code, read.code)
    keywords = _scale(m, found, evaluate)
    function = "F.scaled_dot_product_attention"
    name = m.names.new(f"{m.current}_attended")
    mask = _mask(m, found, evaluate)
    masked = call(function, *args, attn_mask=mask, **keywords)
    if not _sees_itself(found, found.where):
        masked = call(m.helper("_attend"), *args, mask, **keywords)
    span = found.value.span
    if _is_causal(m.model, found) and not m.in_time:
        whole = m.find("copy", "ref", _name(found.key))
        seen = one_line(whole.code if whole is not None else asked.code)
        m.needed["segments"] = None
        with m.block(f"if segments is None and {seen}.shape[1] == time:"):
            causal = call(function, *args, is_causal="True", **keywords)
            m.write(f"{name} = ", causal, "", span)
        m.need("time")
        with m.block("else:"):
            m.write(f"{name} = ", masked)
    else:
        m.write(f"{name} = ", masked, "", span)
    if m.in_time:
        code: Expr = Item(Atom(name), "..., 0, :")
        result = Value(code, (BATCH, *heads, entry), "float")
    else:
        result = Value(Atom(name), (BATCH, *heads, TIME, entry), "float")
    return result


def _name(copy: ir.Copy) -> str:
    return copy.arg.name if isinstance(copy.arg, ir.Ref) else copy.arg.call


def _scale(m: Method, found: Attention, evaluate: Evaluate) -> dict[str, Expr]:
    """Torch divides by the root of the width unless told otherwise."""
    if found.scale is None:
        return {"scale": Atom("1.0")}
    scale = evaluate(m, found.scale).code
    width = one_line(m.layer.extent(found.width))
    if found.inverse and one_line(scale) == f"math.sqrt({width})":
        return {}
    return {"scale": Binary("/", Atom("1.0"), scale) if found.inverse else scale}


def _mask(m: Method, found: Attention, evaluate: Evaluate) -> Expr:
    where = None if found.where is None else tensor(m, evaluate(m, found.where))
    where = with_segments(m, (found.copy,), where)
    if where is None:
        return Atom("None")
    lead = (BATCH, found.copy) if m.in_time else (BATCH, TIME, found.copy)
    code = align(where, lead)
    ones = ", ".join("None" for _ in found.heads)
    if m.in_time:
        return Item(code, f":, {ones}, None" if ones else ":, None")
    return Item(code, f":, {ones}") if ones else code


def _sees_itself(found: Attention, where: ir.Node | None) -> bool:
    """Whether every step surely sees itself: torch then never meets an empty row."""
    match where:
        case None:
            return True
        case ir.Map(op="and", args=(a, b)):
            return _sees_itself(found, a) and _sees_itself(found, b)
        case ir.Map(op="le" | "ge", args=(ir.Position(along=a), ir.Position(along=b))):
            return {a, b} == {found.copy, TIME}
        case ir.Map(
            op="lt",
            args=(
                ir.Map(op="sub", args=(ir.Position(along=a), ir.Position(along=b))),
                ir.Const(value=Lit(value=int(window))),
            ),
        ):
            return (a, b) == (TIME, found.copy) and window >= 1
        case _:
            return False


def _is_causal(model: ir.Model, found: Attention) -> bool:
    """Whether the predicate is exactly `s <= t`."""
    match found.where:
        case ir.Map(op="le", args=(ir.Position(along=a), ir.Position(along=b))):
            return (a, b) == (found.copy, TIME)
        case ir.Map(op="ge", args=(ir.Position(along=a), ir.Position(along=b))):
            return (b, a) == (found.copy, TIME)
        case _:
            return False
