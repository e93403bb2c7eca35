"""Torch modules whose scans and chunks are Triton kernels: `compile_model(model)`."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.backends.torch import required
from seqdsl.backends.torch.lower import Prepared, lower, prepare
from seqdsl.backends.torch.module import Artifact
from seqdsl.backends.torch.render import render
from seqdsl.backends.triton.assemble import names, with_kernels
from seqdsl.backends.triton.found import chunks_of
from seqdsl.backends.triton.loops.classes import remarked, with_loops
from seqdsl.ir import nodes as ir

__all__ = ["compile_model"]


def compile_model(model: ir.Model, *, strategy: str = "auto") -> Artifact:
    """A file that computes `model` with torch and Triton alone.

    On a GPU recurrences that scan or go by chunks run as kernels, where their shapes and
    dtypes allow it; so do loops, those of parallel forms that have no kernel among them,
    and single steps where no gradient is wanted. All else, and all on a CPU, is what the
    torch backend makes of it; comments in `forward` say why.
    Raises what that raises.
    """
    wish = replace(required(model, strategy), fused=True)
    plans: Prepared = {}
    prepare(model, wish, plans)
    module = remarked(lower(model, wish, taken=names()))
    asked = strategy.partition(":")[0] not in ("auto", "loop")
    module, loops = with_loops(module, model, names(), asked)
    found = chunks_of([plan for _, plan in plans.values()])
    module = with_kernels(module, found, loops)
    name = f"{model.name.lower()}_triton.py"
    return Artifact({name: render(module)}, name, module.main)
