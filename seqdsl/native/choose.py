"""The class of a layer for a target: with kernels where they can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir

if TYPE_CHECKING:
    from torch import nn

TARGETS = ("auto", "torch", "mlir", "triton")
"""Targets for which modules are made."""


def module_class(model: ir.Model, target: str, strategy: str) -> type[nn.Module]:
    """The class of `model` for `target`, one of `TARGETS`.

    With `auto`, loops along time are kernels for CPU tensors and run in torch for what
    kernels cannot serve. Raises `UnsupportedError` where the target cannot host the layer.
    """
    from seqdsl.backends.torch import compile_model
    from seqdsl.backends.torch.load import load

    if target == "triton":
        from seqdsl.backends.triton import compile_model as with_kernels

        return load(with_kernels(model, strategy=strategy))
    looped = strategy in ("auto", "loop")
    if target == "torch" or not looped:
        return load(compile_model(model, strategy=strategy))
    from seqdsl.native import load as native
    from seqdsl.native.artifact import native_artifact

    if target == "mlir":
        made = native_artifact(model)
        native.check_strict(made)
        return native.load_native(made, None)
    plain = compile_model(model, strategy=strategy)
    try:
        made = native_artifact(model)
    except UnsupportedError:
        # a parallel form of torch may do what no loop does
        return load(plain)
    if not made.regions:
        return load(plain)
    if not native.available():
        native.warn_without()
        return load(plain)
    return native.load_native(made, plain)
