"""The laws of a declared monoid: tried on random elements, and by algebra where it settles them.

A scan groups steps as it likes and fills gaps with the identity, so it is right only if
grouping does not matter and the identity changes nothing. What is tried are the elements
that can occur: steps as the layer makes them, products of steps, and the identity.
Elements of a monoid that acts on states are compared by what they make of states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from seqdsl.analysis.expand import expanded
from seqdsl.analysis.monoids import apply, combine
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.numeric import NoNumbers
from seqdsl.analysis.terms import TooLong, add, scale
from seqdsl.analysis.tries import ROUNDS, Law, Tries
from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import subtree


def laws_of(model: ir.Model, monoid: ir.Monoid) -> tuple[str, ...]:
    """How each law was found to hold, in words.

    Raises `SpecError` with a counterexample for those that do not.
    """
    tries = Tries(model, monoid)
    found: list[str] = []
    broken: list[Diagnostic] = []
    for law in _laws(model, monoid):
        try:
            failure = tries.counterexample(law)
        except NoNumbers as error:
            failure = _untried(monoid, law, str(error))
        if failure is not None:
            if failure.code not in {d.code for d in broken}:
                broken.append(failure)
        elif _same(model, law):
            found.append(f"{law.name}: by algebra")
        else:
            found.append(f"{law.name}: on {ROUNDS} random elements")
    if broken:
        raise SpecError(broken)
    return tuple(found)


def _laws(model: ir.Model, monoid: ir.Monoid) -> Iterator[Law]:
    a, b, c = (_element(monoid, n) for n in "abc")
    name = monoid.name
    if monoid.free:
        yield Law(
            "E0316",
            "associative",
            ("a", "b", "c"),
            combine(monoid, None, combine(monoid, None, a, b), c),
            combine(monoid, None, a, combine(monoid, None, b, c)),
            f"`{name}` is not associative",
            ("a and b first", "b and c first"),
            loop=0,
        )
        unit = monoid.identity
        for side in (0, 1):
            pair = (unit, a) if side == 0 else (a, unit)
            yield Law(
                "E0317",
                f"identity on the {'left' if side == 0 else 'right'}",
                ("a",),
                combine(monoid, None, *pair),
                a,
                f"the defaults of `{name}` change what comes "
                f"{'after' if side == 0 else 'before'} them",
                ("combined", "a alone"),
            )
        if monoid.commutes:
            yield _order(
                monoid, combine(monoid, None, a, b), combine(monoid, None, b, a)
            )
        return
    yield from _action(model, monoid)


def _order(
    monoid: ir.Monoid, left: tuple[ir.Node, ...], right: tuple[ir.Node, ...]
) -> Law:
    message = f"`{monoid.name}` is declared to commute, but the order matters"
    return Law(
        "E0318",
        "commutes",
        ("a", "b"),
        left,
        right,
        message,
        ("a and then b", "b and then a"),
    )


def _action(model: ir.Model, monoid: ir.Monoid) -> Iterator[Law]:
    a, b = _element(monoid, "a"), _element(monoid, "b")
    types = {s: model.equation[s].expr.type for s in monoid.states}
    before = {s: build.ref(f"s.{i}", t) for i, (s, t) in enumerate(types.items())}

    def read(*elements: tuple[ir.Node, ...]) -> tuple[ir.Node, ...]:
        states: Mapping[str, ir.Node] = before
        for element in elements:
            states = apply(monoid, None, element, states)
        return tuple(states.values())

    yield Law(
        "E0319",
        "one element after another",
        ("s", "a", "b"),
        read(combine(monoid, None, a, b)),
        read(a, b),
        f"`{monoid.name}` combines two elements to one that does something else",
        ("a and b combined", "a, and after it b"),
    )
    yield Law(
        "E0317",
        "identity",
        ("s",),
        read(monoid.identity),
        tuple(before.values()),
        f"the defaults of `{monoid.name}` change the state",
        ("after the defaults", "before"),
    )
    if monoid.commutes:
        left, right = (combine(monoid, None, *p) for p in ((a, b), (b, a)))
        law = _order(monoid, read(left), read(right))
        yield replace(law, over=("s", "a", "b"))


def _element(monoid: ir.Monoid, name: str) -> tuple[ir.Node, ...]:
    return tuple(build.ref(f"{name}.{i}", t) for i, (_, t) in enumerate(monoid.fields))


def _untried(monoid: ir.Monoid, law: Law, what: str) -> Diagnostic:
    return Diagnostic(
        law.code,
        f"`{monoid.name}` cannot be tried on numbers: it holds {what}",
        monoid.span,
        help=(
            "write it with arithmetic, comparisons, functions and sums of real numbers",
        ),
    )


# ---- Algebra


def _same(model: ir.Model, law: Law) -> bool:
    """Whether both sides have the same normal form."""
    names = {n.name for s in (*law.left, *law.right) for n in _leaves(s)}
    normal = Normal(model, "t", names, ())
    try:
        return all(
            not expanded(
                normal, add(normal.poly(a), scale(normal.poly(b), Fraction(-1)))
            )
            for a, b in zip(law.left, law.right, strict=True)
        )
    except (TooLong, build.Issue, RecursionError):
        return False


def _leaves(node: ir.Node) -> Iterator[ir.Ref]:
    return (n for n in subtree(node) if isinstance(n, ir.Ref))
