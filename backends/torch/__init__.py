"""Readable torch modules from a layer: `compile_model(model)`."""

from __future__ import annotations

from seqdsl.backends.torch.lower import lower
from seqdsl.backends.torch.module import Artifact
from seqdsl.backends.torch.render import render
from seqdsl.ir import nodes as ir

__all__ = ["Artifact", "compile_model"]


def compile_model(model: ir.Model, *, strategy: str = "auto") -> Artifact:
    """A file that computes `model` with torch alone.

    `strategy` is `auto` or `loop`: a recurrence runs step by step. Raises
    `UnsupportedError` for another strategy and for what `unsupported.py` lists.
    """
    from seqdsl.diagnostics import UnsupportedError

    if strategy not in ("auto", "loop"):
        raise UnsupportedError(f"the torch backend has no strategy `{strategy}`")
    module = lower(model)
    name = f"{model.name.lower()}.py"
    return Artifact({name: render(module)}, name, module.main)
