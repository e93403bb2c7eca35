"""The stages in order: text → spec → model → verdicts → artifact → module.

The first file to read. Each function is one arrow of the compiler; whoever asks for a
late stage runs the earlier ones by these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seqdsl.analysis import Analyzed, analyze
from seqdsl.diagnostics import UnsupportedError
from seqdsl.elaborate import Elaborated, elaborate
from seqdsl.elaborate.program import Program, load_file, load_std, load_text
from seqdsl.ir.sizes import Scalar

if TYPE_CHECKING:
    from seqdsl.backends.torch import Artifact

TARGETS = ("torch", "mlir", "triton")
"""Every target there is or will be; `artifact` says which it can do."""


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


def loads(text: str, name: str, folder: Path | None) -> Program:
    """The program of a text; its imports are looked up in `folder`."""
    return load_text(text, name, folder)


def model(program: Program, layer: str, given: Mapping[str, Scalar]) -> Elaborated:
    """The typed IR of one layer, with warnings; sizes stay symbolic."""
    return elaborate(program, layer, given)


def verdicts(elaborated: Elaborated) -> Analyzed:
    """What can run in parallel, per recurrence."""
    return analyze(elaborated.model)


def artifact(elaborated: Elaborated, target: str, strategy: str) -> Artifact:
    """A standalone module for `target` as text, nothing left to decide.

    Raises `UnsupportedError` where the target cannot host the layer.
    """
    if target not in ("auto", "torch"):
        known = ", ".join(TARGETS)
        why = "not built yet" if target in TARGETS else f"unknown (there are {known})"
        raise UnsupportedError(f"target `{target}` is {why}; use `torch`")
    from seqdsl.backends.torch import compile_model

    return compile_model(elaborated.model, strategy=strategy)
