"""Kernel → MLIR text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqdsl.backends.mlir.ahead import ask_ahead
from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.kernel import Buffer, Kernel, Nest
from seqdsl.backends.mlir.loops import Tile, run_nest
from seqdsl.backends.mlir.memory import BEFORE, CHUNK, NOW, Env, Memory, widths_of
from seqdsl.backends.mlir.pointwise import Pointwise
from seqdsl.backends.mlir.team import ARGUMENTS, Team, shared_buffers, team_of
from seqdsl.backends.mlir.vector_library import declarations
from seqdsl.backends.mlir.writer import Index, Writer
from seqdsl.ir.types import BATCH, TIME

_ON_STACK = 1 << 17
"""Bytes up to which a buffer of a task lies on the stack."""


def lower(kernel: Kernel) -> str:
    """The module with the function `kernel.name`."""
    return lower_all((kernel,))


def lower_all(kernels: Sequence[Kernel]) -> str:
    """One module with a function for each of `kernels`."""
    parts: dict[str, str] = {}
    bodies = [_function(k, parts) for k in kernels]
    library = declarations() if parts else []
    return "\n".join(["module {", *bodies, *parts.values(), *library, "}"]) + "\n"


def _function(kernel: Kernel, parts: dict[str, str]) -> str:
    """The function `kernel.name`; what it calls goes to `parts`.

    Its arguments are the first and one past the last task, the extents of batch and time,
    entries of the tiled dim in a task, which member of a team this is, and the buffers.
    """
    w = Writer()
    memory = Memory(kernel, w, widths_of(kernel))
    e = Expressions(kernel, w, memory, Pointwise(w, kernel.bits))
    if kernel.members:
        freed = shared_buffers(w, memory)
    else:
        freed = [_allocate(w, memory, b) for b in kernel.locals]
    with w.loop("%first", "%past", w.constant(1)) as task:
        _task(e, task)
    arguments = ["%first", "%past", "%batch", "%time", "%grain"]
    typed = [f"{a}: index" for a in arguments]
    typed += ARGUMENTS if kernel.members else []
    typed += ["%from: index", "%to: index"] if kernel.ranged else []
    typed += [f"{memory.pointer(b)}: {memory.type_(b)}" for b in kernel.arguments]
    parts |= w.functions
    lines = [
        f"  func.func @{kernel.name}(",
        *(f"      {t}," for t in typed[:-1]),
        f"      {typed[-1]}",
        "  ) attributes {llvm.emit_c_interface} {",
        *(f"    {line}" for line in (*w.slots, *w.levels[0].lines)),
        *(f"    {line}" for line in freed if line),
        "    return",
        "  }",
    ]
    return "\n".join(lines)


def _allocate(w: Writer, memory: Memory, buffer: Buffer) -> str:
    """Sets up a local buffer; what frees it, where it is not on the stack."""
    name, type_ = memory.pointer(buffer), memory.type_(buffer)
    size = memory.kernel.bits // 8 * math.prod(memory.shape(buffer))
    size *= memory.kernel.rows
    if buffer.role == "local" and size <= _ON_STACK:
        w.slots.append(f"{name} = memref.alloca() {{alignment = 64}} : {type_}")
        return ""
    count = ""
    if buffer.role == "border":
        chunk = w.fresh()
        w.slots.append(f"{chunk} = arith.constant {memory.kernel.chunk} : index")
        count = w.fresh()
        w.slots.append(f"{count} = arith.ceildivsi %time, {chunk} : index")
    w.slots.append(f"{name} = memref.alloc({count}) {{alignment = 64}} : {type_}")
    return f"memref.dealloc {name} : {type_}"


def _task(e: Expressions, task: Index) -> None:
    env, tile = _place(e, task)
    w = e.w
    e.floor = w.depth
    part = team_of(e) if e.kernel.members else tile
    first = Index(w.constant(0), 0, fixed=0)
    _nests(e, e.kernel.before, part, {**env, NOW: first, BEFORE: first})
    if e.kernel.replay:
        _by_chunks(e, tile, env)
    else:
        low, high = ("%from", "%to") if e.kernel.ranged else (w.constant(0), "%time")
        with w.loop(low, high, w.constant(1)) as step:
            e.floor = w.depth
            at = step
            if e.kernel.direction == "backward":
                at = _mirrored(e, low, high, step)
            ask_ahead(e, tile, {**env, TIME: at})
            _nests(e, e.kernel.step, part, {**env, TIME: at})
    e.floor = w.depth
    _nests(e, e.kernel.after, part, {**env, NOW: first, BEFORE: first})


def _mirrored(e: Expressions, low: str, high: str, index: Index) -> Index:
    """The index of a loop from `low` to `high` run the other way."""
    w = e.w
    whole = w.once(f"arith.addi {low}, {high} : index")
    last = w.once(f"arith.subi {whole}, {w.constant(1)} : index")
    name = w.put(f"arith.subi {last}, {index.name} : index", index.level)
    return Index(name, index.level)


def _from_end(e: Expressions, count: str, index: Index, level: int) -> Index:
    """The index of the same loop run the other way."""
    w = e.w
    last = w.once(f"arith.subi {count}, {w.constant(1)} : index", level)
    name = w.put(f"arith.subi {last}, {index.name} : index", index.level)
    return Index(name, index.level)


def _by_chunks(e: Expressions, tile: Tile | None, env: Env) -> None:
    """What is run again: once to find the borders, then chunk by chunk from the last."""
    w, kernel = e.w, e.kernel
    zero, one, size = w.constant(0), w.constant(1), w.constant(kernel.chunk)
    count = w.once(f"arith.ceildivsi %time, {size} : index")
    first = Index(zero, 0, fixed=0)
    full = Index(size, 0, fixed=kernel.chunk)
    with w.loop(zero, count, one) as chunk:
        e.floor = w.depth
        at = {**env, CHUNK: chunk}
        _nests(e, kernel.save, tile, {**at, BEFORE: first})
        low = w.put(f"arith.muli {chunk.name}, {size} : index", w.depth)
        after = w.put(f"arith.addi {low}, {size} : index", w.depth)
        more = w.put(f"arith.cmpi slt, {after}, %time : index", w.depth)
        with w.block(f"scf.if {more}"):
            _again(e, tile, env, low, size)
            e.floor = w.depth
            _nests(e, kernel.save, tile, {**env, CHUNK: _next(e, chunk), BEFORE: full})
            _nests(e, kernel.restore, tile, {**env, CHUNK: _next(e, chunk), NOW: first})
    with w.loop(zero, count, one) as turn:
        e.floor = w.depth
        chunk = _from_end(e, count, turn, 0)
        _nests(e, kernel.restore, tile, {**env, CHUNK: chunk, NOW: first})
        low = w.put(f"arith.muli {chunk.name}, {size} : index", w.depth)
        left = w.put(f"arith.subi %time, {low} : index", w.depth)
        steps = w.put(f"arith.minsi {left}, {size} : index", w.depth)
        _again(e, tile, env, low, steps)
        with w.loop(zero, steps, one) as turn_back:
            e.floor = w.depth
            before = _from_end(e, steps, turn_back, w.depth - 1)
            _nests(e, kernel.step, tile, _stepped(e, env, low, before))


def _again(e: Expressions, tile: Tile | None, env: Env, low: str, count: str) -> None:
    """Runs the chunk that begins at step `low` again."""
    w = e.w
    with w.loop(w.constant(0), count, w.constant(1)) as before:
        e.floor = w.depth
        _nests(e, e.kernel.replay, tile, _stepped(e, env, low, before))


def _next(e: Expressions, index: Index) -> Index:
    one = e.w.constant(1)
    level = e.w.depth
    return Index(e.w.put(f"arith.addi {index.name}, {one} : index", level), level)


def _stepped(e: Expressions, env: Env, low: str, before: Index) -> Env:
    """`env` at the step `before` of the chunk that begins at `low`."""
    at = e.w.put(f"arith.addi {low}, {before.name} : index", e.w.depth)
    return {
        **env,
        TIME: Index(at, e.w.depth),
        BEFORE: before,
        NOW: _next(e, before),
    }


def _nests(
    e: Expressions, nests: tuple[Nest, ...], tile: Tile | Team | None, env: Env
) -> None:
    if isinstance(tile, Team):
        tile.run(e, nests, env)
        return
    for nest in nests:
        run_nest(e, nest, tile, env, nest.dense)


def _place(e: Expressions, task: Index) -> tuple[Env, Tile | None]:
    """Which sequences, which entries of the task dims and which tile a task is."""
    w, kernel, level = e.w, e.kernel, task.level
    env: dict[str, Index] = {}
    rest = task.name
    tile = None
    if kernel.tiled is not None:
        size = w.constant(kernel.extents[kernel.tiled])
        count = w.once(f"arith.ceildivsi {size}, %grain : index")
        part = w.put(f"arith.remsi {rest}, {count} : index", level)
        rest = w.put(f"arith.divsi {rest}, {count} : index", level)
        low = w.put(f"arith.muli {part}, %grain : index", level)
        high = w.put(f"arith.addi {low}, %grain : index", level)
        last = w.put(f"arith.cmpi sge, {high}, {size} : index", level)
        high = w.put(f"arith.minsi {high}, {size} : index", level)
        tile = Tile(kernel.tiled, Index(low, level), Index(high, level), last)
    for dim in reversed(kernel.tasks):
        size = w.constant(kernel.extents[dim])
        env[dim] = Index(w.put(f"arith.remsi {rest}, {size} : index", level), level)
        rest = w.put(f"arith.divsi {rest}, {size} : index", level)
    if kernel.rows > 1:
        rest = w.put(f"arith.muli {rest}, {w.constant(kernel.rows)} : index", level)
    env[BATCH] = Index(rest, level)
    last_row = w.once(f"arith.subi %batch, {w.constant(1)} : index")
    env["last row"] = Index(last_row, 0)
    return env, tile
