"""States that are run again by chunks, for steps that run the other way and read them."""

from __future__ import annotations

from seqdsl.backends.mlir.ahead import ask_ahead
from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.loops import Tile
from seqdsl.backends.mlir.memory import BEFORE, CHUNK, NOW, Env, step_of
from seqdsl.backends.mlir.places import run_nests
from seqdsl.backends.mlir.writer import Index
from seqdsl.ir.types import TIME


def run_by_chunks(e: Expressions, tile: Tile | None, env: Env) -> None:
    """All steps: once to find the borders, then chunk by chunk from the last."""
    w, kernel = e.w, e.kernel
    zero, one, size = w.constant(0), w.constant(1), w.constant(kernel.chunk)
    count = w.once(f"arith.ceildivsi %time, {size} : index")
    with w.loop(zero, count, one) as chunk:
        _border(e, tile, {**env, CHUNK: chunk})
    with w.loop(zero, count, one) as turn:
        e.floor = w.depth
        chunk = _from_end(e, count, turn, 0)
        run_nests(e, kernel.restore, tile, {**env, CHUNK: chunk, NOW: _first(e)})
        low = w.put(f"arith.muli {chunk.name}, {size} : index", w.depth)
        left = w.put(f"arith.subi %time, {low} : index", w.depth)
        steps = w.put(f"arith.minsi {left}, {size} : index", w.depth)
        _again(e, tile, env, low, steps)
        with w.loop(zero, steps, one) as turn_back:
            e.floor = w.depth
            before = _from_end(e, steps, turn_back, w.depth - 1)
            at = _stepped(e, env, low, before)
            ask_ahead(e, tile, at)
            run_nests(e, kernel.step, tile, at)


def _first(e: Expressions) -> Index:
    """The place in a history of the state before a chunk."""
    return Index(e.w.constant(0), 0, fixed=0)


def _border(e: Expressions, tile: Tile | None, env: Env) -> None:
    """Keeps what states are before a chunk, and finds what they are behind it."""
    w, kernel = e.w, e.kernel
    e.floor = w.depth
    size, chunk = w.constant(kernel.chunk), env[CHUNK]
    run_nests(e, kernel.save, tile, {**env, BEFORE: _first(e)})
    low = w.put(f"arith.muli {chunk.name}, {size} : index", w.depth)
    after = w.put(f"arith.addi {low}, {size} : index", w.depth)
    more = w.put(f"arith.cmpi slt, {after}, %time : index", w.depth)
    with w.block(f"scf.if {more}"):
        if kernel.advance:
            _advance(e, tile, env, (low, after))
            return
        _again(e, tile, env, low, size)
        e.floor = w.depth
        after = _next(e, chunk)
        full = Index(size, 0, fixed=kernel.chunk)
        run_nests(e, kernel.save, tile, {**env, CHUNK: after, BEFORE: full})
        run_nests(e, kernel.restore, tile, {**env, CHUNK: after, NOW: _first(e)})


def _advance(
    e: Expressions, tile: Tile | None, env: Env, steps: tuple[str, str]
) -> None:
    """Runs a whole chunk in place."""
    w, kernel = e.w, e.kernel
    env = {**env, NOW: _first(e), BEFORE: _first(e)}
    with w.loop(*steps, w.constant(kernel.stride)) as at:
        e.floor = w.depth
        places = {TIME: at} if kernel.stride == 1 else dict[str, Index]()
        for phase in range(kernel.stride):
            text = f"arith.addi {at.name}, {w.constant(phase)} : index"
            step = Index(w.put(text, w.depth), w.depth)
            ask_ahead(e, tile, {**env, TIME: step}, forward=True)
            if kernel.stride > 1:
                places[step_of(phase)] = step
        run_nests(e, kernel.advance, tile, {**env, **places})


def _again(e: Expressions, tile: Tile | None, env: Env, low: str, count: str) -> None:
    """Runs the chunk that begins at step `low` again."""
    w = e.w
    with w.loop(w.constant(0), count, w.constant(1)) as before:
        e.floor = w.depth
        at = _stepped(e, env, low, before)
        ask_ahead(e, tile, at, forward=True)
        run_nests(e, e.kernel.replay, tile, at)


def _from_end(e: Expressions, count: str, index: Index, level: int) -> Index:
    """The index of the same loop run the other way."""
    w = e.w
    last = w.once(f"arith.subi {count}, {w.constant(1)} : index", level)
    name = w.put(f"arith.subi {last}, {index.name} : index", index.level)
    return Index(name, index.level)


def _next(e: Expressions, index: Index) -> Index:
    level = e.w.depth
    name = e.w.put(f"arith.addi {index.name}, {e.w.constant(1)} : index", level)
    return Index(name, level)


def _stepped(e: Expressions, env: Env, low: str, before: Index) -> Env:
    """`env` at the step `before` of the chunk that begins at `low`."""
    at = e.w.put(f"arith.addi {low}, {before.name} : index", e.w.depth)
    return {
        **env,
        TIME: Index(at, e.w.depth),
        BEFORE: before,
        NOW: _next(e, before),
    }
