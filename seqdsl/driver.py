"""The stages in order: text → spec → model → verdicts → artifact → module.

The first file to read. Each function is one arrow of the compiler; whoever asks for a
late stage runs the earlier ones by these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqdsl.analysis import Analyzed, analyze
from seqdsl.diagnostics import Diagnostic, SpecError, UnsupportedError
from seqdsl.elaborate import (
    Elaborated,
    Program,
    elaborate,
    load_file,
    load_std,
    unused_imports,
)
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar

if TYPE_CHECKING:
    from seqdsl.backends.torch import Artifact


def load(name: str) -> tuple[Program, str | None]:
    """The program that `FILE`, `FILE:Layer`, `std.gla` or `std.gla:GLA` names.

    The second value is the layer that was named. Raises `OSError` where the file cannot
    be read, `SpecError` where it is wrong.
    """
    path, layer = name, None
    if ":" in name and not Path(name).exists():
        path, _, layer = name.rpartition(":")
    if path.startswith("std.") and not Path(path).exists():
        return load_std(path.removeprefix("std.")), layer
    return load_file(Path(path)), layer


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


def artifact(elaborated: Elaborated, target: str, strategy: str) -> Artifact:
    """A standalone module for `target` as text, nothing left to decide.

    Raises `UnsupportedError` where the target cannot host the layer.
    """
    if target not in ("auto", "torch"):
        raise UnsupportedError(f"there is no target `{target}`; there is `torch`")
    from seqdsl.backends.torch import compile_model

    return compile_model(elaborated.model, strategy=strategy)
