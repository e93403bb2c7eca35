"""Kernel → MLIR text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqdsl.backends.mlir.ahead import ask_ahead
from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.kernel import Buffer, Kernel
from seqdsl.backends.mlir.memory import BEFORE, NOW, Memory, widths_of
from seqdsl.backends.mlir.places import place_of, run_nests
from seqdsl.backends.mlir.pointwise import Pointwise
from seqdsl.backends.mlir.replays import run_by_chunks
from seqdsl.backends.mlir.stretches import bounds, run_stretch, step_at
from seqdsl.backends.mlir.team import ARGUMENTS, shared_buffers, team_of
from seqdsl.backends.mlir.turns import run_in_turns
from seqdsl.backends.mlir.vector_library import declarations
from seqdsl.backends.mlir.writer import Index, Writer
from seqdsl.ir.types import TIME

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
    if kernel.turns > 1:
        run_in_turns(e)
    else:
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
    size *= memory.kernel.rows * (memory.kernel.turns if memory.stays(buffer) else 1)
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
    env, tile = place_of(e, task)
    w = e.w
    e.floor = w.depth
    part = team_of(e) if e.kernel.members else tile
    first = Index(w.constant(0), 0, fixed=0)
    run_nests(e, e.kernel.before, part, {**env, NOW: first, BEFORE: first})
    if e.kernel.replay:
        run_by_chunks(e, tile, env)
    else:

        def ask(turn: Index) -> None:
            ask_ahead(e, tile, {**env, TIME: step_at(e, turn)})

        run_stretch(e, part, env, bounds(e), ask)
    e.floor = w.depth
    run_nests(e, e.kernel.after, part, {**env, NOW: first, BEFORE: first})
