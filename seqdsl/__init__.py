"""A declarative language and compiler for sequence models.

`seqdsl.load("gla.seq").GLA(D=64, heads=4)` is a `torch.nn.Module`. The public names are
loaded when first used, so that tools which only check specs start quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqdsl import testing
    from seqdsl.api import Layer, Spec, load, loads, std
    from seqdsl.diagnostics import (
        CallError,
        Diagnostic,
        SeqdslError,
        SpecError,
        UnsupportedError,
    )

__version__ = "0.1.0"
__all__ = [
    "CallError",
    "Diagnostic",
    "Layer",
    "SeqdslError",
    "Spec",
    "SpecError",
    "UnsupportedError",
    "load",
    "loads",
    "std",
    "testing",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'seqdsl' has no attribute {name!r}")
    if name == "testing":
        return import_module("seqdsl.testing")
    home = "api" if name in ("Layer", "Spec", "load", "loads", "std") else "diagnostics"
    return getattr(import_module(f"seqdsl.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
