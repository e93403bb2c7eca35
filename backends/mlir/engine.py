"""MLIR text → machine code in this process, by torch-mlir."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from seqdsl.backends.mlir.errors import KernelError
from seqdsl.backends.mlir.machine import host_key
from seqdsl.backends.mlir.objects import load_object, loadable

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
    owner: object


def compile_text(text: str, name: str) -> tuple[Code, bytes | None]:
    """The function `name` of a module for this machine, and the object code that it is.

    Without object code, where that cannot be loaded again, it lives in torch-mlir's engine.
    """
    if loadable():
        data = object_code(text, name)
        try:
            return code_of(data, name), data
        except KernelError:
            pass
    engine = _engine(text, name, pic=False)
    address = engine.raw_lookup(name)
    if not address:
        raise KernelError(f"the compiled module has no function `{name}`")
    return _code(address, engine), None


def code_of(data: bytes, name: str) -> Code:
    """The function `name` of object code."""
    loaded = load_object(data)
    address = loaded.functions.get(f"_mlir_{name}")
    if address is None:
        raise KernelError(f"the object code has no function `{name}`")
    return _code(address, loaded)


def _code(address: int, owner: object) -> Code:
    return Code(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address), owner)


def object_code(text: str, name: str) -> bytes:
    """A module as object code for this machine."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "kernel.o"
        _engine(text, name, pic=True).dump_to_object_file(str(out))
        return out.read_bytes()


def write_object(text: str, out: Path) -> None:
    """The same into a file."""
    out.write_bytes(object_code(text, out.stem))


@cache
def compiler_key() -> str:
    """Names what turns text into code, as far as code depends on it."""
    return f"torch-mlir {version('torch-mlir')} {PIPELINE} {host_key()}"


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
