"""Kernels as files that need nothing of ours: MLIR text, object code with a C header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seqdsl.backends.mlir.engine import write_object
from seqdsl.backends.mlir.errors import KernelError
from seqdsl.backends.mlir.header import header
from seqdsl.backends.mlir.kernel import Kernel
from seqdsl.backends.mlir.linalg import tensor_text
from seqdsl.backends.mlir.lower import lower_all
from seqdsl.backends.mlir.machine import machine
from seqdsl.backends.mlir.nests import make_kernel
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.native.artifact import native_artifact
from seqdsl.native.load import available
from seqdsl.rewrite.inline import inline_calls
from seqdsl.schedule.region import Region
from seqdsl.schedule.sized import bound


def regions_of(model: ir.Model, options: Mapping[str, Scalar]) -> tuple[Region, ...]:
    """All loops along time of `model` as regions of known sizes.

    Raises `SpecError` for options that are missing or do not fit, `UnsupportedError` for a
    loop that no kernel runs and for a layer without one.
    """
    sizes = bind_sizes(model, options)
    made = native_artifact(inline_calls(model, frozenset(c.name for c in model.calls)))
    if made.refused:
        raise UnsupportedError(f"no kernel runs the loop of {'; '.join(made.refused)}")
    if not made.regions:
        raise UnsupportedError(f"{model.name} has no loop along time for a kernel")
    known = {**sizes.dims, **sizes.options}
    return tuple(bound(region, known) for region in made.regions.values())


def kernels_of(model: ir.Model, options: Mapping[str, Scalar]) -> tuple[Kernel, ...]:
    """The kernels of all loops along time of `model`, in single precision."""
    host = machine(32, "f32")
    return tuple(make_kernel(r, host, 1) for r in regions_of(model, options))


def mlir_text(
    model: ir.Model, options: Mapping[str, Scalar], dialect: str = "vector"
) -> str:
    """The kernels of a layer as one MLIR module.

    With `dialect` `linalg` they are functions on tensors, which other tools compile.
    Raises `UnsupportedError` for a dialect that there is not, and as `regions_of` does.
    """
    if dialect == "vector":
        return lower_all(kernels_of(model, options))
    if dialect != "linalg":
        raise UnsupportedError(f"there is no dialect `{dialect}`; `vector` or `linalg`")
    try:
        return tensor_text(regions_of(model, options))
    except KernelError as error:
        raise UnsupportedError(f"the dialect `linalg`: {error}") from error


def write_objects(model: ir.Model, options: Mapping[str, Scalar], out: Path) -> Path:
    """Object code at `out` and a header beside it, whose path is returned."""
    if not available():
        raise UnsupportedError(
            "object code needs torch-mlir: pip install 'seqdsl[mlir]'"
        )
    kernels = kernels_of(model, options)
    write_object(lower_all(kernels), out)
    beside = out.with_suffix(".h")
    beside.write_text(header(kernels, beside.stem), "utf-8")
    return beside
