"""MLIR text → machine code in this process, by torch-mlir."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqdsl.backends.mlir.errors import KernelError

_PASSES = (
    "inline",
    "canonicalize",
    "cse",
    "expand-strided-metadata",
    "convert-vector-to-scf",
    "convert-scf-to-cf",
    "lower-affine",
    "finalize-memref-to-llvm",
    "convert-math-to-llvm",
    "convert-math-to-libm",
    "convert-vector-to-llvm",
    "convert-func-to-llvm",
    "convert-arith-to-llvm",
    "convert-index-to-llvm",
    "convert-cf-to-llvm",
    "reconcile-unrealized-casts",
)
PIPELINE = f"builtin.module({','.join(_PASSES)})"
"""What turns the text of a kernel into LLVM's dialect."""


@dataclass(frozen=True)
class Code:
    """A compiled kernel: `call(pointer to the list of argument pointers)`."""

    call: Any
    engine: Any


def compile_text(text: str, name: str) -> Code:
    """The function `name` of a module, compiled for this machine."""
    engine = _engine(text, name, pic=False)
    address = engine.raw_lookup(name)
    if not address:
        raise KernelError(f"the compiled module has no function `{name}`")
    return Code(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address), engine)


def write_object(text: str, out: Path) -> None:
    """A module as object code for this machine."""
    _engine(text, out.stem, pic=True).dump_to_object_file(str(out))


def _engine(text: str, name: str, pic: bool) -> Any:
    from torch_mlir import execution_engine, ir, passmanager  # type: ignore[import-untyped]

    libraries: Any = ir, passmanager, execution_engine
    ir_, passes, engines = libraries
    try:
        with ir_.Context():
            module = ir_.Module.parse(text)
            passes.PassManager.parse(PIPELINE).run(module.operation)
            return engines.ExecutionEngine(module, opt_level=2, enable_pic=pic)
    except (RuntimeError, ir_.MLIRError) as error:
        raise KernelError(f"MLIR refuses the kernel {name}: {error}") from error
