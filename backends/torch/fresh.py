"""`initial_state`: the state before the first step."""

from __future__ import annotations

from functools import partial

from seqdsl.backends.torch.arguments import (
    INITIAL,
    anchor_of,
    count_of,
    dict_lines,
    signature,
)
from seqdsl.backends.torch.exact import EXACT
from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.method import Layer, Method
from seqdsl.backends.torch.names import Names
from seqdsl.backends.torch.parameters import path
from seqdsl.backends.torch.per_step import each_step
from seqdsl.backends.torch.pointwise import cast
from seqdsl.backends.torch.python import (
    Atom,
    Expr,
    Item,
    call,
    tuple_of,
)
from seqdsl.backends.torch.streaming import Entry, Streaming, starts_with_inputs
from seqdsl.backends.torch.values import align
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit


def initial_state(layer: Layer, memory: Streaming) -> list[str]:
    """`initial_state(self, batch=1, *, device=None, dtype=None)`."""
    m = Method(layer, Names())
    head = signature("initial_state", INITIAL)
    doc = [f'{" " * 8}"""The state before the first step."""']
    m.needed["batch"] = None
    items = [
        (e.key, each_step(m, e.scope, partial(_initial, m, e)))
        for e in memory.entries
        if e.kind != "call" or not memory.reasons
    ]
    lines = dict_lines("return ", items, 8)
    anchor = anchor_of(layer.model, m)
    setup: list[str] = []
    text = "\n".join(lines)
    if "device" in text:
        setup.append(
            f"{' ' * 8}device = device or {anchor}.device"
            if anchor
            else f"{' ' * 8}device = device or torch.get_default_device()"
        )
    exact = "exact" in m.needed
    if exact or "dtype=dtype" in text or "_complex(dtype)" in text:
        setup.append(
            f"{' ' * 8}dtype = dtype or {anchor}.dtype"
            if anchor
            else f"{' ' * 8}dtype = dtype or torch.get_default_dtype()"
        )
    if exact:
        setup.append(f"{' ' * 8}{EXACT}")
    return [*head, *doc, *setup, *m.lines, *lines]


def _initial(m: Method, entry: Entry) -> Expr:
    m.needed["device"] = None
    dims = m.extents(entry.type.dims)
    device = Atom("device")
    match entry.kind:
        case "position":
            return call("torch.zeros", "batch", dtype="torch.int64", device=device)
        case "segment":
            m.helper("_NO_SEGMENT")
            fill = call("torch.full", "(batch,)", "_NO_SEGMENT", device=device)
            return fill
        case "seed":
            return call("torch.randint", "2**62", "()", device=device)
        case "past_t":
            return call("torch.zeros", "batch", "0", dtype="torch.int64", device=device)
        case "call":
            return _initial_call(m, entry)
        case _:
            return filled(m, entry, dims)


def _initial_call(m: Method, entry: Entry) -> Expr:
    assert entry.call is not None
    code = path(m, f"{entry.call.instance}.")[:-1]
    return call(f"{code}.initial_state", "batch", device="device", dtype="dtype")


def filled(m: Method, entry: Entry, dims: list[Expr]) -> Expr:
    """Zeros, or a state's initial value for every sequence."""
    from seqdsl.backends.torch.pointwise import dtype_code

    counts: list[Expr] = []
    if entry.kind == "past":
        counts = [Atom("0")]
    elif entry.kind != "carry":
        counts = [count_of(m, entry)]
    sizes = [Atom("batch"), *counts, *(Atom("0") for _ in entry.copies), *dims]
    dtype = dtype_code(m, entry.type.dtype)
    state = m.model.state.get(entry.owner)
    early = state is not None and starts_with_inputs(m.model, state)
    if state is None or early or entry.copies or entry.kind == "conv":
        return call("torch.zeros", *sizes, dtype=dtype, device="device")
    value = expression(m, state.initial)
    if value.scalar:
        if isinstance(state.initial, ir.Const) and state.initial.value in (
            Lit(0),
            Lit(0.0),
        ):
            return call("torch.zeros", *sizes, dtype=dtype, device="device")
        return call(
            "torch.full", tuple_of(sizes), value.code, dtype=dtype, device="device"
        )
    code = align(cast(m, value, state.type.dtype), entry.type.dims)
    wide = Item(code, "None") if counts else code
    expanded = call("torch.Tensor.expand", wide, *sizes)
    return call("torch.Tensor.to", expanded, dtype=dtype, device="device")
