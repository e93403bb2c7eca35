"""Sums of products of sizes: what a strategy costs, written as a person would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

from seqdsl.ir.sizes import Lit, Opt, Size, apply

Monomial = tuple[tuple[str, int], ...]
"""Names with their powers, each once, in the order in which they are printed."""

_FIRST = ("T", "B", "iterations", "log2(T)", "C")
LOG_T = "log2(T)"


def _rank(name: str) -> tuple[int, bool, str]:
    place = _FIRST.index(name) if name in _FIRST else len(_FIRST)
    return place, not name.islower(), name


def _monomial(powers: Mapping[str, int]) -> Monomial:
    return tuple((n, powers[n]) for n in sorted(powers, key=_rank) if powers[n])


@dataclass(frozen=True)
class Formula:
    """`sum of number * product of names`; `T` steps, `B` sequences, `C` steps a chunk."""

    terms: tuple[tuple[Monomial, Fraction], ...] = ()

    def __add__(self, other: Formula) -> Formula:
        sums = dict(self.terms)
        for names, number in other.terms:
            sums[names] = sums.get(names, Fraction(0)) + number
        return Formula(tuple((n, c) for n, c in sums.items() if c))

    def __mul__(self, other: Formula) -> Formula:
        result = Formula()
        for a, x in self.terms:
            for b, y in other.terms:
                result += Formula(((_times(a, b), x * y),))
        return result

    def __truediv__(self, name: str) -> Formula:
        return self * Formula(((((name, -1),), Fraction(1)),))

    def __str__(self) -> str:
        """The exact formula, what all summands share written once."""
        if not self.terms:
            return "0"
        if len(self.terms) == 1:
            ((names, coefficient),) = self.terms
            return _product(names, coefficient)
        common = reduce(_shared, (n for n, _ in self.terms))
        inverse = tuple((n, -p) for n, p in common)
        rest = [(_times(n, inverse), c) for n, c in self.terms]
        rest.sort(key=lambda t: (-sum(max(p, 0) for _, p in t[0]), t[0]))
        inner = " + ".join(_product(n, c) for n, c in rest).replace("+ -", "- ")
        return f"{_product(common, Fraction(1))}*({inner})" if common else inner

    def order(self) -> str:
        """`O(...)`: without numbers and without summands that another one bounds."""
        names = [n for n, _ in self.terms]
        kept = [n for n in names if not any(_below(n, m) for m in names if m != n)]
        one = Fraction(1)
        return f"O({Formula(tuple((n, one) for n in dict.fromkeys(kept)))})".replace(
            "O(0)", "O(1)"
        )

    def size(self) -> Size:
        """The formula as arithmetic over options of these names."""
        total: Size = Lit(0)
        for names, coefficient in self.terms:
            whole = coefficient.denominator == 1
            product: Size = Lit(int(coefficient) if whole else float(coefficient))
            for name, power in names:
                product = apply("*", product, apply("**", _opt(name), Lit(power)))
            total = product if total == Lit(0) else apply("+", total, product)
        return total


def _opt(name: str) -> Size:
    if name != LOG_T:
        return Opt(name)
    return apply("/", apply("log", Opt("T")), apply("log", Lit(2)))


def number(value: int | Fraction) -> Formula:
    """A constant."""
    return Formula((((), Fraction(value)),)) if value else Formula()


def symbol(name: str) -> Formula:
    """A size by name."""
    return Formula(((((name, 1),), Fraction(1)),))


def product(factors: Iterable[Formula]) -> Formula:
    """The product of all, 1 for none."""
    return reduce(Formula.__mul__, factors, number(1))


def total(summands: Iterable[Formula]) -> Formula:
    """The sum of all, 0 for none."""
    return reduce(Formula.__add__, summands, Formula())


def _times(a: Monomial, b: Monomial) -> Monomial:
    powers = dict(a)
    for name, power in b:
        powers[name] = powers.get(name, 0) + power
    return _monomial(powers)


def _shared(a: Monomial, b: Monomial) -> Monomial:
    other = dict(b)
    return _monomial({n: max(0, min(p, other.get(n, 0))) for n, p in a})


def _below(a: Monomial, b: Monomial) -> bool:
    """Whether `a` is at most `b` for all sizes from 1 on."""
    left, right = dict(a), dict(b)
    return all(left.get(n, 0) <= right.get(n, 0) for n in {*left, *right})


def _product(names: Monomial, coefficient: Fraction) -> str:
    above = [n if p == 1 else f"{n}**{p}" for n, p in names if p > 0]
    below = [n if p == -1 else f"{n}**{-p}" for n, p in names if p < 0]
    if coefficient.numerator != 1 or not above:
        above.insert(0, str(coefficient.numerator))
    if coefficient.denominator != 1:
        below.insert(0, str(coefficient.denominator))
    return "*".join(above) + "".join(f"/{n}" for n in below)
