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
    from seqdsl.checkpoints import checkpoint_layouts, load_checkpoint
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
    "checkpoint_layouts",
    "load",
    "load_checkpoint",
    "loads",
    "std",
    "testing",
]
_HOMES = {
    "Layer": "api",
    "Spec": "api",
    "checkpoint_layouts": "checkpoints",
    "load": "api",
    "load_checkpoint": "checkpoints",
    "loads": "api",
    "std": "api",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'seqdsl' has no attribute {name!r}")
    if name == "testing":
        return import_module("seqdsl.testing")
    return getattr(import_module(f"seqdsl.{_HOMES.get(name, 'diagnostics')}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
