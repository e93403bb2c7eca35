"""Diagnostics of the analysis: why a recurrence is no scan, code to short title."""

from __future__ import annotations

from collections.abc import Mapping

ANALYSIS_CODES: Mapping[str, str] = {
    "E0301": "the state goes through a nonlinear function",
    "E0302": "values that both depend on the state are multiplied",
    "E0303": "something is divided by a value that depends on the state",
    "E0304": "a choice depends on the state",
    "E0305": "the state goes through a nonlinear reduction",
    "E0306": "the recurrence reads all its earlier steps",
    "E0307": "the state goes through an extern op",
    "E0308": "the state goes through a sub-layer",
    "E0309": "the recurrence goes through a whole repeat",
    "E0310": "the recurrence reads both earlier and later steps",
    "E0311": "the update is linear over real numbers only, not over complex ones",
    "E0312": "the gradient is cut inside the recurrence",
    "E0313": "whether a step is taken depends on the state",
    "E0314": "the update is too long to be put in normal form",
    "E0315": "`grad` cannot go through this",
    "E0316": "a monoid is not associative",
    "E0317": "the defaults of a monoid's fields are not its identity",
    "E0318": "a monoid that is declared to commute does not",
    "E0319": "two elements of a monoid in a row do not do what they combine to",
    "E0320": "a step of a monoid depends on the states that it moves",
}
