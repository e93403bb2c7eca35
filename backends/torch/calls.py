"""Calls of sub-layers."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.memory import Body, one_or_full
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Expr,
    Item,
    call,
)
from seqdsl.backends.torch.streaming import Entry
from seqdsl.backends.torch.values import Value
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME


def apply(body: Body, site: ir.CallSite) -> None:
    """Apply a sub-layer to its arguments."""
    m = body.m
    instance = m.model.instance[site.instance]
    from seqdsl.backends.torch.parameters import path

    target = path(m, f"{instance.name}.")[: -len(".")]
    args = [
        _argument(body, site, i, dict(site.args)[i.name]) for i in instance.model.inputs
    ]
    entry = next(
        (e for e in body.memory.entries if e.owner == site.name and e.kind == "call"),
        None,
    )
    name = m.names.new(f"{site.name}_t" if m.in_time else site.name)
    if m.in_time:
        before: Expr = Atom("{}") if entry is None else body.access(entry)
        after = "_" if entry is None else m.names.new(f"{site.name}_state")
        code = call(f"{target}.step", *args, before)
        m.write(f"{name}, {after} = ", code, "", site.span)
    else:
        after = _forward(body, site, entry, target, args, name)
    if entry is not None and (m.in_time or body.streams):
        m.next[entry.key] = Atom(after)
    _results(body, site, instance.model, name)


def _forward(
    body: Body,
    site: ir.CallSite,
    entry: Entry | None,
    target: str,
    args: list[Expr],
    name: str,
) -> str:
    m = body.m
    callee = m.model.instance[site.instance].model
    given: dict[str, Expr] = {}
    if not any(TIME in i.type.axes for i in callee.inputs):
        given["time"] = m.need("time")
    if not any(BATCH in i.type.axes for i in callee.inputs):
        given["batch"] = m.need("batch")
    if takes_segments(callee):
        given["segments"] = Atom("segments")
    if entry is None or not body.streams:
        m.write(f"{name} = ", call(target, *args, **given), "", site.span)
        return ""
    after = m.names.new(f"{site.name}_state")
    given |= {"state": body.access(entry), "return_state": Atom("True")}
    m.write(f"{name}, {after} = ", call(target, *args, **given), "", site.span)
    return after


def _argument(body: Body, site: ir.CallSite, wanted: ir.Input, node: ir.Node) -> Expr:
    """An argument as the sub-layer's own callers would hand it over."""
    m = body.m
    ours = dict(site.dims)
    dims = tuple(ours.get(d, d) for d in wanted.type.dims)
    value = tensor(m, expression(m, node), wanted.type.dtype)
    value = cast(m, value, wanted.type.dtype)
    around, m.current = m.current, wanted.name
    code = one_or_full(m, value, replace(wanted.type, dims=dims))
    m.current = around
    return code


def _results(body: Body, site: ir.CallSite, callee: ir.Model, name: str) -> None:
    m = body.m
    ours = dict(site.dims)
    for i, output in enumerate(callee.outputs):
        single = len(callee.outputs) == 1
        code: Expr = Atom(name) if single else Item(Atom(name), str(i))
        dims = tuple(ours.get(d, d) for d in output.expr.type.dims)
        axes = output.expr.type.axes
        lead = [BATCH, TIME] if TIME in axes else [BATCH] if BATCH in axes else []
        lead = [n for n in lead if n != TIME or not m.in_time]
        m.env["result", site.name, output.name] = Value(
            code, (*lead, *dims), output.expr.type.dtype
        )


def takes_segments(model: ir.Model) -> bool:
    """Whether a layer does anything along time, so that packing matters to it."""
    from seqdsl.backends.torch.streaming import streaming

    memory = streaming(model)
    return bool(memory.entries or memory.reasons)
