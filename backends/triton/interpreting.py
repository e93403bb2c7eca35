"""Triton's interpreter: whether kernels run in it, and products of bfloat16 matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
from triton import knobs


def interpreting() -> bool:
    """Whether kernels run on the CPU (`TRITON_INTERPRET=1` before triton is imported)."""
    return bool(knobs.runtime.interpret)


def repair() -> None:
    """Let the interpreter round to bfloat16 and multiply bfloat16 matrices as a GPU does.

    It stores them as 16-bit integers, and up to Triton 3.7 it cuts the lower bits off
    and multiplies the integers.
    """
    from triton.runtime import interpreter

    builder: Any = interpreter.InterpreterBuilder
    if getattr(builder, "repaired", False):
        return
    builder.repaired = True
    handle: Any = interpreter.TensorHandle
    cast, multiply = builder.cast_impl, builder.create_dot
    single, half = triton.language.float32, triton.language.bfloat16

    def cast_impl(self: Any, x: Any, to: Any) -> Any:
        if x.dtype.scalar != single or to.scalar != half:
            return cast(self, x, to)
        rounded = torch.from_numpy(np.array(x.data)).bfloat16().view(torch.uint16)
        return handle(rounded.numpy(), half)

    def create_dot(self: Any, a: Any, b: Any, d: Any, *rest: Any) -> Any:
        wide = [cast(self, x, single) if x.dtype == half else x for x in (a, b)]
        return multiply(self, *wide, d, *rest)

    builder.cast_impl, builder.create_dot = cast_impl, create_dot
