"""The public property-test kit: strategies for hypothesis, and properties of layers.

`check_module(module)` and `check_model(model, options)` run every property; `cases`,
`splits`, `runs`, `random_specs` and `option_values` are strategies of their own. The
names are loaded when first used, since torch and hypothesis come with them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqdsl.testing.cases import Case, cases, inputs_for, parse_case, runs, splits
    from seqdsl.testing.check import (
        Failure,
        Outcome,
        check_model,
        check_module,
        check_property,
        check_subject,
    )
    from seqdsl.testing.layers import subject, subjects
    from seqdsl.testing.properties import PROPERTIES, Property
    from seqdsl.testing.replay import ReplayModule
    from seqdsl.testing.sizes import option_sets, option_values
    from seqdsl.testing.specs import random_specs
    from seqdsl.testing.subject import Subject

_HOMES = {
    "cases": ("Case", "cases", "inputs_for", "parse_case", "runs", "splits"),
    "check": (
        "Failure",
        "Outcome",
        "check_model",
        "check_module",
        "check_property",
        "check_subject",
    ),
    "layers": ("subject", "subjects"),
    "properties": ("PROPERTIES", "Property"),
    "replay": ("ReplayModule",),
    "sizes": ("option_sets", "option_values"),
    "specs": ("random_specs",),
    "subject": ("Subject",),
}

__all__ = [
    "PROPERTIES",
    "Case",
    "Failure",
    "Outcome",
    "Property",
    "ReplayModule",
    "Subject",
    "cases",
    "check_model",
    "check_module",
    "check_property",
    "check_subject",
    "inputs_for",
    "option_sets",
    "option_values",
    "parse_case",
    "random_specs",
    "runs",
    "splits",
    "subject",
    "subjects",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"seqdsl.testing.{home}"), name)
    raise AttributeError(f"module 'seqdsl.testing' has no attribute {name!r}")
