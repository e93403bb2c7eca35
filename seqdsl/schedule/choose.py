"""Which recurrences run as loops and which in a parallel form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from seqdsl.analysis.verdict import Strategy, Verdict
from seqdsl.diagnostics import CallError, SpecError, UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children
from seqdsl.schedule.borders import pieces_of
from seqdsl.schedule.cost import cheapest
from seqdsl.schedule.forms import (
    DiagonalScan,
    Form,
    MatrixScan,
    MonoidScan,
    Newton,
    Pieces,
    Products,
)
from seqdsl.schedule.newton import newton_of
from seqdsl.schedule.products import AnyChunked, Chunked, products
from seqdsl.schedule.rows import copies_of
from seqdsl.schedule.scans import scan_of
from seqdsl.schedule.turns import in_turns

STRATEGIES: tuple[Strategy, ...] = ("loop", "scan", "chunk", "convolve", "newton")
CHUNK = 64
"""Steps of a chunk where nobody says how many."""


@dataclass(frozen=True)
class Wish:
    """How recurrences shall run: `auto`, or a strategy for all that have it.

    Where forms are `fused`, each a few kernels, `auto` takes what moves least memory.
    """

    strategy: Strategy | Literal["auto"] = "auto"
    chunk: int = CHUNK
    strict: bool = False
    most: int | None = None
    fused: bool = False


LOOP = Wish("loop")


def wish_of(text: str) -> Wish:
    """`auto`, or a strategy: `chunk:64` with its size, `newton:8` with its iterations.

    `newton:strict` raises where the iteration fails.

    Raises `CallError` for anything else.
    """
    name, _, size = text.partition(":")
    known = name == "auto" or name in STRATEGIES
    number = size.isdecimal() and int(size) > 0 and name in ("chunk", "newton")
    strict = (name, size) == ("newton", "strict")
    if not known or (":" in text and not number and not strict):
        ways = (
            "auto, loop, scan, chunk, chunk:64, convolve, newton, newton:8, "
            "newton:strict"
        )
        raise CallError(f"there is no strategy `{text}`; strategies: {ways}")
    strategy: Strategy | Literal["auto"] = "auto"
    for way in STRATEGIES:
        strategy = way if way == name else strategy
    count = int(size) if number else None
    chunk = count if name == "chunk" and count else CHUNK
    return Wish(strategy, chunk, strict, count if name == "newton" else None)


def form_of(model: ir.Model, verdict: Verdict, wish: Wish) -> Form | AnyChunked | None:
    """The form in which `wish` has a recurrence over time run; None is a loop.

    What the recurrence cannot do it runs as `auto` would.
    """
    legal = verdict.strategies
    if any(copies_of(model, s) for s in verdict.recurrence.states if s in model.state):
        return None  # forms know dims alone, not copies of time
    strategy = wish.strategy if wish.strategy in legal else "auto"
    match strategy:
        case "loop":
            return None
        case "scan":
            return scan_of(model, verdict)
        case "chunk":
            found = _chunks(model, verdict, wish.chunk)
            return found or (None if _by_border(verdict) else scan_of(model, verdict))
        case "convolve":
            return scan_of(model, verdict, filtered=True) or scan_of(model, verdict)
        case "newton":
            return newton_of(model, verdict, strict=wish.strict, most=wish.most)
        case "auto":
            return _cheapest(model, verdict, wish.fused)


def _by_border(verdict: Verdict) -> bool:
    """Whether its chunks are part of what a recurrence means."""
    return verdict.verdict == "sequential"


def _chunks(model: ir.Model, verdict: Verdict, size: int) -> AnyChunked | Pieces | None:
    if not start_alike(model, verdict):
        return None
    if _by_border(verdict):
        return pieces_of(model, verdict, size)
    return products(model, verdict, size) or in_turns(model, verdict, size)


def start_alike(model: ir.Model, verdict: Verdict) -> bool:
    """Chunks start all segments alike, so states must not begin with sums over them."""
    states = [model.state[s] for s in verdict.recurrence.states if s in model.state]
    return not any(_over_time(model, state.initial) for state in states)


def _over_time(model: ir.Model, node: ir.Node) -> bool:
    """Whether a value is made of the steps of a sequence."""
    match node:
        case ir.Copy() | ir.At(axis="t") | ir.Result():
            return True
        case ir.Ref(name=name) if name in model.state:
            return True
        case ir.Reduce(over=over) | ir.Contract(over=over) if TIME in over:
            return True
        case ir.Ref(name=name) if name in model.equation:
            return _over_time(model, model.equation[name].expr)
        case _:
            return any(_over_time(model, child) for child in children(node))


def _cheapest(
    model: ir.Model, verdict: Verdict, fused: bool
) -> Form | AnyChunked | None:
    """What takes least of all forms that give the numbers of a step; None is a loop."""
    forms: dict[Strategy, Form | AnyChunked | None] = {}
    if "chunk" in verdict.strategies and not (fused and _by_border(verdict)):
        found = _chunks(model, verdict, CHUNK)
        if found is not None:
            forms["chunk"] = found
    if "scan" in verdict.strategies:
        found = scan_of(model, verdict)
        # sums in another order break the ties of paths otherwise than a step does
        ties = isinstance(found, MatrixScan) and found.semiring not in _EXACT
        if found is not None and not ties:
            forms["scan"] = found
    if "loop" in verdict.strategies:
        forms["loop"] = None
    if fused:  # chunks keep states between chunks only, a loop starts every step anew
        return next(iter(forms.values()), None)
    return forms[cheapest(model, verdict, forms)] if forms else None


_EXACT = ("real", "log", "boolean")


def require(verdicts: Iterable[Verdict], wish: Wish, layer: str) -> None:
    """Raise where none of the recurrences over time can run as `wish` says.

    `SpecError` with the reasons where all are sequential, else `UnsupportedError`.
    """
    found = [v for v in verdicts if v.recurrence.axis == TIME]
    looped = [v for v in found if v.verdict not in ("none", "fir")]
    if wish.strategy in ("auto", "loop") or any(
        wish.strategy in v.strategies for v in found
    ):
        return
    reasons = [d for v in looped for d in v.reasons]
    if reasons and all(v.verdict in ("sequential", "opaque") for v in looped):
        raise SpecError(reasons)
    ways = sorted({s for v in found for s in v.strategies}, key=STRATEGIES.index)
    has = f"it has {', '.join(ways)}" if ways else "nothing in it is a recurrence"
    raise UnsupportedError(f"{layer} has no strategy `{wish.strategy}`; {has}")


def chosen(model: ir.Model, verdict: Verdict) -> Strategy | None:
    """What `auto` runs a recurrence of `model` as; None where there is nothing to run."""
    if verdict.verdict == "fir" and "convolve" in verdict.strategies:
        return "convolve"
    if not verdict.strategies or verdict.recurrence.axis != TIME:
        return "loop" if "loop" in verdict.strategies else None
    match form_of(model, verdict, Wish()):
        case None:
            return "loop"
        case DiagonalScan(filtered=True):
            return "convolve"
        case Chunked() | Products() | Pieces():
            return "chunk"
        case Newton():
            return "newton"
        case DiagonalScan() | MatrixScan() | MonoidScan():
            return "scan"
