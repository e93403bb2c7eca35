"""What methods take: signatures, inputs and what refuses them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seqdsl.backends.torch.lines import layout
from seqdsl.backends.torch.method import Method, where
from seqdsl.backends.torch.names import identifier
from seqdsl.backends.torch.parameters import first_path
from seqdsl.backends.torch.python import Atom, Expr, call, one_line, tuple_of
from seqdsl.backends.torch.streaming import Entry, Streaming
from seqdsl.backends.torch.values import Value
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size
from seqdsl.ir.types import BATCH, TIME

OPTIONAL = (
    "state: dict[str, Any] | None = None",
    "segments: Tensor | None = None",
    "return_state: bool = False",
)


INITIAL = (
    "self",
    "batch: int = 1",
    "*",
    "device: torch.device | None = None",
    "dtype: torch.dtype | None = None",
)


def signature(name: str, parameters: Sequence[str]) -> list[str]:
    one = f"    def {name}({', '.join(parameters)}):"
    if len(one) <= 88:
        return [one]
    return [f"    def {name}(", *(f"        {p}," for p in parameters), "    ):"]


def inputs(m: Method) -> list[str]:
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
        # callers use the declared name, also where a local of ours has it
        args.append(name if m.in_time else identifier(item.name))
    return args


def aliases(m: Method, args: Sequence[str]) -> list[str]:
    """Lines that give inputs their local names where those differ."""
    lines: list[str] = []
    for item, arg in zip(m.model.inputs, args, strict=True):
        local = one_line(m.env["ref", item.name].code)
        if local != arg:
            lines.append(f"{' ' * 8}{local} = {arg}")
    return lines


def extent_keywords(model: ir.Model) -> list[str]:
    """Keywords for extents that no input tells."""
    axes = {a for i in model.inputs for a in i.type.axes}
    batch = [] if BATCH in axes else ["batch: int = 1"]
    return [*batch, *([] if TIME in axes else ["time: int"])]


def checks(c: Method, args: list[str], timed: bool) -> None:
    """A line for every input that refuses what does not fit."""
    anchor = anchor_of(c.model, c)
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


def extent_lines(c: Method, m: Method, args: list[str], memory: Streaming) -> None:
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
    used = used_by(m, memory)
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


def used_by(m: Method, memory: Streaming) -> set[str]:
    used = set(m.needed)
    if memory.entries and not m.in_time:
        used.add("batch")
    if "t" in used or "starts" in used or "ends" in used or memory.has("position"):
        used |= {"time", "batch"}
    return used


def anchor_of(model: ir.Model, m: Method) -> str | None:
    """A parameter that says in which dtype and where the module computes."""
    key = _anchor(model)
    if key is not None:
        return first_path(key)
    # those of repeats that may take no step are looked for when they are needed
    return f"{m.helper('_any_parameter')}(self)" if _learns(model) else None


def _anchor(model: ir.Model) -> str | None:
    """The key of one that is always there: an own one if possible, else a sub-layer's."""
    for param in sorted(model.params, key=lambda p: bool(p.type.axes)):
        if param.type.dtype == "float" and _runs(model, param.type.axes):
            return param.key
    for instance in model.instances:
        inner = _anchor(instance.model) if _runs(model, instance.scope) else None
        if inner is not None:
            return f"{instance.name}.{inner}"
    return None


def _runs(model: ir.Model, axes: Iterable[str]) -> bool:
    """Whether the repeats along `axes` take a step whatever the options are."""
    counts = [model.repeat[a].count for a in axes]
    return all(isinstance(c, Lit) and c != Lit(0) for c in counts)


def _learns(model: ir.Model) -> bool:
    return any(p.type.dtype == "float" for p in model.params) or any(
        _learns(i.model) for i in model.instances
    )


def check_state(c: Method, m: Method, memory: Streaming) -> None:
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
    lines = dict_lines(f"{helper}(state, ", items, c.indent, ")")
    if len(lines) > 1:
        inner = dict_lines("", items, c.indent + 4, ",")
        lines = [f"{pad}{helper}(", f"{pad}    state,", *inner, f"{pad})"]
    c.lines += lines


def _shape(c: Method, entry: Entry) -> Expr:
    if entry.scope:
        count = c.model.repeat[entry.scope[0]].count
        return Atom("None") if isinstance(count, ir.Base) else c.size(count)
    if entry.kind == "call":
        return Atom("None")
    dims = [*(Atom('"past"') for _ in entry.copies), *c.extents(entry.type.dims)]
    match entry.kind:
        case "position" | "segment" | "carry":
            return tuple_of([Atom("batch"), *dims])
        case "seed":
            return Atom("()")
        case "past_t" | "past":
            return tuple_of([Atom("batch"), Atom('"past"'), *dims])
        case _:
            return tuple_of([Atom("batch"), count_of(c, entry), *dims])


def count_of(c: Method, entry: Entry) -> Expr:
    size: Size | None = entry.count
    return Atom("0") if size is None else c.size(size)


def _batch_of(memory: Streaming) -> str:
    entry = next(
        (e for e in memory.entries if not e.scope and e.kind not in ("seed", "call")),
        None,
    )
    return "1" if entry is None else f'len(state["{entry.key}"])'


def refusal(model: ir.Model, memory: Streaming, indent: int = 8) -> list[str]:
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


def dict_lines(
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


def entry_of(memory: Streaming, kind: str) -> Expr:
    entry = next(e for e in memory.entries if e.kind == kind)
    return Atom(f'state["{entry.key}"]')
