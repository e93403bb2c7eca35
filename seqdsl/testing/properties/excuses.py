"""Why a layer need not have a property, or None where it must."""

from __future__ import annotations

from seqdsl.diagnostics import UnsupportedError
from seqdsl.testing.properties.adjoints import adjoint_of
from seqdsl.testing.subject import Subject
from seqdsl.testing.traits import all_nodes


def never(subject: Subject) -> str | None:
    """Only layers that draw new numbers in every call are excused."""
    return "it draws random numbers in every call" if subject.traits.draws else None


def streams(subject: Subject) -> str | None:
    """Layers that read later steps are excused."""
    return never(subject) or subject.refusal


def packs(subject: Subject) -> str | None:
    """Layers with values over the whole batch are excused."""
    mixes = "it takes values over the whole batch"
    return never(subject) or (mixes if subject.traits.mixes_rows else None)


def separable(subject: Subject) -> str | None:
    """As `packs`; and those whose rows differ, since each draws its own numbers."""
    own = "every row draws its own numbers"
    return packs(subject) or (own if subject.traits.numbers_rows else None)


def packs_streaming(subject: Subject) -> str | None:
    """As both `packs` and `streams`."""
    return packs(subject) or subject.refusal


def smooth(subject: Subject) -> str | None:
    """Layers whose gradients are not slopes on purpose, or not known, are excused."""
    if subject.traits.stops:
        return "it holds gradients back on purpose"
    if subject.traits.externs:
        return "it calls extern ops"
    return never(subject)


def differentiable(subject: Subject) -> str | None:
    """Layers without an adjoint are excused, in its own words."""
    try:
        adjoint_of(subject)
    except UnsupportedError as error:
        return f"it has no adjoint: {error}"
    return never(subject)


def continuous(subject: Subject) -> str | None:
    """Layers that jump, where rounding may land on the other side, are excused."""
    if subject.bare:
        return "it computes with no float values that it is given"
    if subject.traits.jumps:
        return "it is not continuous"
    complex_ = any(n.type.dtype == "complex" for n in all_nodes(subject.model))
    return "it computes with complex numbers" if complex_ else never(subject)


def always(subject: Subject) -> str | None:
    """No layer is excused."""
    del subject
    return None
