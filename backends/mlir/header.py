"""The C header of compiled kernels: plain pointers to dense arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from seqdsl.backends.mlir.kernel import Buffer, Kernel

_TYPES = {"float": "float", "int": "int64_t", "bool": "uint8_t"}


def header(kernels: Sequence[Kernel], name: str) -> str:
    """Declarations of `kernels`, and a function for each that takes dense arrays."""
    guard = "SEQDSL_" + "".join(c if c.isalnum() else "_" for c in name).upper()
    ranks = sorted({_rank(b) for k in kernels for b in k.arguments})
    parts = [
        f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n",
        *map(_descriptor, ranks),
        *map(_functions, kernels),
        "#endif\n",
    ]
    return "\n".join(parts)


def _rank(buffer: Buffer) -> int:
    return len(buffer.axes) + len(buffer.dims) + bool(buffer.block)


def _descriptor(rank: int) -> str:
    """What MLIR passes for an array: pointers, offset, extents, strides."""
    inner = f"    int64_t sizes[{rank}], strides[{rank}];\n" if rank else ""
    return (
        f"typedef struct {{\n    void *base, *data;\n    int64_t offset;\n{inner}"
        f"}} seqdsl_array_{rank};\n"
    )


def _identifier(buffer: Buffer) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in buffer.name)


def _functions(kernel: Kernel) -> str:
    arrays = [f"seqdsl_array_{_rank(b)} *{_identifier(b)}" for b in kernel.arguments]
    numbers = ["first", "past", "batch", "time", "grain"]
    low = ", ".join([*(f"int64_t {n}" for n in numbers), *arrays])
    plain = ", ".join(
        ["int64_t batch", "int64_t time", *(_pointer(b) for b in kernel.arguments)]
    )
    lines = [_comment(kernel, b) for b in kernel.arguments]
    setup = [line for b in kernel.arguments for line in _setup(kernel, b)]
    tasks = prod(kernel.extents[d] for d in kernel.tasks)
    grain = kernel.extents[kernel.tiled] if kernel.tiled is not None else 1
    given = ", ".join(f"&{_identifier(b)}_array" for b in kernel.arguments)
    rows = f"(batch + {kernel.rows - 1}) / {kernel.rows}"
    return "\n".join(
        [
            f"void _mlir_ciface_{kernel.name}({low});",
            "",
            "/* Dense arrays, the last index fastest:",
            *lines,
            " */",
            f"static inline void {kernel.name}({plain})",
            "{",
            *setup,
            (
                f"    _mlir_ciface_{kernel.name}(0, {rows} * {tasks}, batch, time, {grain}, "
                f"{given});"
            ),
            "}",
            "",
        ]
    )


def _pointer(buffer: Buffer) -> str:
    const = "const " if buffer.role == "input" else ""
    return f"{const}{_TYPES[buffer.dtype]} *{_identifier(buffer)}"


def _extents(kernel: Kernel, buffer: Buffer) -> list[str]:
    lead = {"batch": "batch", "t": "time"}
    inner = [str(kernel.extents[d]) for d in buffer.dims]
    if buffer.block:
        vectors = -(-kernel.extents[buffer.dims[-1]] // buffer.block)
        inner = [str(vectors), *inner[:-1], str(buffer.block)]
    return [*(lead[a] for a in buffer.axes), *inner]


def _comment(kernel: Kernel, buffer: Buffer) -> str:
    extents = "".join(f"[{e}]" for e in _extents(kernel, buffer))
    dims = ", ".join((*buffer.axes, *buffer.dims))
    if buffer.block:
        last = buffer.dims[-1]
        dims = (
            f"vectors of {last}, {', '.join(buffer.dims[:-1])}, the {last} of a vector"
        )
    return f" *   {buffer.role} {_identifier(buffer)}{extents}  ({dims})"


def _setup(kernel: Kernel, buffer: Buffer) -> list[str]:
    """The descriptor of a dense array."""
    extents, name = _extents(kernel, buffer), _identifier(buffer)
    strides = [" * ".join(extents[i + 1 :]) or "1" for i in range(len(extents))]
    arrays = f", {{{', '.join(extents)}}}, {{{', '.join(strides)}}}" if extents else ""
    pointer = f"(void *){name}"
    return [
        (
            f"    seqdsl_array_{len(extents)} {name}_array = "
            f"{{{pointer}, {pointer}, 0{arrays}}};"
        )
    ]
