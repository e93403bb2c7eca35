"""Readable torch modules from a layer: `compile_model(model)`."""

from __future__ import annotations

from seqdsl.analysis import analyze
from seqdsl.backends.torch.lower import lower
from seqdsl.backends.torch.module import Artifact
from seqdsl.backends.torch.render import render
from seqdsl.ir import nodes as ir
from seqdsl.schedule.choose import Wish, require, wish_of

__all__ = ["Artifact", "compile_model", "required"]


def compile_model(model: ir.Model, *, strategy: str = "auto") -> Artifact:
    """A file that computes `model` with torch alone.

    `strategy` is `auto` or one that all recurrences follow which have it. Raises
    `CallError` for a strategy that does not exist, `SpecError` for one that no recurrence
    of the layer has because all are sequential, and `UnsupportedError` for one that none
    has for another reason, and for what `unsupported.py` lists.
    """
    module = lower(model, required(model, strategy))
    name = f"{model.name.lower()}.py"
    return Artifact({name: render(module)}, name, module.main)


def required(model: ir.Model, strategy: str) -> Wish:
    """The wish that `strategy` spells; raises as `compile_model` does."""
    wish = wish_of(strategy)
    if wish.strategy not in ("auto", "loop"):
        require(analyze(model).verdicts, wish, model.name)
    return wish
