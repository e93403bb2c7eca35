"""The printed form of an adjoint: what is kept, then the model that runs backward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from seqdsl.differentiate.adjoint import Adjoint
from seqdsl.ir.text import model_text


def adjoint_text(found: Adjoint) -> str:
    """`found` as `show --stage adjoint` prints it; initial values of parameters are left out."""
    backward = found.backward
    params = (
        replace(p, init=replace(p.init, kind="expr", expr=None))
        for p in backward.params
    )
    model = model_text(replace(backward, params=tuple(params)))
    return "\n".join([*_header(found), "", model])


def _header(found: Adjoint) -> Iterator[str]:
    yield f"adjoint of {found.forward.name}"
    for state in found.first:
        yield f"  starts {state} from {found.first[state]}, ends it as {found.last[state]}"
    kept = found.kept
    for what, names in (
        ("keeps at every step", kept.saved),
        ("keeps at chunk borders", kept.borders),
        ("computes again", kept.recomputed),
    ):
        if names:
            yield f"  {what}: {', '.join(names)}"
