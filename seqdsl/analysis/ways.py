"""The lines of a derivation on what a recurrence allows beside a scan of the whole."""

from __future__ import annotations

from collections.abc import Iterator

from seqdsl.analysis.one_line import one_line
from seqdsl.analysis.show import Shower
from seqdsl.analysis.step import Step
from seqdsl.analysis.verdict import Forced, PerChunk, Verdict, Wavefront


def other_ways(verdict: Verdict, show: Shower) -> Iterator[Step]:
    """Per chunk, under a condition, in a wavefront."""
    if verdict.per_chunk is not None:
        yield from _per_chunk(verdict.per_chunk, show)
    for found in verdict.forced:
        yield from _forced(found)
    if verdict.wavefront is not None:
        yield _wavefront(verdict.wavefront)


def _per_chunk(found: PerChunk, show: Shower) -> Iterator[Step]:
    borders = " or ".join(show.spelling(b) or show.text(b) for b in found.borders)
    verb = "changes" if len(found.held) == 1 else "change"
    yield Step("chunk", f"{', '.join(found.held)} {verb} only where {borders}")
    for inner in found.verdicts:
        yield Step("chunk", f"until then {_plain(inner)}")
    size = "" if found.size is None else f" of {found.size} steps"
    yield Step(
        "so",
        f"a scan per chunk{size}, linearized anew at its border; chunks one after "
        "another: how long they are is part of the meaning",
    )


def _forced(found: Forced) -> Iterator[Step]:
    if not found.verdicts:
        yield Step("if", f"{found.condition}: no recurrence is left, all steps at once")
    for inner in found.verdicts:
        yield Step("if", f"{found.condition}: {_plain(inner)}")


def _wavefront(found: Wavefront) -> Step:
    first, second = found.axes
    if not found.speculative:
        text = (
            f"a step needs its neighbors along {first} and {second} only: those of one "
            f"diagonal {first} + {second} can be taken at once"
        )
    else:
        text = (
            f"a step needs the last one along {second} of the step before along {first}: "
            "a wavefront has to guess it and to repeat steps until they agree"
        )
    return Step("front", text)


def _plain(verdict: Verdict) -> str:
    """One line without the strategies."""
    line = one_line(verdict)
    ways = ", ".join(verdict.strategies)
    return line.removesuffix(f": {ways}")
