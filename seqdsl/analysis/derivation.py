"""How a verdict follows from the equations, in lines that a reader can follow.

The update as written, the definitions of the same step that it uses, what is left when
they are put in (coefficients, reads, an offset), and what that says of the structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from seqdsl.analysis import modular
from seqdsl.analysis.because import SEMIRINGS, because, unrenamed
from seqdsl.analysis.folded import folded
from seqdsl.analysis.graph import name_of
from seqdsl.analysis.parts import Parts
from seqdsl.analysis.show import Shower
from seqdsl.analysis.step import Step
from seqdsl.analysis.verdict import Affine, Semiring, Term, Verdict
from seqdsl.analysis.ways import other_ways
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import subtree, transform
from seqdsl.source import BUILTIN

MAXIMUM = 8
"""No more lines of a kind than this."""


def derivation(model: ir.Model, verdict: Verdict) -> tuple[Step, ...]:
    """The lines that lead to `verdict`, one on a recurrence of `model`."""
    return tuple(_Derivation(model, verdict).steps())


class _Derivation:
    def __init__(self, model: ir.Model, verdict: Verdict) -> None:
        self.model = model
        self.verdict = verdict
        self.parts = Parts(model, verdict)
        self.show = Shower(model)

    def steps(self) -> Iterator[Step]:
        """All lines in order."""
        kind = self.verdict.verdict
        if kind == "fir":
            yield from self._finite()
            return
        if kind == "none":
            yield Step("so", "nothing of the state is left: there is no recurrence")
            return
        yield from self._written()
        if self.verdict.updates:
            yield from self._parted()
            for update in self.verdict.updates:
                yield from self._collected(update)
            for reason in because(self.model, self.verdict, self.show):
                yield Step("so", reason)
        elif kind == "scannable":
            yield from self._other()
        else:
            yield from self._outside()
        if self.verdict.commutes:
            yield Step(
                "so",
                f"steps commute, their order does not matter: {self.verdict.commutes}",
            )
        yield from other_ways(self.verdict, self.show)

    # ---- As written

    def _written(self) -> Iterator[Step]:
        states = self.verdict.recurrence.states
        updates = (step for name in states for step in self._equation("update", name))
        yield from dict.fromkeys(updates)  # one line may update several states
        between = [e.name for e in self.parts.equations if e.name not in states]
        shown = [n for n in between if self.model.equation[n].written]
        for name in shown[:MAXIMUM]:
            yield from self._equation("with", name)
        if len(shown) > MAXIMUM:
            yield Step("with", f"… and {len(shown) - MAXIMUM} more definitions")

    def _equation(self, lead: str, name: str) -> Iterator[Step]:
        equation = self.model.equation.get(name)
        if equation is None:
            return
        line = self._line(equation)
        text = " ".join(equation.span.text.split()) if line is not None else ""
        yield Step(lead, text or f"{name} = {self.show.text(equation.expr)}", line)

    def _line(self, thing: ir.Equation | ir.Node) -> int | None:
        source = thing.span.source
        here = source is not BUILTIN and source is self.model.span.source
        return thing.span.line if here else None

    def _parted(self) -> Iterator[Step]:
        if self.verdict.parted is not None:
            for state, (dim, into) in self.verdict.parted.splits.items():
                yield Step("split", f"{dim} of {state} is [{', '.join(into)}]")

    # ---- Collected

    def _collected(self, update: Affine) -> Iterator[Step]:
        semiring = self.verdict.semiring or "real"
        plus, times, _ = SEMIRINGS[semiring]
        pieces = [self._term(t, times, semiring) for t in update.terms]
        pieces = self._gathered(update, pieces) if semiring == "real" else pieces
        if update.offset is not None:
            pieces.append(self.show.text(update.offset))
        infix = semiring in ("real", "boolean")
        if infix:
            text = f" {plus} ".join(pieces).replace("+ -", "- ")
        else:
            text = pieces[0] if len(pieces) == 1 else f"{plus}({', '.join(pieces)})"
        yield Step("collect", f"{update.state} = {text}")

    def _gathered(self, update: Affine, pieces: list[str]) -> list[str]:
        """Diagonal terms in the state's own past become one coefficient."""
        own = [
            t.kind == "diagonal" and t.state == update.state and t.lag == 1
            for t in update.terms
        ]
        if update.diagonal is None or not any(own):
            return pieces
        read = update.terms[own.index(True)].read
        first = self._times([update.diagonal], read, "*")
        return [first, *(p for p, o in zip(pieces, own, strict=True) if not o)]

    def _term(self, term: Term, times: str, semiring: Semiring) -> str:
        if term.kind == "low_rank" and term.left is not None and term.right is not None:
            right = self.show.text(term.right)
            read = self.show.text(unrenamed(term.read))
            inner = f"dot[{', '.join(term.contracted)}]({right}, {read})"
            if term.inner:
                left = self.show.text(term.left)
                return f"dot[{', '.join(term.inner)}]({left}, {inner})"
            return self._times([term.left], inner, "*")
        factors = list(term.factors)
        if not term.over:
            return self._masked(term, self._times(factors, term.read, times))
        if semiring == "real":
            args = ", ".join(map(self.show.text, (*factors, term.read)))
            return self._masked(term, f"dot[{', '.join(term.over)}]({args})")
        inside = self._times(factors, term.read, times)
        big = {"log": "logsumexp", "min_plus": "min", "boolean": "any"}
        return f"{big.get(semiring, 'max')}[{', '.join(term.over)}]({inside})"

    def _masked(self, term: Term, text: str) -> str:
        if not term.masks:
            return text
        conditions = " and ".join(map(self.show.text, term.masks))
        return f"where({conditions}, {text}, 0)"

    def _times(self, factors: list[ir.Node], read: ir.Node | str, times: str) -> str:
        shown = read if isinstance(read, str) else self.show.text(read)
        texts = [self.show.text(f) for f in factors]
        texts = [t for t in texts if not (times == "*" and t in ("1", "1.0"))]
        negative = times == "*" and bool(texts) and _negated(texts[0]) is not None
        if negative:
            texts[0] = _negated(texts[0]) or "1"
            texts = [t for t in texts if t not in ("1", "1.0")]
        if times == "min":
            return f"min({', '.join((*texts, shown))})" if texts else shown
        wrapped = [_grouped(t, times) for t in texts]
        product = f" {times} ".join((*wrapped, shown))
        return f"-{product}" if negative else product

    # ---- Others

    def _finite(self) -> Iterator[Step]:
        axis = self.verdict.recurrence.axis
        for name in self.verdict.recurrence.states:
            equation = self.model.equation.get(name)
            convs = equation is not None and any(
                isinstance(n, ir.Conv) and TIME in n.axes
                for n in subtree(equation.expr)
            )
            if equation is not None and convs:
                yield from self._equation("conv", name)
                yield Step("so", f"{name} reads a fixed number of steps along {axis}")
                continue
            readers = [e.name for e in self.model.equations if self._reads(e, name)]
            for reader in readers[:MAXIMUM]:
                yield from self._equation("reader", reader)
            lag = self.parts.lag(name)
            steps = "step" if lag == 1 else "steps"
            yield Step(
                "so", f"{name} is read {lag} {steps} away and does not depend on itself"
            )

    def _reads(self, equation: ir.Equation, name: str) -> bool:
        return any(
            isinstance(n, ir.Shift) and name_of(n.arg) == name
            for n in subtree(equation.expr)
        )

    def _other(self) -> Iterator[Step]:
        if self.verdict.monoid == "clamp":
            leaf = (transform(n, folded) for n in self.verdict.leaf)
            shift, low, high = map(self.show.text, leaf)
            (state,) = self.verdict.recurrence.states
            text = f"{state} = min(max({state}[t-1] + {shift}, {low}), {high})"
            yield Step("collect", text)
            yield Step("so", "a clamp of a clamp is a clamp: they form a monoid")
        elif self.verdict.monoid == "table":
            text = "a step is a table of what becomes of each value"
            yield Step("so", f"{text}: one table looked up in another is a table again")
        elif self.verdict.monoid is not None:
            monoid = self.verdict.monoid
            own = monoid.name == modular.NAME
            yield from self._turns(monoid) if own else self._declared(monoid)
        else:
            through = set(self.verdict.recurrence.members) & set(self.model.call)
            layers = "the layers on the way are affine in the state"
            steps = "every step of the repeat is affine, so is their product"
            yield Step("so", layers if through else steps)

    def _turns(self, monoid: ir.Monoid) -> Iterator[Step]:
        leaf = (transform(n, folded) for n in monoid.leaf)
        times, shift, plain = map(self.show.text, leaf)
        (state,), sign = monoid.states, "+" if monoid.offset > 0 else "-"
        turn = f"({times}) * {state}[t{sign}1] + {shift}"
        text = f"{state} = {turn}, less a remainder"
        yield Step("collect", text if plain == "false" else f"{text} unless {plain}")
        text = "a remainder may be taken early or late, by one modulus for all steps"
        yield Step("so", f"{text}: two steps make one")

    def _declared(self, monoid: ir.Monoid) -> Iterator[Step]:
        pairs = zip(monoid.fields, self.verdict.leaf, strict=True)
        leaf = ", ".join(f"{n} = {self.show.text(v)}" for (n, _), v in pairs)
        yield Step("step", f"{monoid.name}({leaf})")
        for law in self.verdict.laws:
            yield Step("law", law)
        yield Step("so", "no step reads the states, and steps compose: a scan")

    def _outside(self) -> Iterator[Step]:
        """What does not read the state and is computed for all steps at once."""
        found: dict[str, Step] = {}
        for equation, node in self.parts.free:
            if TIME not in node.type.axes and BATCH not in node.type.axes:
                continue
            if not any(isinstance(n, _HEAVY) for n in subtree(node)):
                continue
            whole = self._largest(equation, node)
            written = self.show.spelling(whole)
            if not written and not any(isinstance(n, _COSTLY) for n in subtree(node)):
                continue
            text = written or self.show.text(whole)
            line = self._line(whole) or self._line(equation)
            found.setdefault(f"{text} {line}", Step("hoist", text, line))
        steps = list(found.values())
        yield from steps[:MAXIMUM]
        if len(steps) > MAXIMUM:
            yield Step("hoist", f"… and {len(steps) - MAXIMUM} more")

    def _largest(self, equation: ir.Equation, node: ir.Node) -> ir.Node:
        """The writer's own call around `node` that still does not read the state."""
        for other in subtree(equation.expr):
            if self.parts.normal.active(other) or other.span.source is BUILTIN:
                continue
            if any(n is node for n in subtree(other)):
                return other
        return node


_COSTLY = ir.Contract | ir.Conv | ir.Reduce | ir.Along | ir.Result
_HEAVY = _COSTLY | ir.Map


_MINUS = re.compile(r"(?:\(-([\d.e]+)\)|-([\d.e]+))(?P<rest>$| \* .*)")


def _negated(text: str) -> str | None:
    """The product `text` without its sign; None where it has none."""
    number = _MINUS.match(text)
    if number is not None:
        value, rest = number[1] or number[2], number["rest"]
        return rest[3:] if value in ("1", "1.0") and rest else f"{value}{rest}"
    if text.startswith("-(") and text.endswith(")"):
        inside = text[2:-1]
        return inside if _grouped(inside, "*") == inside else text[1:]
    return text[1:] if text.startswith("-") else None


def _grouped(text: str, times: str) -> str:
    """`text` as an operand of `times`."""
    depth = 0
    for i, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        spaced = text[i : i + 3]
        loose = spaced in (" + ", " - ") or (spaced == " / " and times == "/")
        if depth == 0 and loose and times in ("*", "and"):
            return f"({text})"
        if depth == 0 and text[i : i + 4] == " or ":
            return f"({text})"
    return text
