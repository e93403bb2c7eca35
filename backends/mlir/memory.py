"""Loads and stores of a kernel: arguments by strides, locals in their own layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seqdsl.backends.mlir.kernel import Buffer, Kernel
from seqdsl.backends.mlir.writer import Index, Val, Writer
from seqdsl.ir.types import BATCH, TIME, DType

ROW = "row"
"""The index of a sequence among those that a task runs side by side."""

NOW, BEFORE, CHUNK = "now", "before", "chunk"
"""The places in a history of the current step and of the one before; the chunk."""

TURN = "turn"
"""Which of the tasks this is that take turns."""

Env = Mapping[str, Index]


def step_of(phase: int) -> str:
    """The name of the index of a step of a block."""
    return f"{TIME}@{phase}"


_ALIASED = 8 * 256
"""Bits of a row at which stores to one row seem to meet loads of another soon after.

Processors compare the lowest 12 bits of addresses only; rows of such lengths stand one
vector further apart.
"""


def widths_of(kernel: Kernel) -> dict[str, int]:
    """Entries of a vector along each dim by whose vectors nests run."""
    steps = (*kernel.advance, *kernel.jammed, *kernel.step)
    widths = {n.lane: n.width for n in steps if n.lane is not None}
    return widths | {n.lane: n.width for n in (*kernel.before, *kernel.after) if n.lane}


@dataclass
class Memory:
    """Where the buffers of a kernel are, and how their elements are read and written."""

    kernel: Kernel
    w: Writer
    widths: Mapping[str, int]

    def element(self, dtype: DType) -> str:
        """The MLIR type of a number in a register."""
        return {"bool": "i1", "int": "i64"}.get(dtype, f"f{self.kernel.bits}")

    def stored(self, buffer: Buffer) -> str:
        """The MLIR type of a number in memory."""
        if buffer.dtype == "float":
            local = buffer.role not in ("input", "output")
            return f"f{self.kernel.bits}" if local else self.kernel.storage
        return {"bool": "i8", "int": "i64"}[buffer.dtype]

    def shape(self, buffer: Buffer) -> tuple[int, ...]:
        """Extents of the dims of a buffer; a local's lane is padded to whole vectors."""
        sizes = [self.kernel.extents[d] for d in buffer.dims]
        if buffer.block:
            return (-(-sizes[-1] // buffer.block), *sizes[:-1], buffer.block)
        if buffer.role not in ("input", "output") and sizes:
            width = self.widths.get(buffer.dims[-1], 1)
            sizes[-1] = -(-sizes[-1] // width) * width
            if len(sizes) > 1 and sizes[-1] * self.kernel.bits % _ALIASED == 0:
                sizes[-1] += width
        return tuple(sizes)

    def type_(self, buffer: Buffer) -> str:
        """The memref type of a buffer."""
        element = self.stored(buffer)
        shape = self.shape(buffer)
        if buffer.role not in ("input", "output"):
            lead = {"history": f"{self.kernel.chunk + 1}x", "border": "?x"}
            if self.stays(buffer):
                lead["local"] = f"{self.kernel.turns}x"
            sizes = "x".join(map(str, (self.kernel.rows, *shape)))
            return f"memref<{lead.get(buffer.role, '')}{sizes}x{element}>"
        strides = [1]
        for size in reversed(shape[1:]):
            strides.insert(0, strides[0] * size)
        inner = strides if shape else []
        text = ", ".join(["?"] * len(buffer.axes) + [str(s) for s in inner])
        dims = "".join(["?x"] * len(buffer.axes) + [f"{s}x" for s in shape])
        return f"memref<{dims}{element}, strided<[{text}], offset: ?>>"

    def stays(self, buffer: Buffer) -> bool:
        """Whether a buffer keeps its value while other tasks have their turn."""
        kernel = self.kernel
        return (
            buffer.role == "local" and kernel.turns > 1 and buffer.name in kernel.states
        )

    def pointer(self, buffer: Buffer) -> str:
        """The SSA name of a buffer."""
        name = buffer.source or buffer.name
        clean = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
        known = [b.name for b in (*self.kernel.arguments, *self.kernel.locals)]
        place = known.index(name)
        return f"%b{place}_{clean}"

    # ---- Addresses

    def _lead(self, buffer: Buffer, env: Env) -> list[Index]:
        match buffer.role:
            case "local":
                return [env[TURN], env[ROW]] if self.stays(buffer) else [env[ROW]]
            case "history":
                return [env[NOW], env[ROW]]
            case "border":
                return [env[CHUNK], env[ROW]]
            case "input" | "output":
                pass
        if buffer.source:
            env = {**env, TIME: env[step_of(buffer.phase)]}
        return [env[axis] for axis in buffer.axes]

    def place(self, buffer: Buffer, env: Env) -> str:
        """The indices of an element."""
        return self._address(buffer, env)[0]

    def _address(self, buffer: Buffer, env: Env) -> tuple[str, int]:
        """The indices of an element and the block from which on they are known."""
        places = [*self._lead(buffer, env), *(env[d] for d in buffer.dims)]
        if buffer.block:
            places = [self._vector_of(buffer, places[-1]), *places[:-1], self._zero()]
        level = max((p.level for p in places), default=0)
        return ", ".join(p.name for p in places), level

    def _vector_of(self, buffer: Buffer, lane: Index) -> Index:
        """Which vector of a blocked buffer begins at `lane`."""
        if lane.fixed is not None:
            at = lane.fixed // buffer.block
            return Index(self.w.constant(at), 0, fixed=at)
        size = self.w.constant(buffer.block)
        text = f"arith.divui {lane.name}, {size} : index"
        return Index(self.w.once(text, lane.level), lane.level)

    def _zero(self) -> Index:
        return Index(self.w.constant(0), 0, fixed=0)

    # ---- Loads

    def load(self, buffer: Buffer, env: Env, floor: int) -> Val:
        """The element (or vector) of a buffer at `env`, not before block `floor`."""
        lanes = [env[d] for d in buffer.dims if env[d].lanes]
        if not lanes:
            return self._scalar(buffer, env, floor)
        dense = env[buffer.dims[-1]].lanes and lanes[-1].stride == 1
        if dense and len(lanes) == 1:
            return self._vector(buffer, env, floor, lanes[0])
        return self._gathered(buffer, env, floor, lanes[0].lanes)

    def _scalar(self, buffer: Buffer, env: Env, floor: int) -> Val:
        where, level = self._address(buffer, env)
        level = max(level, floor)
        type_ = self.type_(buffer)
        name = self.w.put(
            f"memref.load {self.pointer(buffer)}[{where}] : {type_}", level
        )
        return self.widen(name, buffer, 0, level)

    def _vector(self, buffer: Buffer, env: Env, floor: int, lane: Index) -> Val:
        where, level = self._address(buffer, env)
        level = max(level, floor)
        source = f"{self.pointer(buffer)}[{where}]"
        vector = f"vector<{lane.lanes}x{self.stored(buffer)}>"
        padded = buffer.block or buffer.role not in ("input", "output")
        if lane.mask is None or padded:
            text = f"vector.load {source} : {self.type_(buffer)}, {vector}"
        else:
            zero = "0" if self.stored(buffer)[0] == "i" else "0.0"
            none = self.w.once(f"arith.constant dense<{zero}> : {vector}")
            text = (
                f"vector.maskedload {source}, {lane.mask}, {none} : {self.type_(buffer)}, "
                f"vector<{lane.lanes}xi1>, {vector} into {vector}"
            )
        return self.widen(self.w.put(text, level), buffer, lane.lanes, level)

    def _gathered(self, buffer: Buffer, env: Env, floor: int, lanes: int) -> Val:
        """A vector whose entries lie apart, entry by entry."""
        vector = f"vector<{lanes}x{self.element(buffer.dtype)}>"
        none = "false" if buffer.dtype == "bool" else "0"
        none = none if buffer.dtype != "float" else "0.0"
        name, level = self.w.once(f"arith.constant dense<{none}> : {vector}"), 0
        for i in range(lanes):
            at = {d: self._entry(e, i, buffer, d) for d, e in env.items()}
            entry = self._scalar(buffer, at, floor)
            level = max(level, entry.level)
            text = f"vector.insert {entry.name}, {name} [{i}] : {self.element(buffer.dtype)} into {vector}"
            name = self.w.put(text, level)
        return Val(name, buffer.dtype, lanes, level)

    def _entry(self, index: Index, i: int, buffer: Buffer, dim: str) -> Index:
        """Entry `i` of a vector of indices; of those that do not exist, the last."""
        if not index.lanes:
            return index
        offset = self.w.constant(i * index.stride)
        name = self.w.once(f"arith.addi {index.name}, {offset} : index", index.level)
        if index.mask is not None and dim in self.kernel.extents:
            last = self.w.constant(self.kernel.extents[dim] - 1)
            name = self.w.once(f"arith.minsi {name}, {last} : index", index.level)
        return Index(name, index.level)

    def widen(self, name: str, buffer: Buffer, lanes: int, level: int) -> Val:
        """A number as it is in memory → as it is in a register."""
        stored, wanted = self.stored(buffer), self.element(buffer.dtype)
        many = f"vector<{lanes}x{{}}>".format if lanes else "{}".format
        if stored == wanted:
            return Val(name, buffer.dtype, lanes, level)
        if buffer.dtype == "bool":
            zero = "dense<0>" if lanes else "0"
            none = self.w.once(f"arith.constant {zero} : {many(stored)}")
            text = f"arith.cmpi ne, {name}, {none} : {many(stored)}"
        else:
            text = f"arith.extf {name} : {many(stored)} to {many(wanted)}"
        return Val(self.w.put(text, level), buffer.dtype, lanes, level)

    # ---- Stores

    def store(self, value: Val, buffer: Buffer, env: Env) -> None:
        """`value` to its place; of an argument only the lanes that exist."""
        stored, have = self.stored(buffer), self.element(buffer.dtype)
        many = f"vector<{value.lanes}x{{}}>".format if value.lanes else "{}".format
        name = value.name
        if stored != have:
            op = "extui" if buffer.dtype == "bool" else "truncf"
            name = self.w.put(
                f"arith.{op} {name} : {many(have)} to {many(stored)}", self.w.depth
            )
        where, _ = self._address(buffer, env)
        target = f"{self.pointer(buffer)}[{where}]"
        if not value.lanes:
            self.w.line(f"memref.store {name}, {target} : {self.type_(buffer)}")
            return
        lane = env[buffer.dims[-1]]
        kinds = f"{self.type_(buffer)}, {many(stored)}"
        if lane.mask is None or buffer.role not in ("input", "output"):
            self.w.line(f"vector.store {name}, {target} : {kinds}")
            return
        kinds = f"{self.type_(buffer)}, {many('i1')}, {many(stored)}"
        self.w.line(f"vector.maskedstore {target}, {lane.mask}, {name} : {kinds}")


LEADING = (BATCH, TIME)
