"""Every diagnostic there is: code to short title. Each has a page in docs/errors/."""

from __future__ import annotations

from collections.abc import Mapping

from seqdsl.analysis.codes import ANALYSIS_CODES
from seqdsl.elaborate.codes import ELABORATE_CODES
from seqdsl.syntax.codes import SYNTAX_CODES

BIND_CODES: Mapping[str, str] = {
    "E0501": "an option is not given",
    "E0502": "unknown option",
    "E0503": "a size is not a whole number",
    "E0504": "sizes do not agree",
    "E0505": "an option's value is of the wrong kind",
}
"""Diagnostics of `ir/bind.py`, which meets the values that a caller gives."""

CODES: Mapping[str, str] = {
    **SYNTAX_CODES,
    **ELABORATE_CODES,
    **ANALYSIS_CODES,
    **BIND_CODES,
}
