"""Pointwise expressions of a statement at one place of its loops."""

from __future__ import annotations

from dataclasses import dataclass, field

from seqdsl.backends.mlir.errors import KernelError
from seqdsl.backends.mlir.kernel import Kernel
from seqdsl.backends.mlir.memory import BEFORE, NOW, ROW, Env, Memory
from seqdsl.backends.mlir.pointwise import Pointwise
from seqdsl.backends.mlir.writer import Index, Val, Writer
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Size, evaluate
from seqdsl.ir.types import BATCH, TIME


@dataclass
class Expressions:
    """Evaluates nodes; `now` are values that the innermost nest has just computed.

    Values of this step are read back from their buffers not before block `floor`.
    """

    kernel: Kernel
    w: Writer
    memory: Memory
    p: Pointwise
    floor: int = 0
    now: dict[tuple[object, ...], Val] = field(
        default_factory=dict[tuple[object, ...], Val]
    )

    def place(self, env: Env, dims: tuple[str, ...]) -> tuple[object, ...]:
        """What distinguishes one place of the loops from another."""
        names = [d for d in (ROW, BATCH, TIME, NOW, BEFORE, *sorted(dims)) if d in env]
        return tuple((d, env[d].name, env[d].lanes) for d in names)

    def value(self, node: ir.Node, env: Env) -> Val:
        """The value of `node` at `env`."""
        key = (node, self.place(env, node.type.dims))
        found = self.w.find(key)
        if found is not None:
            return found
        made = self._make(node, env)
        if isinstance(node, ir.Ref) and self._fresh(node.name, env, node.type.dims):
            return made
        return self.w.keep(key, made)

    def _fresh(self, name: str, env: Env, dims: tuple[str, ...]) -> bool:
        return (name, self.place(env, dims)) in self.now

    def _make(self, node: ir.Node, env: Env) -> Val:
        match node:
            case ir.Const(value=value):
                return self.p.number(self._number(value), node.type.dtype)
            case ir.Position(along=along):
                return self._position(env[along])
            case ir.Ref(name=name):
                return self._read(name, env, node.type.dims)
            case ir.Shift(arg=ir.Ref(name=name)):
                return self._earlier(name, env)
            case ir.Map(op="mul") if node.type.dtype == "float":
                return self._product(node, env)
            case ir.Map(op=op, args=args):
                values = [self.value(a, env) for a in args]
                return self.p.apply(op, values, node.type.dtype)
            case ir.Rename(arg=arg, pairs=pairs):
                return self.value(arg, {**env, **{old: env[new] for old, new in pairs}})
            case ir.Split(arg=arg, dim=dim, into=into):
                return self.value(arg, {**env, dim: self._joined(env, into)})
            case ir.Merge(arg=arg, dims=dims, into=into):
                return self._merged(arg, dims, into, env)
            case ir.SliceDim(arg=arg, dim=dim, start=start, step=step, into=into):
                first, every = self._whole(start), self._whole(step)
                at = self._scaled(env[into], first, every)
                return self.value(arg, {**env, dim: at})
            case ir.Gather(arg=arg, dim=dim, index=index):
                return self._looked_up(arg, dim, index, env)
            case _:
                raise KernelError(f"a kernel has no form of {type(node).__name__}")

    def _product(self, node: ir.Node, env: Env) -> Val:
        """Factors that are known further outside first: their product is made there."""
        values = [self.p.cast(v, "float") for v in self._factors(node, env)]
        whole: Val | None = None
        for level in sorted({v.level for v in values}):
            here = sorted((v for v in values if v.level == level), key=_lanes)
            part = here[0]
            for value in here[1:]:
                part = self.p.arithmetic("mul", part, value)
            whole = part if whole is None else self.p.arithmetic("mul", whole, part)
        assert whole is not None
        return whole

    def _factors(self, node: ir.Node, env: Env) -> list[Val]:
        match node:
            case ir.Map(op="mul", args=args) if node.type.dtype == "float":
                if self.w.find((node, self.place(env, node.type.dims))) is None:
                    return [v for a in args for v in self._factors(a, env)]
            case _:
                pass
        return [self.value(node, env)]

    def _number(self, size: Size) -> float:
        value = evaluate(size, self.kernel.extents)
        assert not isinstance(value, str)
        return value

    def _read(self, name: str, env: Env, dims: tuple[str, ...]) -> Val:
        made = self.now.get((name, self.place(env, dims)))
        if made is not None:
            return made
        if f"{name}.new" in {b.name for b in self.kernel.locals}:
            name = f"{name}.new"
        buffer = self.kernel.buffer(name)
        floor = 0 if buffer.role == "input" else self.floor
        return self.memory.load(buffer, env, floor)

    def _earlier(self, name: str, env: Env) -> Val:
        """A state of the step before, or an input there (at the first step: itself)."""
        buffer = self.kernel.buffer(name)
        if buffer.role != "input":
            before = {**env, NOW: env[BEFORE]} if BEFORE in env else env
            return self.memory.load(buffer, before, self.floor)
        w, at = self.w, env[TIME]
        name = w.once(f"arith.subi {at.name}, {w.constant(1)} : index", at.level)
        name = w.once(f"arith.maxsi {name}, {w.constant(0)} : index", at.level)
        return self.memory.load(buffer, {**env, TIME: Index(name, at.level)}, 0)

    def _whole(self, size: Size) -> int:
        return int(self._number(size))

    def _scaled(self, index: Index, first: int, every: int) -> Index:
        """The index `first + every * index`."""
        w, level = self.w, index.level
        name = index.name
        if every != 1:
            name = w.once(f"arith.muli {name}, {w.constant(every)} : index", level)
        if first:
            name = w.once(f"arith.addi {name}, {w.constant(first)} : index", level)
        fixed = None if index.fixed is None else first + every * index.fixed
        stride = index.stride * every
        return Index(name, level, index.lanes, index.mask, fixed, stride)

    def _merged(self, node: ir.Node, dims: tuple[str, ...], into: str, env: Env) -> Val:
        """`node`, whose `dims` are told apart by one index, row-major."""
        index, extents = env[into], self.kernel.extents
        last = extents[dims[-1]]
        if index.lanes and (index.stride != 1 or last % index.lanes):
            return self._one_by_one(build.merge(node, dims, into), index, into, env)
        w, rest, level = self.w, index.name, index.level
        places: dict[str, Index] = {}
        for dim in reversed(dims):
            size = w.constant(extents[dim])
            at = w.once(f"arith.remui {rest}, {size} : index", level)
            rest = w.once(f"arith.divui {rest}, {size} : index", level)
            lanes, mask = (index.lanes, index.mask) if dim == dims[-1] else (0, None)
            places[dim] = Index(at, level, lanes, mask)
        return self.value(node, {**env, **places})

    def _one_by_one(self, node: ir.Node, index: Index, dim: str, env: Env) -> Val:
        """A vector of the values of `node` at the entries of `index`."""
        w, dtype = self.w, node.type.dtype
        vector = self.p.type_(dtype, index.lanes)
        whole = self.p.number(0, dtype, index.lanes)
        name, level = whole.name, 0
        last = w.constant(self.kernel.extents[dim] - 1)
        for i in range(index.lanes):
            offset = w.constant(i * index.stride)
            at = w.once(f"arith.addi {index.name}, {offset} : index", index.level)
            at = w.once(f"arith.minui {at}, {last} : index", index.level)
            entry = self.value(node, {**env, dim: Index(at, index.level)})
            level = max(level, entry.level)
            text = f"vector.insert {entry.name}, {name} [{i}] : "
            name = w.put(f"{text}{self.p.type_(dtype, 0)} into {vector}", level)
        return Val(name, dtype, index.lanes, level)

    def _looked_up(self, node: ir.Node, dim: str, index: ir.Node, env: Env) -> Val:
        """`node` at the entry `index` of `dim`; places outside are those at the border."""
        w, last = self.w, self.kernel.extents[dim] - 1
        if isinstance(index, ir.Const):
            fixed = self._whole(index.value)
            at = Index(w.constant(fixed), 0, fixed=fixed)
            return self.value(node, {**env, dim: at})
        value = self.value(index, env)
        if value.lanes:
            raise KernelError("a kernel has no form of a table read at many places")
        name = w.once(f"arith.index_cast {value.name} : i64 to index", value.level)
        name = w.once(f"arith.maxsi {name}, {w.constant(0)} : index", value.level)
        name = w.once(f"arith.minsi {name}, {w.constant(last)} : index", value.level)
        return self.value(node, {**env, dim: Index(name, value.level)})

    def _position(self, index: Index) -> Val:
        w = self.w
        base = w.once(f"arith.index_cast {index.name} : index to i64", index.level)
        value = Val(base, "int", 0, index.level)
        if not index.lanes:
            return value
        places = range(0, index.lanes * index.stride, index.stride)
        steps = ", ".join(map(str, places))
        text = f"arith.constant dense<[{steps}]> : vector<{index.lanes}xi64>"
        lanes = Val(w.once(text), "int", index.lanes, 0)
        return self.p.arithmetic("add", value, lanes)

    def _joined(self, env: Env, into: tuple[str, ...]) -> Index:
        """The index along a dim that `into` split, row-major."""
        w, extents = self.w, self.kernel.extents
        whole = env[into[0]]
        for dim in into[1:]:
            part = env[dim]
            level = max(whole.level, part.level)
            size = w.constant(extents[dim])
            name = w.once(f"arith.muli {whole.name}, {size} : index", level)
            name = w.once(f"arith.addi {name}, {part.name} : index", level)
            lane = part if part.lanes else whole
            stride = part.stride if part.lanes else whole.stride * extents[dim]
            whole = Index(name, level, lane.lanes, lane.mask, stride=stride)
        return whole


def _lanes(value: Val) -> int:
    return value.lanes
