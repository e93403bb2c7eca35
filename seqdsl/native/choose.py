"""The class of a layer for a target: with kernels where they can be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.schedule.choose import wish_of

if TYPE_CHECKING:
    from torch import nn

    from seqdsl.backends.torch import Artifact
    from seqdsl.native.artifact import NativeArtifact

TARGETS = ("auto", "torch", "mlir", "triton")
"""Targets for which modules are made."""


@dataclass(frozen=True)
class Choice:
    """The files that a class is made of.

    `native` calls kernels, and `plain` takes over what these cannot serve; a layer has
    one of the two at least. `triton`: kernels of Triton stand in `plain` itself.
    """

    plain: Artifact | None
    native: NativeArtifact | None = None
    triton: bool = False

    def texts(self) -> tuple[str, ...]:
        """The generated files, as they are loaded."""
        from seqdsl.native.load import lenient

        plain = () if self.plain is None else (self.plain.text,)
        if self.native is None:
            return plain
        native = self.native if self.plain is None else lenient(self.native)
        return (*plain, native.host.text)

    def load(self) -> type[nn.Module]:
        """The class, for this process.

        Raises `UnsupportedError` where only kernels would do and torch-mlir is missing.
        """
        from seqdsl.backends.torch.load import load

        if self.triton:
            from seqdsl.backends.triton.interpreting import interpreting, repair

            if interpreting():
                repair()
        if self.native is None:
            assert self.plain is not None
            return load(self.plain)
        from seqdsl.native import load as native

        if self.plain is None:
            native.check_strict(self.native)
        elif not native.available():
            native.warn_without()
            return load(self.plain)
        return native.load_native(self.native, self.plain)


def choose(model: ir.Model, target: str, strategy: str) -> Choice:
    """What hosts `model` on `target`, one of `TARGETS`.

    With `auto`, loops along time are kernels for CPU tensors and run in torch for what
    kernels cannot serve. Raises `UnsupportedError` where the target cannot host the layer.
    """
    from seqdsl.backends.torch import compile_model

    if target == "triton":
        from seqdsl.backends.triton import compile_model as with_kernels

        return Choice(with_kernels(model, strategy=strategy), triton=True)
    if target == "torch" or strategy not in ("auto", "loop"):
        return Choice(compile_model(model, strategy=strategy))
    from seqdsl.native.artifact import native_artifact

    if target == "mlir":
        return Choice(None, native_artifact(model))
    plain = compile_model(model, strategy=strategy)
    try:
        made = native_artifact(model, rest=wish_of(strategy))
    except UnsupportedError:
        # a parallel form of torch may do what no loop does
        return Choice(plain)
    return Choice(plain, made if made.regions else None)


def module_class(model: ir.Model, target: str, strategy: str) -> type[nn.Module]:
    """The class of `model` for `target`; raises as `choose` and `Choice.load` do."""
    return choose(model, target, strategy).load()
