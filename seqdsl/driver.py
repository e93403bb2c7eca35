"""The stages in order: text → spec → model → verdicts → artifact → module.

The first file to read. Each function is one arrow of the compiler; whoever asks for a
late stage runs the earlier ones by these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqdsl.analysis import Analyzed, analyze
from seqdsl.diagnostics import Diagnostic, SpecError, UnsupportedError
from seqdsl.elaborate import (
    Elaborated,
    Program,
    elaborate,
    unused_imports,
)
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar
from seqdsl.locate import locate

if TYPE_CHECKING:
    from torch import nn

    from seqdsl.backends.torch import Artifact
    from seqdsl.native.choose import Choice


load = locate


@dataclass(frozen=True)
class Checked:
    """What is wrong with a program, and the verdicts of the layers that are right."""

    diagnostics: tuple[Diagnostic, ...]
    layers: Mapping[str, Analyzed]


def check(program: Program, given: Mapping[str, Scalar] | None = None) -> Checked:
    """Elaborate and analyze every layer; each finding once.

    `given` are options for the last layer. Sizes are checked where all are known.
    """
    found: dict[Diagnostic, None] = {}
    layers: dict[str, Analyzed] = {}
    for name in program.layers:
        options = (given or {}) if name == program.layers[-1] else {}
        try:
            elaborated = elaborate(program, name, options)
            model = elaborated.model
            if options or all(o.default is not None for o in model.options):
                bind_sizes(model, options)
            found.update(dict.fromkeys(elaborated.warnings))
            layers[name] = analyze(model)
        except SpecError as error:
            found.update(dict.fromkeys(error.diagnostics))
    if len(layers) == len(program.layers):
        found.update(dict.fromkeys(unused_imports(program)))
    return Checked(tuple(found), layers)


def require_target(target: str) -> None:
    """Raise `UnsupportedError` for a target that nothing is built for."""
    if target not in ("auto", "torch", "mlir", "triton"):
        names = "there are `torch`, `mlir` and `triton`"
        raise UnsupportedError(f"there is no target `{target}`; {names}")


def artifact(elaborated: Elaborated, target: str, strategy: str) -> Artifact:
    """A standalone module for `target` as text, nothing left to decide.

    Raises `UnsupportedError` where the target cannot host the layer.
    """
    require_target(target)
    if target == "mlir":
        raise UnsupportedError("there are no files of the target `mlir`, only modules")
    if target == "triton":
        from seqdsl.backends.triton import compile_model as with_kernels

        return with_kernels(elaborated.model, strategy=strategy)
    from seqdsl.backends.torch import compile_model

    return compile_model(elaborated.model, strategy=strategy)


def choose(elaborated: Elaborated, target: str, strategy: str) -> Choice:
    """The files of the class of a layer for `target`, which may be kept.

    Raises `UnsupportedError` where the target cannot host the layer.
    """
    require_target(target)
    from seqdsl.native.choose import choose as chosen

    return chosen(elaborated.model, target, strategy)


def module_class(elaborated: Elaborated, target: str, strategy: str) -> type[nn.Module]:
    """The class of a layer for `target`; its instances are torch modules.

    Raises `UnsupportedError` where the target cannot host the layer.
    """
    return choose(elaborated, target, strategy).load()
