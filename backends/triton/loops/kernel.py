"""Region → the text of one kernel: a program runs all steps of a sequence.

Every value is a tensor with a dimension for each dim of the region, of extent 1 along
those that it lacks, so that names broadcast by place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from seqdsl.backends.torch.names import Names, identifier
from seqdsl.backends.triton.loops.extents import dims_of, parallel_of
from seqdsl.backends.triton.loops.pointwise import FLAGS, REDUCTIONS, TEXTS
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.schedule.region import Region

_OWN = (
    "b",
    "t",
    "T",
    "step",
    "starts",
    "fresh",
    "tl",
    "triton",
    "SEGMENTED",
    "part",
    "origin",
    "wide",
)


@dataclass
class Writer:
    """The lines of a kernel as they come."""

    region: Region
    dims: tuple[str, ...]
    parallel: tuple[str, ...]
    lines: list[str] = field(default_factory=list[str])
    names: Names = field(default_factory=lambda: Names(frozenset(_OWN)))
    values: dict[str, str] = field(default_factory=dict[str, str])
    carried: dict[str, str] = field(default_factory=dict[str, str])
    numbers: dict[Size, str] = field(default_factory=dict[Size, str])
    strides: list[str] = field(default_factory=list[str])

    def name(self, wanted: str) -> str:
        """A name of its own for a value."""
        return self.names.new(identifier(wanted.replace(".", "_")))

    def put(self, text: str, depth: int = 1) -> None:
        """Add a line."""
        self.lines.append("    " * depth + text)

    # ---- Memory

    def place(self, pointer: str, lead: str, dims: tuple[str, ...]) -> str:
        """Where the entries of a value are; `lead` says of which row."""
        at = lead
        for dim in dims:
            at = f"({at}) * N_{_id(dim)} + {_id(dim)}" if at else _id(dim)
        parts = [pointer, *([at] if at else [])]
        if self.dims and not dims:
            parts.append("origin")  # a number has as many dimensions as all else
        return " + ".join(parts)

    def strided(self, pointer: str, axes: frozenset[str]) -> str:
        """Where a value is for a sequence and a step: the strides are arguments."""
        for index, axis in (("b", BATCH), ("t", TIME)):
            if axis in axes:
                self.strides.append(self.name(f"{pointer.split(' ')[0]}_{index}"))
                pointer += f" + {index} * {self.strides[-1]}"
        return pointer

    def count(self, dims: tuple[str, ...]) -> str:
        """How many entries there are."""
        return " * ".join(f"N_{_id(d)}" for d in dims) or "1"

    def mask(self, dims: tuple[str, ...]) -> str:
        """Which entries are there."""
        return " & ".join(f"in_{_id(d)}" for d in dims)

    def load(self, pointer: str, lead: str, type_: Type) -> str:
        """A value from memory; numbers as float32."""
        where, mask = self.place(pointer, lead, type_.dims), self.mask(type_.dims)
        text = (
            f"tl.load({where}, mask={mask}, other=0)" if mask else f"tl.load({where})"
        )
        return f"{text}.to(tl.float32)" if type_.dtype == "float" else text

    def store(self, pointer: str, lead: str, dims: tuple[str, ...], value: str) -> str:
        """A value into memory."""
        where, mask = self.place(pointer, lead, dims), self.mask(dims)
        made = f"({value}).to({pointer}.dtype.element_ty)"
        if mask:
            return f"tl.store({where}, {self.whole(made, dims)}, mask={mask})"
        return f"tl.store({where}, {made})"

    def whole(self, value: str, dims: tuple[str, ...]) -> str:
        """`value` along all of `dims`."""
        shape = self.shape(dims)
        return f"tl.broadcast_to({value}, {shape})" if self.dims else value

    def shape(self, dims: tuple[str, ...]) -> str:
        """The shape of a value that has `dims`."""
        sizes = [f"B_{_id(d)}" if d in dims else "1" for d in self.dims]
        return f"[{', '.join(sizes)}]"

    # ---- Expressions

    def text(self, node: ir.Node) -> str:
        """`node` as an expression."""
        match node:
            case ir.Const(value=Lit(value)):
                return _number(value)
            case ir.Const(value=value):
                if value not in self.numbers:
                    self.numbers[value] = self.name("number")
                return self.numbers[value]
            case ir.Ref(name=name):
                return self.values[name]
            case ir.Shift(arg=ir.Ref(name=name)):
                return self.carried[name]
            case ir.Map(op=op, args=args):
                flags = FLAGS.get(op, 0)
                if op == "where" and node.type.dtype == "bool":
                    flags = len(args)
                texts = [
                    self.text(a) if i < flags else self.number(a)
                    for i, a in enumerate(args)
                ]
                return TEXTS[op].format(*texts)
            case ir.Contract(args=args, over=over):
                return self.reduced("sum", " * ".join(map(self.number, args)), over)
            case ir.Reduce(op=op, arg=arg, over=over):
                made = self.reduced(op, self.number(arg), over)
                count = " * ".join(f"N_{_id(d)}" for d in over)
                return f"({made} / ({count}))" if op == "mean" else made
            case ir.Along(op=op, arg=arg, over=over):
                text = self.number(arg)
                logs = f"({text} - {self.reduced('logsumexp', text, over)})"
                return logs if op == "log_softmax" else f"tl.exp{logs}"
            case ir.Rename(arg=arg, pairs=pairs):
                return self.renamed(self.text(arg), dict(pairs))
            case _:
                raise AssertionError(f"{type(node).__name__} is not supported")

    def tensor(self, node: ir.Node) -> str:
        """`node` as a tensor, also where it is a number that is known."""
        if not isinstance(node, ir.Const):
            return self.text(node)
        dtype = {"bool": "tl.int1", "int": "tl.int32"}.get(
            node.type.dtype, "tl.float32"
        )
        return f"tl.full({self.shape(())}, {self.text(node)}, {dtype})"

    def number(self, node: ir.Node) -> str:
        """`node` as an expression; what is true counts as 1."""
        text = self.text(node)
        return f"({text}).to(tl.float32)" if node.type.dtype == "bool" else text

    def reduced(self, op: str, text: str, over: tuple[str, ...]) -> str:
        """`text` without the dims `over`."""
        function, unit = REDUCTIONS[op]
        if not over:
            return f"({text})"
        text = f"tl.where({self.mask(over)}, {text}, {unit})"
        for dim in over:
            text = f"{function}({text}, axis={self.dims.index(dim)}, keep_dims=True)"
        return text

    def renamed(self, text: str, pairs: dict[str, str]) -> str:
        """`text` with its dims in other places."""
        order: list[int | None] = [None] * len(self.dims)
        for old, new in pairs.items():
            order[self.dims.index(new)] = self.dims.index(old)
        for i, dim in enumerate(self.dims):
            if order[i] is None and dim not in pairs:
                order[i] = i
        free = [i for i in range(len(order)) if i not in order]
        places = [free.pop(0) if i is None else i for i in order]
        return f"tl.permute({text}, {places})"


def kernel_text(name: str, region: Region) -> tuple[str, dict[Size, str]]:
    """The kernel of a region, and its names of numbers that options decide.

    Its arguments are in the order in which a `Loop` gives them.
    """
    w = Writer(region, dims_of(region), parallel_of(region))
    model = region.model
    inputs = {i.name: w.name(i.name) for i in model.inputs}
    carried = {f"{s}_0" for s in region.states}
    states = [model.state[s] for s in region.states]
    again = [w.name(f"{s.name}_again") for s in states]
    pointers = tuple(inputs.values())
    outputs = [w.name(f"{o.name}_out") for o in model.outputs]
    last = [w.name(f"{s.name}_last") for s in states]
    _begin(w)
    for read in model.inputs:
        pointer = inputs[read.name]
        if read.name in carried:
            inputs[read.name] = f"{pointer} + b * {w.count(read.type.dims)}"
        else:
            inputs[read.name] = w.strided(pointer, read.type.axes)
        if TIME not in read.type.axes:
            local = w.values[read.name] = w.name(f"{read.name}_all")
            w.put(f"{local} = {w.load(inputs[read.name], '', read.type)}")
    for state in states:
        w.carried[state.name] = w.name(f"{state.name}_before")
        first = w.values[f"{state.name}_0"]
        w.put(f"{w.carried[state.name]} = {first}")
    fresh = [w.strided(pointer, frozenset((BATCH, TIME))) for pointer in again]
    _loop(w, inputs, fresh, outputs)
    for state, pointer in zip(states, last, strict=True):
        value = w.carried[state.name]
        w.put(w.store(pointer, "b", state.type.dims, value))
    arguments = [*pointers, "starts", *again, *outputs, *last, "T", *w.strides]
    constants = [f"{p}_{_id(d)}" for d in w.dims for p in ("N", "B")]
    constants += [*w.numbers.values(), "SEGMENTED"]
    given = ", ".join([*arguments, *(f"{c}: tl.constexpr" for c in constants)])
    doc = f'    """All steps of {", ".join(region.states)}: a program for each sequence."""'
    lines = ["@triton.jit", f"def {name}({given}):  # fmt: skip", doc, *w.lines]
    return "\n".join(lines), w.numbers


def _begin(w: Writer) -> None:
    """Which sequence and which block of each dim a program has."""
    w.put("b = tl.program_id(0).to(tl.int64)")
    if w.parallel:
        w.put("part = tl.program_id(1)")
    if w.dims:
        w.put(f"origin = tl.full({w.shape(())}, 0, tl.int32)")
    for i, dim in enumerate(w.dims):
        name = _id(dim)
        index = ", ".join(":" if j == i else "None" for j in range(len(w.dims)))
        at = f"tl.arange(0, B_{name})[{index}]"
        if dim in w.parallel:
            w.put(f"{name} = (part % tl.cdiv(N_{name}, B_{name})) * B_{name} + {at}")
            w.put(f"part = part // tl.cdiv(N_{name}, B_{name})")
        else:
            w.put(f"{name} = {at}")
        w.put(f"in_{name} = {name} < N_{name}")


def _loop(
    w: Writer, inputs: dict[str, str], again: list[str], outputs: list[str]
) -> None:
    """The steps: what they read, the equations, what they store."""
    model, region = w.region.model, w.region
    w.put("wide = tl.full([], 0, tl.int64)")
    w.put("for step in range(T):")
    w.put(
        f"t = wide + {'step' if region.direction == 'forward' else 'T - 1 - step'}", 2
    )
    w.put("if SEGMENTED:", 2)
    w.put("fresh = tl.load(starts + b * T + t)", 3)
    for name, pointer in zip(region.states, again, strict=True):
        old, type_ = w.carried[name], model.state[name].type
        w.put(f"{old} = tl.where(fresh, {w.load(pointer, '', type_)}, {old})", 3)
    for read in model.inputs:
        if TIME in read.type.axes:
            local = w.values[read.name] = w.name(f"{read.name}_t")
            w.put(f"{local} = {w.load(inputs[read.name], '', read.type)}", 2)
    for equation in (model.equation[n] for n in region.steps):
        local = w.values[equation.name] = w.name(equation.name)
        w.put(f"{local} = {w.tensor(equation.expr)}", 2)
    for output, pointer in zip(model.outputs, outputs, strict=True):
        value = w.text(output.expr)
        w.put(w.store(pointer, "b * T + t", output.expr.type.dims, value), 2)
    for name in region.states:
        dims = model.state[name].type.dims
        w.put(f"{w.carried[name]} = {w.whole(w.values[name], dims)}", 2)


def _id(dim: str) -> str:
    return "d_" + identifier(dim)


def _number(value: float | bool | str) -> str:
    if isinstance(value, bool):
        return str(value)
    text = repr(value)
    return f'float("{text}")' if text in ("inf", "-inf", "nan") else f"({text})"
