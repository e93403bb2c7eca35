"""Sizes made concrete: a layer's options and dims as numbers, checked.

The only place where a value given by a user meets the layer's own arithmetic, so that
every backend refuses the same calls in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from numbers import Integral, Real

from seqdsl.diagnostics import Diagnostic, Label, SpecError
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import (
    Apply,
    Constraint,
    Lit,
    Opt,
    Scalar,
    Size,
    SizeError,
    evaluate,
)
from seqdsl.ir.solve import Refused, Solver, problem, show, whole_or_none
from seqdsl.source import NOWHERE


@dataclass(frozen=True)
class Bound:
    """A layer's sizes: the extent of every dim and the value of every option."""

    dims: Mapping[str, int]
    options: Mapping[str, Scalar]

    def size(self, size: Size) -> Scalar:
        """The value of arithmetic over this layer's options (and dims, by name)."""
        return evaluate(size, {**self.dims, **self.options})

    def whole(self, size: Size) -> int:
        """The value of `size` as an int; `SizeError` where it is not a whole number."""
        value = self.size(size)
        whole = whole_or_none(value)
        if whole is None:
            raise SizeError(f"{size} = {show(value)} is not a whole number")
        return whole


def bind_sizes(model: ir.Model, given: Mapping[str, Scalar]) -> Bound:
    """Numbers for every option and dim of `model` under the options `given`.

    Raises `SpecError` with one diagnostic per problem: E0501 an option is missing,
    E0502 it is unknown, E0503 a size is not a whole number, E0504 a constraint fails,
    E0505 a value is of the wrong kind. Sub-layers are checked too.
    """
    solver = Solver(model)
    _take_given(solver, given)
    for name in (o.name for o in model.options):
        with suppress(Refused):
            solver.solve(name)
    for name in model.dims:
        with suppress(Refused):
            solver.solve_dim(name)
    bound = Bound(
        {d: v for d, v in solver.dims.items() if d in model.dims}, solver.options
    )
    for check in (_check_constraints, _check_counts, _check_instances):
        if not solver.found:
            check(solver, bound)
    if solver.found:
        raise SpecError(solver.found)
    return bound


def bind_instance(instance: ir.Instance, bound: Bound) -> Bound:
    """Sizes of a sub-layer of a layer whose own sizes are `bound`.

    Raises `SpecError` as `bind_sizes` does, with the place of the sub-layer as a label.
    """
    try:
        given = {name: bound.size(size) for name, size in instance.options}
        return bind_sizes(instance.model, given)
    except SizeError as error:
        raise SpecError([problem("E0503", str(error), instance.span)]) from None
    except SpecError as error:
        if instance.span is NOWHERE:
            raise
        here = Label(instance.span, f"in `{instance.model.name}`, made here")
        raise SpecError(
            replace(d, labels=(*d.labels, here)) for d in error.diagnostics
        ) from None


# ---- Given options


def _take_given(solver: Solver, given: Mapping[str, Scalar]) -> None:
    options = {o.name: o for o in solver.model.options}
    for name, value in given.items():
        try:
            if name not in options:
                raise _unknown(solver, name, list(options))
            solver.options[name] = _accept(solver, options[name], value)
        except Refused:
            solver.failed.add(name)


def _unknown(solver: Solver, name: str, names: list[str]) -> Refused:
    close = get_close_matches(name, names, 1)
    listed = ", ".join(f"`{n}`" for n in names)
    hint = f"its options are {listed}" if names else "it has no options"
    message = f"layer {solver.model.name} has no option `{name}`"
    span = solver.model.span
    return solver.refuse(
        "E0502", message, span, f"did you mean `{close[0]}`?" if close else hint
    )


def _accept(solver: Solver, option: ir.Option, value: object) -> Scalar:
    """A given value as a plain Python scalar of the kind its option holds."""
    kind = int if option.integral else _kind(option.default)
    if isinstance(value, bool | str):
        plain, fits = value, kind is None or kind is type(value)
    elif isinstance(value, Integral | Real):
        plain = int(value) if isinstance(value, Integral) else float(value)
        fits = kind in (None, float) or (kind is int and plain >= option.least)
    else:
        plain, fits = 0, False
    if not fits:
        wanted = _KINDS[kind or float]
        wanted = f"{wanted}, {option.least} or more" if kind is int else wanted
        message = f"option `{option.name}` is {wanted}, not {value!r}"
        raise solver.refuse("E0505", message, option.span)
    if kind is not int:
        return plain
    whole = whole_or_none(plain)
    if whole is None:
        message = f"{option.name} = {plain} is not a whole number"
        raise solver.refuse("E0503", message, option.span)
    return whole


_KINDS: Mapping[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def _kind(default: Size | None) -> type[str | bool | float] | None:
    """What an option that is no size holds, where its default tells."""
    match default:
        case Lit(str()):
            return str
        case Lit(bool()) | Apply("<" | "<=" | ">" | ">=" | "==" | "!=" | "not"):
            return bool
        case Lit():
            return float
        case _:
            return None


# ---- Checks of the whole


def _check_constraints(solver: Solver, bound: Bound) -> None:
    for constraint in solver.model.constraints:
        failure = _constraint(constraint, bound)
        if failure is not None:
            solver.found.append(failure)


def _constraint(constraint: Constraint, bound: Bound) -> Diagnostic | None:
    message, span = constraint.message, constraint.span
    try:
        left, right = bound.size(constraint.left), bound.size(constraint.right)
    except SizeError as error:
        return problem("E0504", f"{message}: {error}", span)
    if left == right:
        return None
    numbers = f"{show(left)} is not {show(right)}"
    sides = f"the two sizes are {constraint.left} and {constraint.right}"
    return problem("E0504", f"{message}: {numbers}", span, sides)


def _check_counts(solver: Solver, bound: Bound) -> None:
    """Trip counts that are sizes; no step at all is fine."""
    for repeat in solver.model.repeats:
        if isinstance(repeat.count, Lit | Opt | Apply):
            name = f"steps of `{repeat.axis}`"
            with suppress(Refused):
                solver.extent(name, repeat.count, repeat.span, least=0)


def _check_instances(solver: Solver, bound: Bound) -> None:
    for instance in solver.model.instances:
        try:
            bind_instance(instance, bound)
        except SpecError as error:
            solver.found.extend(error.diagnostics)


def with_defaults(model: ir.Model, given: Mapping[str, Scalar]) -> ir.Model:
    """`model` whose options have the values given as their defaults."""
    options = tuple(
        replace(o, default=Lit(given[o.name])) if o.name in given else o
        for o in model.options
    )
    return replace(model, options=options)
