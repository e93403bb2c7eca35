"""What the statements of a method take for granted: state, device, positions."""

from __future__ import annotations

from seqdsl.backends.torch.arguments import (
    anchor_of,
    check_state,
    entry_of,
    refusal,
    used_by,
)
from seqdsl.backends.torch.copy_position import copy_position
from seqdsl.backends.torch.exact import EXACT
from seqdsl.backends.torch.loop_state import begin_past, begun
from seqdsl.backends.torch.memory import Body
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.python import (
    Atom,
    Binary,
    one_line,
)
from seqdsl.backends.torch.streaming import Entry, Streaming
from seqdsl.backends.torch.values import Value
from seqdsl.ir.types import BATCH, TIME


def prologue(c: Method, m: Method, memory: Streaming, streams: bool) -> None:
    """Everything that the statements of the method take for granted."""
    model = c.model
    used = used_by(m, memory)
    if not streams:
        c.line("if state is not None or return_state:")
        c.lines += refusal(model, memory, 12)
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
    anchor = anchor_of(model, m)
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
            check_state(c, m, memory)
            c.indent -= 4
        elif _reads_state(m, memory):
            c.line(f"state = {made}")
    local_lines(c, m, memory)


def _reads_state(m: Method, memory: Streaming) -> bool:
    """Whether a layer that does not stream starts from a fresh state all the same."""
    inside = any("state[" in line for line in m.lines)
    around = memory.has("position") or "starts" in m.needed or m.model.copies
    return inside or bool(around)


def local_lines(c: Method, m: Method, memory: Streaming) -> None:
    """Device, dtype, beginnings of segments, positions."""
    model = c.model
    anchor = anchor_of(model, m)
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
    if "dtype" in m.needed or "exact" in m.needed:
        own = (
            None
            if floats is None
            else f"{one_line(m.env['ref', floats.name].code)}.dtype"
        )
        c.line(
            f"dtype = {f'{anchor}.dtype' if anchor else own or 'torch.get_default_dtype()'}"
        )
    if "exact" in m.needed:
        c.line(EXACT)
    if m.in_time:
        return
    if memory.has("segment") and (memory.has("position") or "starts" in m.needed):
        last = one_line(entry_of(memory, "segment"))
        c.line("starts = None")
        c.line("if segments is not None:")
        c.line(f"    starts = {c.helper('_starts')}(segments, {last})")
    if "ends" in m.needed:
        c.line(f"ends = None if segments is None else {c.helper('_ends')}(segments)")
    if memory.has("position"):
        first = one_line(entry_of(memory, "position"))
        c.line(f"t = {c.helper('_positions')}({first}, time, starts)")
    _copy_lines(c, m, memory)


def _copy_lines(c: Method, m: Method, memory: Streaming) -> None:
    # copies that only unused equations have leave nothing to remember
    if not c.model.copies or not memory.has("position"):
        return
    past = "t[:, :0]"
    if memory.has("past_t"):
        past = one_line(entry_of(memory, "past_t"))
        c.line(f"all_t = torch.cat([{past}, t], 1)")
    else:
        c.line("all_t = t")
    c.line(f"all_runs = {c.helper('_runs')}({past}, time, starts)")
    c.line("runs = all_runs[:, all_t.shape[1] - time :]")
    if "begun" in m.needed:
        c.line("begun = runs if starts is not None else runs[:, :1]")


def positions(m: Method, memory: Streaming) -> None:
    """What the prologue of `forward` provides."""
    if memory.has("position"):
        m.env["position", TIME] = Value(Atom("t"), (BATCH, TIME), "int")
    if memory.has("seed"):
        m.env["seed",] = Value(entry_of(memory, "seed"), (), "int")
    same = Binary("==", Atom("runs[:, :, None]"), Atom("all_runs[:, None]"))
    for copy in m.model.copies:
        m.env["position", copy] = copy_position(m.model, copy, Atom("all_t"))
        m.env["same", copy] = Value(same, (BATCH, TIME, copy), "bool")


def step_copies(m: Method, memory: Streaming) -> None:
    if not m.model.copies or not memory.has("past_t"):
        return
    t, now = entry_of(memory, "past_t"), entry_of(memory, "position")
    m.line(f"all_t = torch.cat([{one_line(t)}, {one_line(now)}[:, None]], 1)")
    m.line("same = all_t >= 0")
    for copy in m.model.copies:
        m.env["position", copy] = copy_position(m.model, copy, Atom("all_t"))
        m.env["same", copy] = Value(Atom("same"), (BATCH, copy), "bool")


def step_local(body: Body, entry: Entry) -> None:
    """The state before the step, under the name that the update then takes."""
    m = body.m
    if entry.scope or entry.copies:
        return
    if entry.kind == "lag":
        begin_past(body, entry)
    if entry.kind != "carry":
        return
    name = m.local(entry.owner, True)
    m.write(f"{name} = ", begun(body, entry))
    value = Value(Atom(name), (BATCH, *entry.type.dims), entry.type.dtype)
    m.env["shift", *entry.source, TIME, -1] = value
    m.env["local", entry.owner] = value
