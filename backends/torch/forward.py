"""The methods that compute: `forward`, `step`, `initial_state`."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.backends.torch.body import Body, one_or_full
from seqdsl.backends.torch.time_loop import begun
from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.method import Layer, Method, where
from seqdsl.backends.torch.names import Names
from seqdsl.backends.torch.parameters import path
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Binary,
    Each,
    Expr,
    Item,
    call,
    layout,
    one_line,
)
from seqdsl.backends.torch.python import tuple_of
from seqdsl.backends.torch.streaming import Entry, Streaming
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Opt, Size
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.plan import Plan


_OPTIONAL = (
    "state: dict[str, Any] | None = None",
    "segments: Tensor | None = None",
    "return_state: bool = False",
)
_INITIAL = (
    "self",
    "batch: int = 1",
    "*",
    "device: torch.device | None = None",
    "dtype: torch.dtype | None = None",
)


def forward(
    layer: Layer, plan: Plan, memory: Streaming, result: str | None
) -> tuple[list[str], bool]:
    """`forward(self, x, *, state=None, segments=None, return_state=False)`.

    Also says whether positions along time are used.
    """
    m = Method(layer, _names(layer))
    args = _inputs(m)
    streams = not memory.reasons
    keywords = _extents(m.model)
    head = ["self", *(f"{a}: Tensor" for a in args), "*", *keywords, *_OPTIONAL]
    setup: list[str] = []
    body = Body(m, memory, streams)
    _positions(m, memory)
    body.enter(())
    body.run(plan.steps)
    outputs = _outputs(m, result)
    body.leave(())
    _after(body)
    tail = _returns(m, memory, outputs, streams)
    checks = Method(layer, m.names)
    _checks(checks, args, timed=True)
    _extent_lines(checks, m, args, memory)
    _prologue(checks, m, memory, streams)
    setup = [*checks.lines]
    doc = [f'{" " * 8}"""Whole sequences at once: `[batch, time, …]` in and out."""']
    lines = [*_signature("forward", head), *doc]
    uses_t = "t" in m.needed or bool(m.model.copies)
    return [*lines, *setup, *m.lines, *tail], uses_t


def step(layer: Layer, plan: Plan, memory: Streaming, result: str | None) -> list[str]:
    """`step(self, x_t, state)`: one token."""
    m = Method(layer, _names(layer), in_time=True)
    args = _inputs(m)
    typed = [f"{a}: Tensor" for a in args]
    head = _signature("step", ["self", *typed, "state: dict[str, Any]"])
    doc = [f'{" " * 8}"""One step of a stream: `(outputs, next state)`."""']
    if memory.reasons:
        return [*head, *doc, *_refusal(layer.model, memory)]
    body = Body(m, memory, True)
    if memory.has("position"):
        m.env["position", TIME] = Value(_entry(memory, "position"), (BATCH,), "int")
    if memory.has("seed"):
        m.env["seed",] = Value(_entry(memory, "seed"), (), "int")
    _step_copies(m, memory)
    body.enter(())
    for entry in memory.entries:
        _step_local(body, entry)
    body.run(plan.steps)
    outputs = _outputs(m, result)
    body.leave(())
    _after(body)
    names = _dict(m, memory)
    checks = Method(layer, m.names, in_time=True)
    _checks(checks, args, timed=False)
    _extent_lines(checks, m, args, memory)
    _check_state(checks, m, memory)
    _locals(checks, m, memory)
    lines = layout("return ", tuple_of([outputs, names]), "", 8)
    lines = [_unparenthesized(line, i, lines) for i, line in enumerate(lines)]
    return [*head, *doc, *checks.lines, *m.lines, *lines]


def _unparenthesized(line: str, i: int, lines: list[str]) -> str:
    """`return a, b` on one line needs no parentheses."""
    if len(lines) == 1 and line.strip().startswith("return ("):
        return line.replace("return (", "return ", 1)[:-1]
    return line


def initial_state(layer: Layer, memory: Streaming) -> list[str]:
    """`initial_state(self, batch=1, *, device=None, dtype=None)`."""
    m = Method(layer, _names(layer))
    head = _signature("initial_state", _INITIAL)
    doc = [f'{" " * 8}"""The state before the first step."""']
    m.needed["batch"] = None
    items = [
        (e.key, _initial(m, e))
        for e in memory.entries
        if e.kind != "call" or not memory.reasons
    ]
    lines = _dict_lines("return ", items, 8)
    anchor = _anchor(layer.model, m)
    setup: list[str] = []
    text = "\n".join(lines)
    if "device" in text:
        setup.append(
            f"{' ' * 8}device = device or {anchor}.device"
            if anchor
            else f"{' ' * 8}device = device or torch.get_default_device()"
        )
    if "dtype=dtype" in text or "dtype.to_complex" in text:
        setup.append(
            f"{' ' * 8}dtype = dtype or {anchor}.dtype"
            if anchor
            else f"{' ' * 8}dtype = dtype or torch.get_default_dtype()"
        )
    return [*head, *doc, *setup, *m.lines, *lines]


# ---- Signatures and checks


def _names(layer: Layer) -> Names:
    return Names()


def _signature(name: str, parameters: Sequence[str]) -> list[str]:
    one = f"    def {name}({', '.join(parameters)}):"
    if len(one) <= 88:
        return [one]
    return [f"    def {name}(", *(f"        {p}," for p in parameters), "    ):"]


def _inputs(m: Method) -> list[str]:
    """Arguments, and what the model's inputs are."""
    args: list[str] = []
    for item in m.model.inputs:
        name = m.local(item.name, TIME in item.type.axes)
        lead = [n for n in (BATCH, TIME) if n in item.type.axes]
        if m.in_time:
            lead = [n for n in lead if n != TIME]
        m.env["ref", item.name] = Value(
            Atom(name), (*lead, *item.type.dims), item.type.dtype
        )
        args.append(name)
    return args


def _extents(model: ir.Model) -> list[str]:
    """Keywords for extents that no input tells."""
    axes = {a for i in model.inputs for a in i.type.axes}
    batch = [] if BATCH in axes else ["batch: int = 1"]
    return [*batch, *([] if TIME in axes else ["time: int"])]


def _checks(c: Method, args: list[str], timed: bool) -> None:
    """A line for every input that refuses what does not fit."""
    anchor = _anchor(c.model, c)
    for item, arg in zip(c.model.inputs, args, strict=True):
        lead = [
            n for n in (BATCH, TIME) if n in item.type.axes and (timed or n != TIME)
        ]
        words = {BATCH: '"batch"', TIME: '"time"'}
        dims = [
            (d, one_line(e))
            for d, e in zip(item.type.dims, c.extents(item.type.dims), strict=True)
        ]
        sizes = "{" + ", ".join(f'"{d}": {e}' for d, e in dims) + "}"
        keywords: dict[str, Expr | str | int] = {}
        if anchor:
            keywords["like"] = anchor
        if item.type.dtype != "float":
            keywords["kind"] = f'"{item.type.dtype}"'
        code = call(
            c.helper("_check"),
            f'"{item.name}"',
            arg,
            tuple_of([words[n] for n in lead]),
            sizes,
            **keywords,
        )
        c.write("", code)


def _extent_lines(c: Method, m: Method, args: list[str], memory: Streaming) -> None:
    """`batch` and `time`, where they are used, and that all inputs agree on them."""
    for axis, word in ((BATCH, "batch"), (TIME, "time")):
        if m.in_time and axis == TIME:
            continue
        having = [
            (arg, 0 if axis == BATCH else 1 if BATCH in i.type.axes else 0)
            for i, arg in zip(c.model.inputs, args, strict=True)
            if axis in i.type.axes
        ]
        if len(having) > 1:
            pairs = ", ".join(f'"{a}": {a}.shape[{d}]' for a, d in having)
            c.line(f'{c.helper("_agree")}("{word}", {{{pairs}}})')
    used = _used(m, memory)
    timed = next(
        (a for i, a in zip(c.model.inputs, args, strict=True) if TIME in i.type.axes),
        None,
    )
    rows = next(
        (a for i, a in zip(c.model.inputs, args, strict=True) if BATCH in i.type.axes),
        None,
    )
    if timed is not None and not m.in_time:
        if "batch" in used or "time" in used:
            c.line(f"batch, time = {timed}.shape[:2]")
    elif rows is not None and "batch" in used:
        c.line(f"batch = len({rows})")
    elif m.in_time and "batch" in used:
        c.line(f"batch = {_batch_of(memory)}")


def _batch_of(memory: Streaming) -> str:
    entry = next(
        (e for e in memory.entries if not e.scope and e.kind not in ("seed", "call")),
        None,
    )
    return "1" if entry is None else f'len(state["{entry.key}"])'


def _used(m: Method, memory: Streaming) -> set[str]:
    used = set(m.needed)
    if memory.entries and not m.in_time:
        used.add("batch")
    if "t" in used or "starts" in used or "ends" in used or memory.has("position"):
        used |= {"time", "batch"}
    return used


def _anchor(model: ir.Model, m: Method) -> str | None:
    """A parameter that says in which dtype and where the module computes."""
    for param in model.params:
        if param.type.dtype == "float" and not param.type.axes:
            return path(m, param.key)
    for param in model.params:
        if param.type.dtype == "float":
            key = param.key
            for axis in param.type.axes:
                key = key.replace(f"{{{axis}}}", "0")
            parts = key.split(".")
            code = "self"
            for part in parts:
                code = f"{code}[{part}]" if part.isdigit() else f"{code}.{part}"
            return code
    if model.params or model.instances:
        return None
    return None


def _prologue(c: Method, m: Method, memory: Streaming, streams: bool) -> None:
    """Everything that the statements of the method take for granted."""
    model = c.model
    used = _used(m, memory)
    if not streams:
        c.line("if state is not None or return_state:")
        c.lines += _refusal(model, memory, 12)
    if (
        "segments" in used
        or memory.has("segment")
        or "ends" in used
        or "starts" in used
    ):
        c.needed["segments"] = None
        c.line("if segments is not None:")
        c.line(f"    {c.helper('_check_segments')}(segments, batch, time)")
    floats = next((i for i in model.inputs if i.type.dtype == "float"), None)
    anchor = _anchor(model, m)
    first = model.inputs[0].name if model.inputs else None
    local = one_line(m.env["ref", first].code) if first is not None else None
    if memory.entries:
        keywords = ""
        if anchor is None and local is not None:
            keywords = f", device={local}.device"
            if floats is not None:
                keywords += f", dtype={one_line(m.env['ref', floats.name].code)}.dtype"
        made = f"self.initial_state(batch{keywords})"
        if streams:
            c.line("if state is None:")
            c.line(f"    state = {made}")
            c.line("else:")
            c.indent += 4
            _check_state(c, m, memory)
            c.indent -= 4
        else:
            c.line(f"state = {made}")
    _locals(c, m, memory)


def _locals(c: Method, m: Method, memory: Streaming) -> None:
    """Device, dtype, beginnings of segments, positions."""
    model = c.model
    anchor = _anchor(model, m)
    floats = next((i for i in model.inputs if i.type.dtype == "float"), None)
    inputs = [one_line(m.env["ref", i.name].code) for i in model.inputs]
    if "device" in m.needed:
        tensors = [f"{n}.device" for n in inputs[:1]]
        source = (
            tensors[0]
            if tensors
            else f"{anchor}.device"
            if anchor
            else "torch.get_default_device()"
        )
        c.line(f"device = {source}")
    if "dtype" in m.needed:
        own = (
            None
            if floats is None
            else f"{one_line(m.env['ref', floats.name].code)}.dtype"
        )
        c.line(
            f"dtype = {f'{anchor}.dtype' if anchor else own or 'torch.get_default_dtype()'}"
        )
    if m.in_time:
        return
    if memory.has("segment") and (memory.has("position") or "starts" in m.needed):
        last = one_line(_entry(memory, "segment"))
        c.line("starts = None")
        c.line("if segments is not None:")
        c.line(f"    starts = {c.helper('_starts')}(segments, {last})")
    if "ends" in m.needed:
        c.line(f"ends = None if segments is None else {c.helper('_ends')}(segments)")
    if memory.has("position"):
        first = one_line(_entry(memory, "position"))
        c.line(f"t = {c.helper('_positions')}({first}, time, starts)")
    _copy_lines(c, memory)


def _copy_lines(c: Method, memory: Streaming) -> None:
    if not c.model.copies:
        return
    last = one_line(_entry(memory, "segment"))
    c.line(f"ids = {c.helper('_ids')}(segments, {last}, time)")
    if memory.has("past_t"):
        t, ids = _entry(memory, "past_t"), _entry(memory, "past_segment")
        c.line(f"all_t = torch.cat([{one_line(t)}, t], 1)")
        c.line(f"all_ids = torch.cat([{one_line(ids)}, ids], 1)")
    else:
        c.line("all_t, all_ids = t, ids")


def _positions(m: Method, memory: Streaming) -> None:
    """What the prologue of `forward` provides."""
    if memory.has("position"):
        m.env["position", TIME] = Value(Atom("t"), (BATCH, TIME), "int")
    if memory.has("seed"):
        m.env["seed",] = Value(_entry(memory, "seed"), (), "int")
    same = Binary("==", Atom("ids[:, :, None]"), Atom("all_ids[:, None]"))
    for copy in m.model.copies:
        m.env["position", copy] = Value(Atom("all_t"), (BATCH, copy), "int")
        m.env["same", copy] = Value(same, (BATCH, TIME, copy), "bool")


def _step_copies(m: Method, memory: Streaming) -> None:
    if not m.model.copies:
        return
    t, ids = _entry(memory, "past_t"), _entry(memory, "past_segment")
    now, segment = _entry(memory, "position"), _entry(memory, "segment")
    m.line(f"all_t = torch.cat([{one_line(t)}, {one_line(now)}[:, None]], 1)")
    m.line(f"all_ids = torch.cat([{one_line(ids)}, {one_line(segment)}[:, None]], 1)")
    m.line(f"same = {one_line(segment)}[:, None] == all_ids")
    for copy in m.model.copies:
        m.env["position", copy] = Value(Atom("all_t"), (BATCH, copy), "int")
        m.env["same", copy] = Value(Atom("same"), (BATCH, copy), "bool")


def _step_local(body: Body, entry: Entry) -> None:
    """The state before the step, under the name that the update then takes."""
    m = body.m
    if entry.kind != "carry" or entry.scope:
        return
    name = m.local(entry.owner, True)
    m.write(f"{name} = ", begun(body, entry))
    value = Value(Atom(name), (BATCH, *entry.type.dims), entry.type.dtype)
    m.env["shift", *entry.source, TIME, -1] = value
    m.env["local", entry.owner] = value


def _entry(memory: Streaming, kind: str) -> Expr:
    entry = next(e for e in memory.entries if e.kind == kind)
    return Atom(f'state["{entry.key}"]')


def _check_state(c: Method, m: Method, memory: Streaming) -> None:
    """Refuse a state of another layer or batch."""
    items: list[tuple[str, Expr]] = []
    for entry in memory.entries:
        items.append((entry.key, _shape(c, entry)))
    if any("batch" in one_line(s) for _, s in items):
        m.needed["batch"] = None
        if c.in_time and not any(
            line.lstrip().startswith("batch =") for line in c.lines
        ):
            rows = next(
                (
                    one_line(m.env["ref", i.name].code)
                    for i in c.model.inputs
                    if BATCH in i.type.axes
                ),
                None,
            )
            c.line(f"batch = len({rows})" if rows else f"batch = {_batch_of(memory)}")
    helper, pad = c.helper("_check_state"), " " * c.indent
    lines = _dict_lines(f"{helper}(state, ", items, c.indent, ")")
    if len(lines) > 1:
        inner = _dict_lines("", items, c.indent + 4, ",")
        lines = [f"{pad}{helper}(", f"{pad}    state,", *inner, f"{pad})"]
    c.lines += lines


def _shape(c: Method, entry: Entry) -> Expr:
    if entry.scope:
        count = c.model.repeat[entry.scope[0]].count
        return Atom("None") if isinstance(count, ir.Base) else c.size(count)
    if entry.kind == "call":
        return Atom("None")
    dims = c.extents(entry.type.dims)
    match entry.kind:
        case "position" | "segment" | "carry":
            return tuple_of([Atom("batch"), *dims])
        case "seed":
            return Atom("()")
        case "past_t" | "past_segment" | "past":
            return tuple_of([Atom("batch"), Atom('"past"'), *dims])
        case _:
            return tuple_of([Atom("batch"), _count(c, entry), *dims])


def _count(c: Method, entry: Entry) -> Expr:
    size: Size | None = entry.count
    return Atom("0") if size is None else c.size(size)


def _refusal(model: ir.Model, memory: Streaming, indent: int = 8) -> list[str]:
    why, span = memory.reasons[0]
    place = where(span)
    text = f"{model.name} cannot run step by step: {why}"
    text += f" ({place})" if place else ""
    pad = " " * indent
    return layout(
        "raise ",
        call(
            "UnsupportedError",
            Atom(repr(text).replace("'", '"') if '"' not in text else repr(text)),
        ),
        "",
        len(pad),
    )


# ---- Results


def _outputs(m: Method, result: str | None) -> Expr:
    codes: list[Expr] = []
    for output in m.model.outputs:
        m.current = output.name
        value = expression(m, output.expr)
        value = tensor(
            m, cast(m, value, output.expr.type.dtype), output.expr.type.dtype
        )
        code = one_or_full(m, value, output.expr.type)
        if not isinstance(code, Atom):
            name = m.local(output.name, TIME in output.expr.type.axes)
            m.write(f"{name} = ", code, "", output.span)
            code = Atom(name)
        codes.append(code)
    return codes[0] if result is None else call(result, *codes)


def _after(body: Body) -> None:
    """The entries that concern time itself, after these steps."""
    m, memory = body.m, body.memory
    for entry in memory.entries:
        now = Atom(f'state["{entry.key}"]')
        match entry.kind:
            case "position":
                after = (
                    Atom(f"{one_line(now)} + 1")
                    if m.in_time
                    else call(m.helper("_next"), "t", now)
                )
            case "segment":
                after = now if m.in_time else call(m.helper("_last"), "segments", now)
            case "seed":
                after = now
            case "past_t" | "past_segment":
                seen = Atom("all_t" if entry.kind == "past_t" else "all_ids")
                after = (
                    seen
                    if entry.count is None
                    else call(m.helper("_recent"), seen, m.size(entry.count))
                )
            case _:
                continue
        m.next[entry.key] = after


def _dict(m: Method, memory: Streaming) -> Expr:
    items = [
        (e.key, m.next.get(e.key, Atom(f'state["{e.key}"]'))) for e in memory.entries
    ]
    inside = ", ".join(f'"{k}": {one_line(v)}' for k, v in items)
    one = f"{{{inside}}}"
    if len(one) <= 60:
        return Atom(one)
    m.lines += _dict_lines("state = ", items, m.indent)
    return Atom("state")


def _dict_lines(
    head: str, items: Sequence[tuple[str, Expr]], indent: int, tail: str = ""
) -> list[str]:
    pad = " " * indent
    inside = ", ".join(f'"{k}": {one_line(v)}' for k, v in items)
    one = f"{pad}{head}{{{inside}}}{tail}"
    if len(one) <= 88:
        return [one]
    lines = [f"{pad}{head}{{"]
    for key, value in items:
        lines += layout(f'"{key}": ', value, ",", indent + 4)
    return [*lines, f"{pad}}}{tail}"]


def _returns(m: Method, memory: Streaming, outputs: Expr, streams: bool) -> list[str]:
    lines: list[str] = []
    if not isinstance(outputs, Atom):
        m.write("outputs = ", outputs)
        outputs = Atom("outputs")
    if not streams:
        return [f"        return {one_line(outputs)}"]
    lines.append("        if not return_state:")
    lines.append(f"            return {one_line(outputs)}")
    if not memory.entries:
        lines.append(f"        return {one_line(outputs)}, {{}}")
        return lines
    items = [
        (e.key, m.next.get(e.key, Atom(f'state["{e.key}"]'))) for e in memory.entries
    ]
    return [*lines, *_dict_lines(f"return {one_line(outputs)}, ", items, 8)]


# ---- The state before the first step


def _initial(m: Method, entry: Entry) -> Expr:
    code = _initial_one(m, entry)
    for axis in reversed(entry.scope):
        repeat = m.model.repeat[axis]
        assert not isinstance(repeat.count, ir.Base)
        prefix = _list_of(m, entry, axis)
        holder = m.holders.get(prefix) if prefix is not None else None
        if prefix is not None and holder is not None and holder in one_line(code):
            code = Each(code, f"for {holder} in {path(m, prefix)}")
        else:
            count = one_line(m.size(repeat.count))
            code = Each(code, f"for _ in range({count})")
    return code


def _list_of(m: Method, entry: Entry, axis: str) -> str | None:
    if entry.call is None:
        return None
    parts = entry.call.instance.split(".")
    mark = f"{{{axis}}}"
    return ".".join(parts[: parts.index(mark)]) if mark in parts else None


def _initial_one(m: Method, entry: Entry) -> Expr:
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
        case "past_t" | "past_segment":
            return call("torch.zeros", "batch", "0", dtype="torch.int64", device=device)
        case "call":
            return _initial_call(m, entry)
        case _:
            return _filled(m, entry, dims)


def _initial_call(m: Method, entry: Entry) -> Expr:
    assert entry.call is not None
    name = entry.call.instance
    for axis in entry.scope:
        prefix = _list_of(m, entry, axis)
        if prefix is not None:
            m.holders[prefix] = "layer" if axis == entry.scope[-1] else f"{axis}_layer"
    code = path(m, f"{name}.")[:-1]
    return call(f"{code}.initial_state", "batch", device="device", dtype="dtype")


def _filled(m: Method, entry: Entry, dims: list[Expr]) -> Expr:
    """Zeros, or a state's initial value for every sequence."""
    from seqdsl.backends.torch.pointwise import dtype_code

    counts: list[Expr] = []
    if entry.kind == "past":
        counts = [Atom("0")]
    elif entry.kind != "carry":
        counts = [_count(m, entry)]
    sizes = [Atom("batch"), *counts, *dims]
    dtype = dtype_code(m, entry.type.dtype)
    state = m.model.state.get(entry.owner)
    early = state is not None and bool(state.initial.type.axes & {BATCH})
    if state is None or early or entry.kind == "conv":
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


_ = Opt
