"""Whether scans that are not sums of products are safe in floating point: semirings, monoids."""

from __future__ import annotations

import math
from collections.abc import Iterator

from seqdsl.analysis import modular
from seqdsl.analysis.bounds import Bounds
from seqdsl.analysis.intervals import Interval
from seqdsl.analysis.note import LARGEST, Note
from seqdsl.analysis.show import Shower
from seqdsl.analysis.verdict import Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import subtree
from seqdsl.source import NOWHERE, Span

_WHOLE = 256
"""From here on not every whole number is a bfloat16."""


def algebra_notes(
    model: ir.Model, verdict: Verdict, bounds: Bounds, show: Shower
) -> Iterator[Note]:
    """What can overflow in a scan of `verdict` or lose digits, and which form is safe."""
    notes = _Algebra(model, verdict, bounds, show)
    match verdict.semiring, verdict.monoid:
        case "log" | "max_plus" | "min_plus", _:
            yield from notes.tropical()
        case "max_min" | "boolean", _:
            text = (
                "maxima and minima only pick values that are there: exact in any order"
            )
            yield Note("scan", text, span=notes.place)
        case _, "clamp":
            yield from notes.clamp()
        case _, "table":
            text = (
                "tables hold only values that the state has: exact, nothing overflows"
            )
            yield Note("scan", text, span=notes.place)
        case _, ir.Monoid(name=modular.NAME):
            text = "remainders are taken at every step of a scan too: nothing can grow"
            yield Note("scan", text, span=notes.place)
        case _, ir.Monoid() as monoid:
            yield from notes.declared(monoid)
        case _:
            return


class _Algebra:
    def __init__(
        self, model: ir.Model, verdict: Verdict, bounds: Bounds, show: Shower
    ) -> None:
        self.model = model
        self.verdict = verdict
        self.bounds = bounds
        self.show = show

    @property
    def place(self) -> Span | None:
        """The first update."""
        span = self.model.equation[self.verdict.recurrence.states[0]].span
        return None if span is NOWHERE else span

    # ---- Sums and maxima

    def tropical(self) -> Iterator[Note]:
        """Weights are added up along a path, at most T of them."""
        if self.verdict.semiring == "log":
            text = (
                "a log of a sum of exponentials is taken relative to the largest exponent: "
                "no exp of more than 0, so nothing overflows; -inf, an empty sum, stays -inf"
            )
        else:
            text = (
                "sums and maxima only; a scan adds a path's weights in another order, so "
                "that paths that tie up to rounding may change places"
            )
        yield Note("scan", text.replace("maxima", self._extrema()), span=self.place)
        for update in self.verdict.updates:
            for weight in dict.fromkeys(f for t in update.terms for f in t.factors):
                yield self._weight(weight, self._line(update.state))

    def _extrema(self) -> str:
        return "minima" if self.verdict.semiring == "min_plus" else "maxima"

    def _weight(self, weight: ir.Node, place: Span | None) -> Note:
        found = self.bounds.of(weight)
        name = self.show.text(weight)
        if found.high <= 0:
            text = "what is carried cannot grow, only fade"
        elif found.high < math.inf:
            text = f"a sum over T steps is at most {found.high:.4g} * T"
        else:
            text = (
                f"a sum over T steps can grow; beyond {_WHOLE} bfloat16 has no fractions: "
                "keep such a state in float32"
            )
        return Note(
            "coefficient", f"the weight {name} lies in {found}: {text}", span=place
        )

    def _line(self, state: str) -> Span | None:
        span = self.model.equation[state].span
        return None if span is NOWHERE else span

    # ---- Monoids

    def clamp(self) -> Iterator[Note]:
        """The shifts of several steps are added up apart from the state."""
        shift, low, high = (self.bounds.of(n) for n in self.verdict.leaf)
        kept = Interval(low.low, high.high)
        bounded = math.isfinite(kept.low) and math.isfinite(kept.high)
        inside = (
            f"the state stays in {kept}" if bounded else "the state has no two bounds"
        )
        yield Note("scan", f"{inside}: no step can make it overflow", span=self.place)
        most = max(abs(shift.low), abs(shift.high))
        size = f"up to {most:.4g} * T" if most < math.inf else "without bound"
        text = (
            f"a scan adds up the shifts of several steps apart from the state, {size}: it "
            "rounds relative to that sum, not to the state; safe: the loop, or a scan in float32"
        )
        unsafe = not bounded or most == math.inf or most > abs(kept.high)
        yield Note("scan", text, unsafe, self.place)

    def declared(self, monoid: ir.Monoid) -> Iterator[Note]:
        """Products of fields, exponents and divisors in what the writer declared."""
        pairs = list(zip(monoid.fields, self.verdict.leaf, strict=True))
        for ((name, type_), leaf), combined in zip(pairs, monoid.combine, strict=True):
            found = self.bounds.of(leaf)
            growing = any(map(self._multiplies, subtree(combined)))
            if type_.dtype == "float" and growing:
                yield self._product(name, found, combined.span)
        nodes = [n for e in (*monoid.combine, *monoid.read) for n in subtree(e)]
        for node in dict.fromkeys(n for n in nodes if isinstance(n, ir.Map)):
            if node.op == "exp":
                yield self._exponent(node)
            elif node.op == "div" and 0 in self.bounds.of(node.args[1]):
                text = f"this divides by {_text(node.args[1])}, which can be 0"
                yield Note("scan", text, True, _span(node, self.place))

    def _multiplies(self, node: ir.Node) -> bool:
        """Whether values of two steps are multiplied, neither of them a mere weight."""
        if not isinstance(node, ir.Map | ir.Contract):
            return False
        if isinstance(node, ir.Map) and node.op != "mul":
            return False
        wide = [a for a in node.args if not self.bounds.of(a).inside(-1, 1)]
        steps = [{_step(n) for n in subtree(a)} - {""} for a in wide]
        return any("first" in s for s in steps) and any("second" in s for s in steps)

    def _product(self, name: str, found: Interval, span: Span) -> Note:
        place = self.place if span is NOWHERE else span
        if found.inside(-1, 1):
            text = (
                f"{name} of a step lies in {found}: products of steps cannot grow by it"
            )
            return Note("scan", text, span=place)
        text = (
            f"{name} of a step lies in {found}, and combining multiplies: over T steps "
            "products can overflow where a loop does not; safe: the loop, or divide an "
            "element by its largest entry where that does not change what it does"
        )
        return Note("scan", text, True, place)

    def _exponent(self, node: ir.Map) -> Note:
        found = self.bounds.of(node.args[0])
        name = _text(node.args[0])
        place = _span(node, self.place)
        if found.high <= LARGEST:
            text = f"exp({name}): the exponent lies in {found}, it cannot overflow"
            return Note("scan", text, span=place)
        text = (
            f"exp({name}) can overflow float32 and bfloat16 (above e^{LARGEST:.1f}); safe: "
            "exponents relative to a running maximum, never positive"
        )
        return Note("scan", text, True, place)


def _step(node: ir.Node) -> str:
    name = node.name if isinstance(node, ir.Ref) else ""
    return name.partition(".")[0] if name.startswith(("first.", "second.")) else ""


def _text(node: ir.Node) -> str:
    """The writer's own words: inside a monoid fields have no other names."""
    return " ".join(node.span.text.split())


def _span(node: ir.Node, otherwise: Span | None) -> Span | None:
    return otherwise if node.span is NOWHERE else node.span
