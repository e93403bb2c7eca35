"""The methods that compute: `forward` and `step`."""

from __future__ import annotations

from seqdsl.backends.torch.arguments import (
    OPTIONAL,
    aliases,
    check_state,
    checks,
    dict_lines,
    entry_of,
    extent_keywords,
    extent_lines,
    inputs,
    refusal,
    signature,
)
from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.lines import layout
from seqdsl.backends.torch.memory import Body, one_or_full
from seqdsl.backends.torch.method import Layer, Method
from seqdsl.backends.torch.names import Names
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.prologue import (
    local_lines,
    positions,
    prologue,
    step_copies,
    step_local,
)
from seqdsl.backends.torch.python import Atom, Expr, call, one_line, tuple_of
from seqdsl.backends.torch.remembered import forget
from seqdsl.backends.torch.steps import run
from seqdsl.backends.torch.streaming import Streaming
from seqdsl.backends.torch.values import Value
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.plan import Plan


def forward(
    layer: Layer, plan: Plan, memory: Streaming, result: str | None
) -> tuple[list[str], bool]:
    """`forward(self, x, *, state=None, segments=None, return_state=False)`.

    Also says whether positions along time are used.
    """
    m = Method(layer, Names())
    args = inputs(m)
    local_names = aliases(m, args)
    streams = not memory.reasons
    keywords = extent_keywords(m.model)
    head = ["self", *(f"{a}: Tensor" for a in args), "*", *keywords, *OPTIONAL]
    setup: list[str] = []
    body = Body(m, memory, streams)
    positions(m, memory)
    body.enter(())
    run(body, plan.steps)
    outputs = _outputs(m, result)
    body.leave(())
    _after(body)
    tail = _returns(body, outputs)
    guard = Method(layer, m.names)
    checks(guard, args, timed=True)
    extent_lines(guard, m, args, memory)
    prologue(guard, m, memory, streams)
    setup = [*local_names, *guard.lines]
    doc = [f'{" " * 8}"""Whole sequences at once: `[batch, time, …]` in and out."""']
    lines = [*signature("forward", head), *doc]
    uses_t = "t" in m.needed or bool(m.model.copies)
    return [*lines, *setup, *m.lines, *tail], uses_t


def step(layer: Layer, plan: Plan, memory: Streaming, result: str | None) -> list[str]:
    """`step(self, x_t, state)`: one token."""
    m = Method(layer, Names(), in_time=True)
    args = inputs(m)
    typed = [f"{a}: Tensor" for a in args]
    head = signature("step", ["self", *typed, "state: dict[str, Any]"])
    doc = [f'{" " * 8}"""One step of a stream: `(outputs, next state)`."""']
    if memory.reasons:
        return [*head, *doc, *refusal(layer.model, memory)]
    body = Body(m, memory, True)
    if memory.has("position"):
        m.env["position", TIME] = Value(entry_of(memory, "position"), (BATCH,), "int")
    if memory.has("seed"):
        m.env["seed",] = Value(entry_of(memory, "seed"), (), "int")
    step_copies(m, memory)
    body.enter(())
    for entry in memory.entries:
        step_local(body, entry)
    run(body, plan.steps)
    outputs = _outputs(m, result)
    body.leave(())
    _after(body)
    m.lines += forget(body)
    names = _dict(m, memory)
    guard = Method(layer, m.names, in_time=True)
    checks(guard, args, timed=False)
    extent_lines(guard, m, args, memory)
    check_state(guard, m, memory)
    local_lines(guard, m, memory)
    lines = layout("return ", tuple_of([outputs, names]), "", 8)
    lines = [_unparenthesized(line, i, lines) for i, line in enumerate(lines)]
    return [*head, *doc, *guard.lines, *m.lines, *lines]


def step_through(layer: Layer, memory: Streaming, result: str | None) -> list[str]:
    """`step(self, x_t, state)` by way of `forward` over one step."""
    m = Method(layer, Names(), in_time=True)
    args = inputs(m)
    model = layer.model
    typed = [f"{a}: Tensor" for a in args]
    lines = signature("step", ["self", *typed, "state: dict[str, Any]"])
    lines += [f'{" " * 8}"""One step of a stream: `(outputs, next state)`."""']
    guard = Method(layer, m.names, in_time=True)
    checks(guard, args, timed=False)
    given = [
        f"{a}[:, None]"
        if {BATCH, TIME} <= i.type.axes
        else f"{a}[None]"
        if TIME in i.type.axes
        else a
        for a, i in zip(args, model.inputs, strict=True)
    ]
    extents = [k.split(":")[0] for k in extent_keywords(model)]
    if "batch" in extents:
        key = memory.entries[0].key
        given.append(f'batch=len(state["{key}"])')
    if "time" in extents:
        given.append("time=1")
    given += ["state=state", "return_state=True"]
    lines += [
        *guard.lines,
        *layout("outputs, state = ", call("self.forward", *map(Atom, given)), "", 8),
    ]
    varies = [TIME in o.expr.type.axes for o in model.outputs]
    if result is None:
        code = "outputs[:, 0]" if varies[0] else "outputs"
    else:
        parts = [
            f"outputs[{i}]" + ("[:, 0]" if v else "") for i, v in enumerate(varies)
        ]
        code = f"{result}({', '.join(parts)})"
    return [*lines, f"{' ' * 8}return {code}, state"]


def _unparenthesized(line: str, i: int, lines: list[str]) -> str:
    """`return a, b` on one line needs no parentheses."""
    if len(lines) == 1 and line.strip().startswith("return ("):
        return line.replace("return (", "return ", 1)[:-1]
    return line


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
            case "past_t":
                seen: Expr = Atom("all_t")
                if not m.in_time:
                    helper = m.helper("_as_past")
                    seen = call(helper, "all_t", "all_runs", "starts")
                after = (
                    seen
                    if entry.count is None
                    else call(m.helper("_recent"), seen, m.whole(entry.count))
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
    m.lines += dict_lines("state = ", items, m.indent)
    return Atom("state")


def _returns(body: Body, outputs: Expr) -> list[str]:
    m, memory = body.m, body.memory
    lines: list[str] = []
    if not isinstance(outputs, Atom):
        m.write("outputs = ", outputs)
        outputs = Atom("outputs")
    if not body.streams:
        return [f"        return {one_line(outputs)}"]
    lines.append("        if not return_state:")
    lines.append(f"            return {one_line(outputs)}")
    if not memory.entries:
        lines.append(f"        return {one_line(outputs)}, {{}}")
        return lines
    lines += forget(body)
    items = [
        (e.key, m.next.get(e.key, Atom(f'state["{e.key}"]'))) for e in memory.entries
    ]
    return [*lines, *dict_lines(f"return {one_line(outputs)}, ", items, 8)]
