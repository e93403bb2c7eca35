"""What the normal form of an update says of its structure, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from seqdsl.analysis.show import Shower
from seqdsl.analysis.verdict import Affine, Semiring, Term, Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import subtree

SEMIRINGS: Mapping[Semiring, tuple[str, str, str]] = {
    "real": ("+", "*", "a sum of products"),
    "log": ("logaddexp", "+", "log of a sum of exponentials: + is the product"),
    "max_plus": ("max", "+", "a maximum of sums: + is the product"),
    "min_plus": ("min", "+", "a minimum of sums: + is the product"),
    "max_min": ("max", "min", "a maximum of minima: min is the product"),
    "boolean": ("or", "and", "an or of ands: and is the product"),
}
"""What takes the place of + and of *, and the form of an update in words."""


def because(model: ir.Model, verdict: Verdict, show: Shower) -> tuple[str, ...]:
    """Why the transition of an affine recurrence has the structure it has."""
    return _Because(model, verdict, show).reasons()


def unrenamed(node: ir.Node) -> ir.Node:
    """A value under its own dims."""
    return node.arg if isinstance(node, ir.Rename) else node


class _Because:
    def __init__(self, model: ir.Model, verdict: Verdict, show: Shower) -> None:
        self.model = model
        self.verdict = verdict
        self.show = show

    def reasons(self) -> tuple[str, ...]:
        """The sentences, each once."""
        reasons = list(self._structure())
        semiring = self.verdict.semiring
        if semiring is not None and semiring != "real":
            reasons.insert(0, SEMIRINGS[semiring][2])
        if self.verdict.structure != "monoid":
            axis = self.verdict.recurrence.axis
            fixed = f"no coefficient varies along {axis}: time-invariant"
            changing = f"the coefficients vary along {axis}, but not with the state"
            reasons.append(fixed if self.verdict.invariant else changing)
        return tuple(dict.fromkeys(reasons))

    def _structure(self) -> Iterator[str]:
        if len(self.verdict.recurrence.states) > 1:
            names = ", ".join(self.verdict.recurrence.states)
            yield f"{names} read each other: one joint state"
        for update in self.verdict.updates:
            yield from self._of_update(update)

    def _of_update(self, update: Affine) -> Iterator[str]:
        dims = self.model.equation[update.state].expr.type.dims
        diagonal = [t for t in update.terms if t.kind == "diagonal"]
        if diagonal:
            yield self._diagonal(update, dims, diagonal)
        for term in update.terms:
            if term.kind == "low_rank" and term.right is not None:
                over = ", ".join(term.contracted)
                right = self.show.text(term.right)
                yield (
                    f"{over} of {self.show.text(unrenamed(term.read))} is contracted with {right} and "
                    f"comes back with {self._side(term)}: rank one"
                )
            elif term.kind == "dense":
                over = ", ".join(self._mixed(term)) or "its dims"
                yield f"the entries of {term.state} along {over} are mixed: dense"

    def _side(self, term: Term) -> str:
        """The factors that make the vector on the result's side."""
        bare = [f.arg if isinstance(f, ir.Rename) else f for f in term.factors]
        wanted = set(term.contracted)
        own = [
            b
            for f, b in zip(term.factors, bare, strict=True)
            if wanted & set(f.type.dims)
        ]
        texts = dict.fromkeys(self.show.text(f) for f in own)
        return " * ".join(texts) or (self.show.text(term.left) if term.left else "1")

    def _mixed(self, term: Term) -> list[str]:
        read = next(n for n in subtree(term.read) if isinstance(n, ir.Shift))
        return [d for d in read.type.dims if d not in term.read.type.dims]

    def _diagonal(
        self, update: Affine, dims: tuple[str, ...], terms: list[Term]
    ) -> str:
        nodes = [f for t in terms for f in (*t.factors, *t.masks)]
        if update.diagonal is not None:
            nodes = [update.diagonal]
        along = {d for n in nodes for d in n.type.dims}
        missing = [d for d in dims if d not in along]
        ones = all(isinstance(n, ir.Const) for n in nodes)
        if ones:
            return f"the coefficient of {update.state} is a number"
        if missing and len(missing) < len(dims):
            kept = ", ".join(d for d in dims if d in along)
            lacks = ", ".join(missing)
            return (
                f"the coefficient of {update.state} has no dim {lacks}: scalar along it, "
                f"one for each {kept}"
            )
        if missing:
            lacks = ", ".join(missing)
            return f"the coefficient of {update.state} has no dim {lacks}: scalar"
        return f"each entry of {update.state} is multiplied by its own coefficient: diagonal"
