"""Whether the strategies of a recurrence are safe in floating point, and how."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from seqdsl.analysis.bounds import Bounds
from seqdsl.analysis.costs import Costs
from seqdsl.analysis.intervals import UNIT, Interval, add, multiply, point
from seqdsl.analysis.lengths import unit_along
from seqdsl.analysis.note import LARGEST, Note
from seqdsl.analysis.safety_algebras import algebra_notes
from seqdsl.analysis.show import Shower
from seqdsl.analysis.verdict import Affine, Term, Verdict
from seqdsl.diagnostics import CallError
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar, SizeError, evaluate
from seqdsl.ir.types import TIME
from seqdsl.source import NOWHERE, Span

CHUNK, SUB_CHUNK = 64, 16
_INDEX = 2**31


def safety(
    model: ir.Model,
    verdict: Verdict,
    costs: Costs,
    known: Mapping[str, Scalar] | None = None,
) -> tuple[Note, ...]:
    """What can be said of a recurrence of `model`; `known` are sizes that are given."""
    return tuple(_Safety(model, verdict, known or {}).notes(costs))


class _Safety:
    def __init__(
        self, model: ir.Model, verdict: Verdict, known: Mapping[str, Scalar]
    ) -> None:
        self.model = model
        self.verdict = verdict
        self.known = known
        self.bounds = Bounds(model, known)
        self.show = Shower(model)

    def notes(self, costs: Costs) -> Iterator[Note]:
        """All findings, the transition first."""
        if self.verdict.semiring == "real":
            for update in self.verdict.updates:
                yield from self._update(update)
        else:
            yield from algebra_notes(self.model, self.verdict, self.bounds, self.show)
        yield from self._index(costs)

    # ---- The transition

    def _update(self, update: Affine) -> Iterator[Note]:
        if update.diagonal is not None:
            found = self._interval(update.diagonal)
            name = self.show.text(update.diagonal)
            place = self._place(update.diagonal, update.state)
            one = found.low == found.high == 1
            lead = f"the coefficient of {self._read(update.state)}, {name}, "
            if one:
                lead = "the coefficient "
            yield Note("coefficient", f"{lead}{self._facts(found)}", span=place)
            yield from self._chunk(update, found, name, place)
        for term in update.terms:
            if term.kind == "low_rank":
                yield from self._low_rank(update, term)
        if any(t.kind == "dense" for t in update.terms):
            text = (
                "no bound is known of the matrix that a step multiplies with: a scan "
                "multiplies up to T of them, which can overflow where the state does not; "
                "safe: the loop, or a scan in float32"
            )
            yield Note("scan", text, True, self._place_of(update.state))

    def _read(self, state: str) -> str:
        sign = "-" if self.verdict.recurrence.direction == "forward" else "+"
        return f"{state}[{self.verdict.recurrence.axis}{sign}1]"

    def _interval(self, node: ir.Node) -> Interval:
        if self.verdict.complex and node.type.dtype == "complex":
            return self.bounds.modulus(node)
        return self.bounds.of(node)

    def _facts(self, found: Interval) -> str:
        if found.low == found.high == 1:
            return "is 1: what is carried stays as it is"
        size = "has a modulus in" if self.verdict.complex else "lies in"
        facts = [f"{size} {found}"]
        if found.inside(-1, 1, open_low=True):
            alone = self.verdict.structure in ("scalar", "diagonal")
            rest = "what is carried cannot grow" if alone else "by itself no growth"
            facts.append(f"so always inside (-1, 1]: {rest}")
        elif found.high > 1:
            facts.append("so it can exceed 1: the state can grow without bound")
        else:
            facts.append("so it can reach -1 or less")
        facts.append("it can be 0" if 0 in found else "it is never 0")
        if found.low < 0 < found.high:
            facts.append("it can change sign")
        return "; ".join(facts)

    def _place(self, node: ir.Node, state: str) -> Span | None:
        """The definition of the coefficient, or the update it stands in."""
        name = node.name if isinstance(node, ir.Ref) else state
        equation = self.model.equation.get(name, self.model.equation[state])
        return None if equation.span is NOWHERE else equation.span

    def _place_of(self, state: str) -> Span | None:
        span = self.model.equation[state].span
        return None if span is NOWHERE else span

    def _low_rank(self, update: Affine, term: Term) -> Iterator[Note]:
        if term.left is None or term.right is None:
            return
        dims = ", ".join(term.contracted)
        right = self.show.text(term.right)
        unit = unit_along(self.bounds, term.right) & set(term.contracted)
        how = "at most 1" if unit else "not bounded: l2norm would bound it"
        text = (
            f"the low-rank part reads along {right}, whose length over {dims} is {how}"
        )
        along = self._along(update, term) if unit else None
        if along is not None and term.state == update.state:
            signs = "it can change sign" if along.low < 0 < along.high else ""
            text = "; ".join(
                filter(
                    None,
                    (
                        text,
                        f"{right} itself is multiplied by a number in {along}",
                        signs,
                    ),
                )
            )
        yield Note("low rank", text, span=self._place(term.right, update.state))

    def _along(self, update: Affine, term: Term) -> Interval | None:
        """What a step does to the vector it erases: `base * (1 - rate * length ** 2)`."""
        bare = [f.arg if isinstance(f, ir.Rename) else f for f in term.factors]
        twice = [f for i, f in enumerate(bare) if f in bare[:i]]
        alone = len(self.verdict.recurrence.states) == 1
        if not alone or len(twice) != 1 or update.diagonal is None or term.masks:
            return None
        mixed = set(term.contracted)
        others = [f for f in bare if f not in twice]
        if any(mixed & set(f.type.dims) for f in (update.diagonal, *others)):
            return None  # the vector erased is then no eigenvector of the step
        rest = [f for f in bare if f != twice[0]]
        base = self.bounds.of(update.diagonal)
        if update.diagonal in rest:
            rest.remove(update.diagonal)
            start = point(1.0)
        else:
            start, base = base, point(1.0)
        rate = UNIT
        for factor in rest:
            rate = multiply(rate, self.bounds.of(factor))
        return multiply(base, add(start, rate))

    # ---- Exponents inside a chunk

    def _chunk(
        self, update: Affine, found: Interval, name: str, place: Span | None
    ) -> Iterator[Note]:
        strategies, axis = self.verdict.strategies, self.verdict.recurrence.axis
        one = found.low == found.high == 1
        if "chunk" not in strategies or axis != TIME or one or self.verdict.complex:
            return
        if found.low < 0:
            text = "no logarithm of the coefficient is taken, as it may be negative"
            yield Note("chunk", f"{text}: chunks multiply it out", span=place)
            return
        assert update.diagonal is not None
        mixed = {d for t in update.terms for d in t.contracted}
        shape = self.model.equation[update.state].expr.type.dims
        diagonal = self.verdict.structure in ("diagonal", "diagonal_plus_low_rank")
        apart = diagonal and len(shape) > 1
        grows = CHUNK * math.log(found.high) if 1 < found.high < math.inf else math.inf
        if found.high > 1 and grows > LARGEST:
            text = (
                f"the product of {name} over a chunk of {CHUNK} can overflow float32 and "
                f"bfloat16 (above e^{LARGEST:.1f}); an exponent that is never positive, "
                "as -softplus(...), avoids it"
            )
            yield Note("chunk", text, True, place)
        elif apart or (diagonal and mixed):
            yield self._factored(found, name, place)
        else:
            text = (
                f"within a chunk only quotients of products of {name} occur, from an "
                f"earlier step to a later one: at most {_power(grows, found)}, safe in "
                "float32 and bfloat16"
            )
            yield Note("chunk", text, span=place)

    def _factored(self, found: Interval, name: str, place: Span | None) -> Note:
        """Per-channel decays are split into a factor for each side of a product."""
        most = -CHUNK * math.log(found.low) if found.low > 0 else math.inf
        if most <= LARGEST:
            text = (
                f"over a chunk of {CHUNK} the inverse of the products of {name} is at "
                f"most e^{most:.1f}: the factored form fits float32 and bfloat16 "
                f"(up to e^{LARGEST:.1f})"
            )
            return Note("chunk", text, span=place)
        size = f"e^{most:.0f}" if most < math.inf else "without bound"
        text = (
            f"over a chunk of {CHUNK} the inverse of the products of {name} can grow "
            f"({size}; float32 and bfloat16 end at e^{LARGEST:.1f}): the factored form is "
            f"unsafe; safe: sub-chunks of {SUB_CHUNK}, exponents relative to the running "
            "maximum"
        )
        return Note("chunk", text, True, place)

    # ---- Sizes

    def _index(self, costs: Costs) -> Iterator[Note]:
        """How long a sequence may be before 32-bit indices no longer do."""
        if not self.known or not costs.state.terms:
            return
        try:
            size = evaluate(costs.state.size(), self.known)
        except (KeyError, SizeError, CallError):
            return
        if not isinstance(size, int | float) or size < 1:
            return
        limit = int(_INDEX // size)
        text = (
            f"a state has {int(size)} numbers: from T*B = {limit} on, all states of a "
            "call need 64-bit indices"
        )
        yield Note("index", text, limit < CHUNK)


def _power(grows: float, found: Interval) -> str:
    return "1" if found.high <= 1 else f"e^{grows:.1f}"
