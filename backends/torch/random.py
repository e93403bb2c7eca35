"""Random numbers: while a module runs by counters, while it is made by torch."""

from __future__ import annotations

from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.python import Atom, Expr, Item, call, list_of, tuple_of
from seqdsl.backends.torch.values import Value
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME


def sample(m: Method, node: ir.Sample) -> Value:
    """Numbers that depend on row, step, repeat steps and element alone."""
    dims = node.type.dims
    if m.making:
        return _drawn(m, node)
    axes = node.type.axes
    lead = [BATCH] if BATCH in axes or TIME in axes else []
    if TIME in axes and not m.in_time:
        lead.append(TIME)
    layout = (*lead, *dims)
    counters: list[Expr] = []
    if BATCH in axes:
        rows = call("torch.arange", m.need("batch"), device=m.need("device"))
        counters.append(_wide(rows, 1, len(layout) - 1))
    if TIME in axes:
        t = m.look("position", TIME)
        counters.append(_wide(t.code, len(t.layout), len(layout) - len(t.layout)))
    for repeat in m.model.repeats:
        if repeat.axis in axes:
            counters.append(Atom(m.steps[repeat.axis]))
    counters.append(_elements(m, dims))
    seed = m.look("seed").code if node.seed is None else m.size(node.seed)
    function = m.helper(f"random_{node.kind}")
    code = call(function, seed, node.site, list_of(counters), m.need("dtype"))
    return Value(code, layout, "float")


def _wide(code: Expr, own: int, missing: int) -> Expr:
    """`code` with `missing` dimensions of 1 behind its own."""
    if not missing:
        return code
    marks = ", ".join([*(":" for _ in range(own)), *("None" for _ in range(missing))])
    return Item(code, marks)


def _elements(m: Method, dims: tuple[str, ...]) -> Expr:
    if not dims:
        return Atom("0")
    extents = m.extents(dims)
    return call(m.helper("_elements"), tuple_of(extents), m.need("device"))


def _drawn(m: Method, node: ir.Sample) -> Value:
    function = "torch.rand" if node.kind == "uniform" else "torch.randn"
    dims = node.type.dims
    code = call(
        function,
        tuple_of(m.extents(dims)),
        dtype=m.need("dtype"),
        device=m.need("device"),
    )
    return Value(code, dims, "float")
