"""The printed form of the IR: one line a declaration or equation, each with its type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import assert_never

from seqdsl.ir import nodes as ir
from seqdsl.ir.ops import MAPS
from seqdsl.ir.sizes import Apply, Lit, Size
from seqdsl.ir.types import BATCH, TIME, Type

_BINDING = {
    "or": 1,
    "and": 2,
    "not": 3,
    "lt": 4,
    "le": 4,
    "gt": 4,
    "ge": 4,
    "eq": 4,
    "ne": 4,
    "add": 5,
    "sub": 5,
    "mul": 6,
    "div": 6,
    "floordiv": 6,
    "mod": 6,
    "neg": 7,
    "pow": 8,
}
"""How tightly an operator that is printed infix holds its operands."""


def model_text(model: ir.Model) -> str:
    """`model` and, after it, the layers it instantiates, each once."""
    names = _model_names(model)
    blocks = ["\n".join(_model_lines(m, name, names)) for m, name in names]
    return "\n\n".join(blocks) + "\n"


Names = list[tuple[ir.Model, str]]


def _model_names(model: ir.Model) -> Names:
    """Every model reached, callers first; a second one of a name gets a number."""
    found: list[ir.Model] = []
    queue = [model]
    while queue:
        current = queue.pop(0)
        if any(current is m for m in found):
            continue
        found.append(current)
        queue.extend(i.model for i in current.instances)
    seen: dict[str, int] = {}
    names: Names = []
    for m in found:
        seen[m.name] = seen.get(m.name, 0) + 1
        count = seen[m.name]
        names.append((m, m.name if count == 1 else f"{m.name}#{count}"))
    return names


def _model_lines(model: ir.Model, name: str, names: Names) -> Iterator[str]:
    options = (
        o.name if o.default is None else f"{o.name} = {o.default}"
        for o in model.options
    )
    yield f"layer {name}({', '.join(options)}):"
    for dim, size in model.dims.items():
        yield f"  dim {dim} = {size}"
    for c in model.constraints:
        yield f"  require {c.left} == {c.right}"
    for e in model.externs:
        args = ", ".join(f"{n}: {_type(t)}" for n, t in e.args)
        yield f"  extern {e.name}({args}) -> {_type(e.result)}"
    for i in model.inputs:
        yield f"  input {i.name}: {_type(i.type)}"
    for p in model.params:
        yield f"  {_param(p)}"
    for s in model.states:
        along = ", ".join(_ordered(s.carried)) or "nothing"
        initial = node_text(s.initial)
        yield f"  state {s.name}: {_type(s.type)} = {initial}  carried along {along}"
    yield from _repeat_lines(model)
    yield from _instance_lines(model, names)
    for e in model.equations:
        yield f"  {_scope(e.scope)}{e.name}: {_type(e.expr.type)} = {node_text(e.expr)}"
    for o in model.outputs:
        yield f"  output {o.name}: {_type(o.expr.type)} = {node_text(o.expr)}"


def _param(p: ir.Param) -> str:
    if p.init.kind == "orthogonal":
        gain = "" if p.init.gain is None else str(p.init.gain)
        init = f"orthogonal({gain})"
    else:
        init = "" if p.init.expr is None else node_text(p.init.expr)
    given = f" = {init}" if init else ""
    frozen = " frozen" if p.frozen else ""
    return f'param {p.name}: {_type(p.type)}{given}{frozen} as "{p.key}"'


def _repeat_lines(model: ir.Model) -> Iterator[str]:
    for r in model.repeats:
        count = (
            node_text(r.count) if isinstance(r.count, ir.Base) else _size(r.count, 0)
        )
        until = "" if r.condition is None else f" while {node_text(r.condition)}"
        yield f"  {_scope(r.scope)}repeat {r.axis} in {count}{until}"


def _instance_lines(model: ir.Model, names: Names) -> Iterator[str]:
    for i in model.instances:
        callee = next(name for m, name in names if m is i.model)
        options = ", ".join(f"{k} = {v}" for k, v in i.options)
        yield f"  {_scope(i.scope)}instance {i.name} = {callee}({options})"
    for c in model.calls:
        args = ", ".join(f"{k} = {node_text(v)}" for k, v in c.args)
        dims = ", ".join(f"{theirs} is {ours}" for theirs, ours in c.dims)
        with_dims = f"  where {dims}" if dims else ""
        yield f"  {_scope(c.scope)}call {c.name} = {c.instance}({args}){with_dims}"


def _scope(scope: tuple[str, ...]) -> str:
    return "".join(f"{axis}: " for axis in scope)


def _ordered(axes: Iterable[str]) -> list[str]:
    order = {BATCH: 0, TIME: 1}
    return sorted(axes, key=lambda a: (order.get(a, 2), a))


def _type(type_: Type) -> str:
    axes = "".join(f" {a}" for a in _ordered(type_.axes))
    over = f" over{axes}" if axes else ""
    return f"{type_.dtype} [{', '.join(type_.dims)}]{over}"


# ---- Expressions


def node_text(node: ir.Node) -> str:
    """`node` on one line, with the operators of the language where it has them."""
    return _text(node, 0)


def _text(node: ir.Node, outer: int) -> str:
    """`node` in a place that holds it with strength `outer`."""
    match node:
        case ir.Map():
            return _map(node, outer)
        case ir.Const(value=value):
            return _size(value, outer)
        case ir.Ref(name=name):
            return name
        case ir.Result(call=call, output=output):
            return f"{call}.{output}"
        case ir.Position(along=along):
            return f"index({along})"
        case ir.Sample(kind=kind, seed=seed, site=site):
            fresh = "fresh" if seed is None else str(seed)
            return f"{kind}(seed = {fresh}, site = {site})"
        case ir.Training():
            return "training"
        case ir.Reduce() | ir.Along() | ir.Contract() | ir.Grad() | ir.ExternCall():
            return _call(node)
        case ir.Shift() | ir.At() | ir.Stack() | ir.Copy():
            return _axis_index(node)
        case _:
            return _dim_index(node)


def _size(size: Size, outer: int) -> str:
    loose = isinstance(size, Apply) and len(size.args) == 2
    negative = isinstance(size, Lit) and str(size).startswith("-")
    return f"({size})" if outer and (loose or negative) else str(size)


def _map(node: ir.Map, outer: int) -> str:
    strength = _BINDING.get(node.op)
    if strength is None:
        return f"{node.op}({_list(node.args)})"
    symbol = MAPS[node.op].symbol or node.op
    match node.args:
        case (a,):
            gap = " " if symbol == "not" else ""
            text = f"{symbol}{gap}{_text(a, strength)}"
        case (a, b):
            left = _text(a, strength + (node.op == "pow" or strength == 4))
            right = _text(b, strength + (node.op != "pow"))
            text = f"{left} {symbol} {right}"
        case _:
            raise AssertionError(node.op)
    return f"({text})" if strength < outer else text


def _list(args: Iterable[ir.Node]) -> str:
    return ", ".join(map(node_text, args))


def _call(
    node: ir.Reduce | ir.Along | ir.Contract | ir.Grad | ir.ExternCall,
) -> str:
    match node:
        case ir.Reduce(op=op, arg=arg, over=over, where=where):
            return f"{op}[{_over(over, where)}]({node_text(arg)})"
        case ir.Along(op=op, arg=arg, over=over, where=where, count=count):
            more = "" if count is None else f", {count}"
            return f"{op}[{_over(over, where)}]({node_text(arg)}{more})"
        case ir.Contract(args=args, over=over):
            return f"dot[{', '.join(over)}]({_list(args)})"
        case ir.Grad(of=of, wrt=wrt):
            return f"grad({node_text(of)}, {node_text(wrt)})"
        case ir.ExternCall(name=name, args=args):
            return f"extern {name}({_list(args)})"
        case _:
            assert_never(node)


def _over(over: tuple[str, ...], where: ir.Node | None) -> str:
    names = ", ".join(over)
    return names if where is None else f"{names} where {node_text(where)}"


def _axis_index(node: ir.Shift | ir.At | ir.Stack | ir.Copy) -> str:
    arg = node_text(node.arg)
    match node:
        case ir.Shift(axis=axis, offset=offset):
            return f"{arg}[{axis}{offset:+d}]"
        case ir.At(axis=axis, index=None):
            return f"{arg}[{axis} = last]"
        case ir.At(axis=axis, index=index):
            assert index is not None
            return f"{arg}[{axis} = {node_text(index)}]"
        case ir.Stack(axis=axis, dim=dim):
            return f"{arg}[{axis} as {dim}]"
        case ir.Copy(copy=copy):
            return f"{arg}[{copy}]"
        case _:
            assert_never(node)


def _dim_index(
    node: ir.Rename
    | ir.Split
    | ir.Merge
    | ir.SliceDim
    | ir.Roll
    | ir.Concat
    | ir.Gather
    | ir.OneHot
    | ir.Conv,
) -> str:
    match node:
        case ir.Rename(arg=arg, pairs=pairs):
            maps = ", ".join(f"{a} -> {b}" for a, b in pairs)
            return f"{_text(arg, 9)}.({maps})"
        case ir.Split(arg=arg, dim=dim, into=into):
            return f"{_text(arg, 9)}.({dim} -> [{', '.join(into)}])"
        case ir.Merge(arg=arg, dims=dims, into=into):
            return f"{_text(arg, 9)}.([{', '.join(dims)}] -> {into})"
        case ir.SliceDim(arg=arg, dim=dim, start=start, step=step, into=into):
            return f"{_text(arg, 9)}[{dim} = {start}::{step} as {into}]"
        case ir.Roll(arg=arg, dim=dim, offset=offset, wrap=wrap):
            fill = "" if wrap else ", fill = 0"
            return f"roll[{dim}]({node_text(arg)}, {offset}{fill})"
        case ir.Concat(args=args, dims=dims, into=into):
            return f"concat[{', '.join(dims)} -> {into}]({_list(args)})"
        case ir.Gather(arg=arg, dim=dim, index=index):
            return f"{_text(arg, 9)}[{dim} = {node_text(index)}]"
        case ir.OneHot(index=index, dim=dim):
            return f"onehot[{dim}]({node_text(index)})"
        case ir.Conv():
            return _conv(node)
        case _:
            assert_never(node)


def _conv(node: ir.Conv) -> str:
    taps = ", ".join(
        f"{axis} by {tap}" for axis, tap in zip(node.axes, node.taps, strict=True)
    )
    over = f"; sum {', '.join(node.reduce)}" if node.reduce else ""
    how = f"dilation = {node.dilation}, pad = {node.pad}"
    how = f"{how}, ahead" if node.ahead else how
    args = f"{node_text(node.arg)}, {node_text(node.weight)}"
    return f"conv[{taps}{over}]({args}, {how})"
