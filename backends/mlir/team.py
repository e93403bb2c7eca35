"""Steps that several threads share: each runs its vectors of every nest of loops.

For a product with a large matrix and too few sequences to keep all threads busy. Where
a nest reads what another thread wrote, all wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.kernel import Kernel, Nest
from seqdsl.backends.mlir.loops import Tile, is_open, run_nest
from seqdsl.backends.mlir.memory import Env, Memory, widths_of
from seqdsl.backends.mlir.statements import reads
from seqdsl.backends.mlir.writer import Index, Writer

ARGUMENTS = ["%member: index", "%members: index", "%work: memref<?xi8>"]
"""What the function of such a kernel takes besides: who it is, of how many, shared memory."""

_LINE = 64
"""Bytes apart at which buffers begin; the first are the counter at which threads meet."""


def split_dim(nest: Nest) -> str | None:
    """The dim whose vectors threads share out; None where one thread runs a nest alone."""
    lane = nest.lane
    for write in nest.writes:
        if lane is None or lane not in write.statement.dims:
            return None
        if write.statement.op and not is_open(nest, write):
            return None
    return lane


def strides_of(kernel: Kernel) -> dict[str, int]:
    """Entries of each dim that are shared out together."""
    found: dict[str, int] = {}
    for nest in (*kernel.before, *kernel.step, *kernel.after):
        dim = split_dim(nest)
        if dim is not None:
            found[dim] = max(found.get(dim, 1), nest.width * nest.unroll)
    return found


def members_of(kernel: Kernel) -> int:
    """How many threads have something to do."""
    sizes = strides_of(kernel)
    return max((-(-kernel.extents[d] // s) for d, s in sizes.items()), default=1)


# ---- Memory that all threads see


def workspace(kernel: Kernel) -> tuple[dict[str, int], int]:
    """Where each buffer of a task begins, and how many bytes they are."""
    memory = Memory(kernel, Writer(), widths_of(kernel))
    places: dict[str, int] = {}
    size = _LINE
    for buffer in kernel.locals:
        places[buffer.name] = size
        width = {"i64": 8, "f64": 8, "i8": 1}.get(memory.stored(buffer), 4)
        entries = kernel.rows * prod(memory.shape(buffer))
        size += -(-entries * width // _LINE) * _LINE
    return places, size


def shared_buffers(w: Writer, memory: Memory) -> list[str]:
    """Sets up the buffers of a task in the memory that is given; nothing is to be freed."""
    places, _ = workspace(memory.kernel)

    def view(name: str, at: int, type_: str) -> None:
        w.slots.append(f"{name}_at = arith.constant {at} : index")
        text = f"memref.view %work[{name}_at][] : memref<?xi8> to {type_}"
        w.slots.append(f"{name} = {text}")

    view("%meeting", 0, _COUNTER)
    for buffer in memory.kernel.locals:
        view(memory.pointer(buffer), places[buffer.name], memory.type_(buffer))
    return []


# ---- Who runs what


@dataclass(frozen=True)
class Team:
    """The part that a thread has of every dim that is shared out."""

    tiles: Mapping[str, Tile]

    def run(self, e: Expressions, nests: Sequence[Nest], env: Env) -> None:
        """This thread's part of `nests`; at the end everybody has done theirs."""
        since: list[Nest] = []
        for nest in nests:
            if any(_meet(e.kernel, other, nest) for other in since):
                _wait(e.w)
                since = []
            self._part(e, nest, env)
            since.append(nest)
        if since:
            _wait(e.w)

    def _part(self, e: Expressions, nest: Nest, env: Env) -> None:
        dim = split_dim(nest)
        if dim is not None:
            run_nest(e, nest, self.tiles[dim], env, nest.dense)
            return
        zero = e.w.constant(0)
        alone = e.w.once(f"arith.cmpi eq, %member, {zero} : index")
        with e.w.block(f"scf.if {alone}"):
            run_nest(e, nest, None, env, nest.dense)


def team_of(e: Expressions) -> Team:
    """The tiles of the thread `%member`."""
    return Team({d: _tile(e, d, s) for d, s in strides_of(e.kernel).items()})


def _tile(e: Expressions, dim: str, stride: int) -> Tile:
    w, extent = e.w, e.kernel.extents[dim]
    parts, size = w.constant(-(-extent // stride)), w.constant(extent)
    each = w.once(f"arith.ceildivsi {parts}, %members : index")
    grain = w.once(f"arith.muli {each}, {w.constant(stride)} : index")
    low = w.once(f"arith.muli %member, {grain} : index")
    high = w.once(f"arith.addi {low}, {grain} : index")
    ends = w.once(f"arith.cmpi sge, {high}, {size} : index")
    begins = w.once(f"arith.cmpi slt, {low}, {size} : index")
    last = w.once(f"arith.andi {ends}, {begins} : i1")
    high = w.once(f"arith.minsi {high}, {size} : index")
    return Tile(dim, Index(low, 0), Index(high, 0), last)


# ---- When to wait

_COUNTER = "memref<1xi64>"

_PATIENCE = 64
"""How often a thread looks before it lets others have its processor in between."""


def _wait(w: Writer) -> None:
    """Until all threads are here: each adds one, and the last makes the number whole."""
    level = w.depth
    zero = w.constant(0)
    one = w.once("arith.constant 1 : i64")
    none = w.once("arith.constant 0 : i64")
    count = w.once("arith.index_cast %members : index to i64")
    add = f"memref.atomic_rmw addi {one}, %meeting[{zero}] : (i64, {_COUNTER}) -> i64"
    before = w.put(add, level)
    rounds = w.put(f"arith.divui {before}, {count} : i64", level)
    rounds = w.put(f"arith.addi {rounds}, {one} : i64", level)
    whole = w.put(f"arith.muli {rounds}, {count} : i64", level)
    w.functions["sched_yield"] = "  func.func private @sched_yield() -> i32"
    look = f"memref.atomic_rmw ori {none}, %meeting[{zero}] : (i64, {_COUNTER}) -> i64"
    patience = w.once(f"arith.constant {_PATIENCE} : i64")
    turn, now, less, again, long, more, end = (w.fresh() for _ in range(7))
    for text in (
        f"{end} = scf.while ({turn} = {none}) : (i64) -> i64 {{",
        f"  {now} = {look}",
        f"  {less} = arith.cmpi ult, {now}, {whole} : i64",
        f"  scf.condition({less}) {turn} : i64",
        "} do {",
        f"^bb0({again}: i64):",
        f"  {long} = arith.cmpi ugt, {again}, {patience} : i64",
        f"  scf.if {long} {{",
        f"    {w.fresh()} = func.call @sched_yield() : () -> i32",
        "  }",
        f"  {more} = arith.addi {again}, {one} : i64",
        f"  scf.yield {more} : i64",
        "}",
    ):
        w.line(text)


def _meet(kernel: Kernel, a: Nest, b: Nest) -> bool:
    """Whether one nest touches entries that another thread writes in the other."""
    dim = split_dim(a)
    shared = dim == split_dim(b)
    if shared and dim is None:
        return False
    touched: dict[str, list[tuple[bool, bool]]] = {}
    for name, written, plain in _touched(kernel, a):
        touched.setdefault(name, []).append((written, plain))
    for name, written, plain in _touched(kernel, b):
        own = shared and dim in kernel.buffer(name).dims
        for before, exactly in touched.get(name, ()):
            if (written or before) and not (own and plain and exactly):
                return True
    return False


def _touched(kernel: Kernel, nest: Nest) -> Iterator[tuple[str, bool, bool]]:
    """Buffers of a task that a nest reads or writes, whether it writes, and only there."""
    kept = {b.name for b in kernel.locals}
    for write in nest.writes:
        yield from ((n, True, True) for n in write.into if n in kept)
        for (name, shifted), plain in reads(write.statement.expr).items():
            new = f"{name}.new"
            found = new if not shifted and new in kept else name
            if found in kept:
                yield found, False, plain
