"""Region → MLIR on tensors, for other compilers: `linalg` in a loop of `scf` over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seqdsl.backends.mlir.errors import KernelError
from seqdsl.backends.mlir.layout import extents_of
from seqdsl.backends.mlir.library_math import LibraryMath
from seqdsl.backends.mlir.statements import Statement, statements
from seqdsl.backends.mlir.writer import Level, Val, Writer
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import evaluate
from seqdsl.ir.types import BATCH, TIME, DType, Type
from seqdsl.schedule.region import Region

_ELEMENT: Mapping[DType, str] = {"float": "f32", "int": "i64", "bool": "i1"}
_START = {"sum": 0.0, "prod": 1.0, "max": float("-inf"), "min": float("inf")}
_COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}


def tensor_text(regions: Sequence[Region]) -> str:
    """One module with a function for each of `regions`, all of whose extents are known.

    A function takes the inputs of its region as tensors, `[batch, time, dims]` as they
    vary, and returns the outputs of every step and the states after the last.
    """
    return "\n".join(["module {", *(_Function(r).text() for r in regions), "}"]) + "\n"


@dataclass(frozen=True)
class _Tensor:
    """A value of one step: `dims` behind batch, where it has a row for each sequence."""

    name: str
    dims: tuple[str, ...]
    dtype: DType
    batched: bool


@dataclass
class _Function:
    region: Region
    w: Writer = field(default_factory=Writer)
    env: dict[str, _Tensor] = field(default_factory=dict[str, _Tensor])
    before: dict[str, _Tensor] = field(default_factory=dict[str, _Tensor])

    def __post_init__(self) -> None:
        if self.region.replay:
            raise KernelError("a loop that is run again has no form on tensors")
        self.extents = extents_of(self.region)
        self.p = LibraryMath(self.w, 32)
        self.t = ""

    # ---- Types

    def type_(self, dims: Sequence[str], dtype: DType, lead: int) -> str:
        sizes = ["?"] * lead + [str(self.extents[d]) for d in dims]
        return f"tensor<{''.join(f'{s}x' for s in sizes)}{_ELEMENT[dtype]}>"

    def of(self, tensor: _Tensor) -> str:
        return self.type_(tensor.dims, tensor.dtype, int(tensor.batched))

    # ---- The function

    def text(self) -> str:
        """All of it."""
        w, model = self.w, self.region.model
        arguments = [
            f"%arg{i}: {self.type_(x.type.dims, x.type.dtype, len(_axes(x.type)))}"
            for i, x in enumerate(model.inputs)
        ]
        batch, time = self._extent(BATCH), self._extent(TIME)
        self.batch = batch
        outputs = [o.expr.type for o in model.outputs]
        whole = [self.type_(o.dims, o.dtype, 2) for o in outputs]
        empty = [
            w.put(f"tensor.empty({batch}, {time}) : {type_}", 0) for type_ in whole
        ]
        states = [model.state[n].type for n in self.region.states]
        numbers = {x.name: i for i, x in enumerate(model.inputs)}
        first = [f"%arg{numbers[f'{n}_0']}" for n in self.region.states]
        types = [*(self.type_(s.dims, s.dtype, 1) for s in states), *whole]
        results = self._loop([*first, *empty], types, time)
        ordered = [*range(len(states), len(types)), *range(len(states))]
        returned = ", ".join(f"{results}#{i}" for i in ordered)
        kinds = ", ".join(types[i] for i in ordered)
        name = "".join(
            c if c.isascii() and c.isalnum() else "_" for c in self.region.name
        )
        head = f"  func.func @{name}({', '.join(arguments)}) -> ({kinds}) {{"
        lines = [f"    {line}" for line in w.levels[0].lines]
        return "\n".join([head, *lines, f"    return {returned} : {kinds}", "  }"])

    def _extent(self, axis: str) -> str:
        """How many sequences, or steps, there are."""
        for i, x in enumerate(self.region.model.inputs):
            axes = _axes(x.type)
            if axis in axes:
                place = self.w.constant(axes.index(axis))
                type_ = self.type_(x.type.dims, x.type.dtype, len(axes))
                return self.w.once(f"tensor.dim %arg{i}, {place} : {type_}")
        raise KernelError(f"no input says the extent of {axis}")

    def _loop(self, first: list[str], types: list[str], time: str) -> str:
        w, names = self.w, [f"%carried{i}" for i in range(len(first))]
        zero, one = w.constant(0), w.constant(1)
        last = w.once(f"arith.subi {time}, {one} : index")
        results = w.fresh()
        pairs = ", ".join(f"{n} = {f}" for n, f in zip(names, first, strict=True))
        head = (
            f"{results}:{len(first)} = scf.for %step = {zero} to {time} step {one} "
            f"iter_args({pairs}) -> ({', '.join(types)})"
        )
        with w.block(head):
            self.t = "%step"
            if self.region.direction == "backward":
                self.t = w.put(f"arith.subi {last}, %step : index", w.depth)
            for name, carried in zip(self.region.states, names, strict=False):
                type_ = self.region.model.state[name].type
                self.before[name] = _Tensor(carried, type_.dims, type_.dtype, True)
            after = self._step(names)
            w.line(f"scf.yield {', '.join(after)} : {', '.join(types)}")
        return results

    def _step(self, carried: list[str]) -> list[str]:
        """States and outputs after one step."""
        model = self.region.model
        for i, x in enumerate(model.inputs):
            self.env[x.name] = self._row(f"%arg{i}", x.type)
        for statement in statements(self.region, self.region.steps):
            self.env[statement.name] = self._generic(statement)
        states = [
            self._full(self.env[n], model.state[n].type) for n in self.region.states
        ]
        outputs: list[str] = []
        for output, into in zip(model.outputs, carried[len(states) :], strict=True):
            value = self._full(self.env[output.name], output.expr.type)
            outputs.append(self._put(value, output.expr.type, into))
        return [*states, *outputs]

    def _row(self, name: str, type_: Type) -> _Tensor:
        """An input at this step."""
        axes = _axes(type_)
        row = _Tensor(name, type_.dims, type_.dtype, BATCH in axes)
        if TIME not in axes:
            return row
        offsets = [self.t if a == TIME else "0" for a in axes]
        sizes = ["1" if a == TIME else self.batch for a in axes]
        extents = [str(self.extents[d]) for d in type_.dims]
        text = (
            f"tensor.extract_slice {name}[{', '.join([*offsets, *['0'] * len(extents)])}] "
            f"[{', '.join([*sizes, *extents])}] "
            f"[{', '.join(['1'] * (len(axes) + len(extents)))}] : "
            f"{self.type_(type_.dims, type_.dtype, len(axes))} to {self.of(row)}"
        )
        return _Tensor(self.w.put(text, self.w.depth), row.dims, row.dtype, row.batched)

    def _put(self, value: str, type_: Type, into: str) -> str:
        extents = [str(self.extents[d]) for d in type_.dims]
        places = ", ".join(["0", self.t, *["0"] * len(extents)])
        sizes = ", ".join([self.batch, "1", *extents])
        ones = ", ".join(["1"] * (2 + len(extents)))
        text = (
            f"tensor.insert_slice {value} into {into}[{places}] [{sizes}] [{ones}] : "
            f"{self.type_(type_.dims, type_.dtype, 1)} into "
            f"{self.type_(type_.dims, type_.dtype, 2)}"
        )
        return self.w.put(text, self.w.depth)

    def _full(self, value: _Tensor, type_: Type) -> str:
        """A value with a row for each sequence, its dims in the order of `type_`."""
        if value.batched and value.dims == type_.dims:
            return value.name
        ref = ir.Ref(name="", type=Type(value.dtype, value.dims))
        self.env[""] = value
        return self._generic(Statement("", type_.dims, type_.dtype, ref)).name

    # ---- One statement

    def _generic(self, statement: Statement) -> _Tensor:
        """`linalg.generic` over batch, the dims of the result and those summed over."""
        w, space = self.w, (*statement.dims, *statement.over)
        operands: dict[ir.Node, _Tensor] = {}
        self._operands(statement.expr, operands)
        made = _Tensor("", statement.dims, statement.dtype, True)
        init = w.put(f"tensor.empty({self.batch}) : {self.of(made)}", w.depth)
        if statement.op:
            start = self.p.number(self._start(statement), statement.dtype)
            element = _ELEMENT[statement.dtype]
            init = w.put(
                f"linalg.fill ins({start.name} : {element}) outs({init} : {self.of(made)}) "
                f"-> {self.of(made)}",
                w.depth,
            )
        tensors = [*operands.values(), _Tensor(init, made.dims, made.dtype, True)]
        names = [w.fresh() for _ in tensors]
        w.levels.append(Level())
        values = {
            node: Val(name, x.dtype, 0, w.depth)
            for (node, x), name in zip(operands.items(), names, strict=False)
        }
        result = self.p.cast(
            self._scalar(statement.expr, values, space), statement.dtype
        )
        if statement.op:
            result = self._combined(
                statement, Val(names[-1], statement.dtype, 0, w.depth), result
            )
        inner = w.levels.pop().lines
        inner.append(f"linalg.yield {result.name} : {_ELEMENT[statement.dtype]}")
        return self._written(tensors, names, inner, space, statement)

    def _written(
        self,
        tensors: list[_Tensor],
        names: list[str],
        inner: list[str],
        space: tuple[str, ...],
        statement: Statement,
    ) -> _Tensor:
        w, places = self.w, ["d0", *(f"d{i + 1}" for i in range(len(space)))]
        maps: list[str] = []
        for x in tensors:
            own = [places[space.index(d) + 1] for d in x.dims]
            own = ["d0", *own] if x.batched else own
            maps.append(f"affine_map<({', '.join(places)}) -> ({', '.join(own)})>")
        kinds = ['"parallel"'] * (1 + len(statement.dims))
        kinds += ['"reduction"'] * len(statement.over)
        *ins, out = tensors
        given = ""
        if ins:
            listed = ", ".join(x.name for x in ins)
            given = f"ins({listed} : {', '.join(map(self.of, ins))}) "
        result = w.fresh()
        w.line(
            f"{result} = linalg.generic {{indexing_maps = [{', '.join(maps)}], "
            f"iterator_types = [{', '.join(kinds)}]}} {given}"
            f"outs({out.name} : {self.of(out)}) {{"
        )
        heads = (
            f"{n}: {_ELEMENT[x.dtype]}" for n, x in zip(names, tensors, strict=True)
        )
        w.line(f"^bb0({', '.join(heads)}):")
        for line in inner:
            w.line(f"  {line}")
        w.line(f"}} -> {self.of(out)}")
        return _Tensor(result, out.dims, out.dtype, True)

    def _start(self, statement: Statement) -> float:
        op = str(statement.op)
        if op in ("any", "all"):
            return float(op == "all")
        value = _START[op]
        if statement.dtype == "int" and abs(value) == float("inf"):
            return 2**63 - 1 if value > 0 else -(2**63)
        return value

    def _combined(self, statement: Statement, total: Val, value: Val) -> Val:
        op = str(statement.op)
        if op in ("any", "all"):
            return self.p.plain(
                "arith.ori" if op == "any" else "arith.andi", total, value
            )
        return self.p.arithmetic(_COMBINE[op], total, value)

    # ---- Operands and what is done with their entries

    def _operands(self, node: ir.Node, found: dict[ir.Node, _Tensor]) -> None:
        match node:
            case ir.Map(args=args):
                for arg in args:
                    self._operands(arg, found)
            case ir.Const() | ir.Position():
                pass
            case _:
                found[node] = self._operand(node)

    def _operand(self, node: ir.Node) -> _Tensor:
        match node:
            case ir.Ref(name=name):
                return self.env[name]
            case ir.Shift(arg=ir.Ref(name=name)) if name in self.before:
                return self.before[name]
            case ir.Rename(arg=arg, pairs=pairs):
                x, new = self._operand(arg), dict(pairs)
                dims = tuple(new.get(d, d) for d in x.dims)
                return _Tensor(x.name, dims, x.dtype, x.batched)
            case ir.Split(arg=arg, dim=dim, into=into):
                return self._split(self._operand(arg), dim, into)
            case ir.Map():
                type_ = node.type
                return self._generic(Statement("", type_.dims, type_.dtype, node))
            case _:
                raise KernelError(f"no form of {type(node).__name__} on tensors")

    def _split(self, x: _Tensor, dim: str, into: tuple[str, ...]) -> _Tensor:
        groups: list[str] = []
        shape: list[str] = []
        dims: list[str] = []
        if x.batched:
            groups, shape = ["[0]"], [self.batch]
        for d in x.dims:
            parts = into if d == dim else (d,)
            places = range(len(shape), len(shape) + len(parts))
            groups.append(f"[{', '.join(map(str, places))}]")
            shape += [str(self.extents[p]) for p in parts]
            dims += parts
        made = _Tensor("", tuple(dims), x.dtype, x.batched)
        text = (
            f"tensor.expand_shape {x.name} [{', '.join(groups)}] "
            f"output_shape [{', '.join(shape)}] : {self.of(x)} into {self.of(made)}"
        )
        return _Tensor(self.w.put(text, self.w.depth), made.dims, x.dtype, x.batched)

    def _scalar(
        self, node: ir.Node, values: Mapping[ir.Node, Val], space: tuple[str, ...]
    ) -> Val:
        """The value of an expression at one place of the loops."""
        w = self.w
        match node:
            case ir.Const(value=size):
                value = evaluate(size, self.extents)
                assert not isinstance(value, str)
                return self.p.number(value, node.type.dtype)
            case ir.Position(along=along):
                index = self.t
                if along in space:
                    index = w.put(
                        f"linalg.index {space.index(along) + 1} : index", w.depth
                    )
                name = w.put(f"arith.index_cast {index} : index to i64", w.depth)
                return Val(name, "int", 0, w.depth)
            case ir.Map(op=op, args=args):
                inner = [self._scalar(a, values, space) for a in args]
                return self.p.apply(op, inner, node.type.dtype)
            case _:
                return values[node]


def _axes(type_: Type) -> list[str]:
    return [a for a in (BATCH, TIME) if a in type_.axes]
