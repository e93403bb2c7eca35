"""Small values for a layer's options that satisfy all of its constraints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, product

from hypothesis import strategies as st

from seqdsl.diagnostics import SpecError
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Lit, Scalar

SMALL: tuple[tuple[int, ...], ...] = (
    (4, 2, 3, 1, 6, 8, 5, 9, 16, 12),
    (2, 3, 1, 4, 6, 8, 5, 9, 16, 12),
    (3, 2, 4, 1, 6, 8, 5, 9, 16, 12),
)
"""Extents in the order in which they are tried; neighbors among the options start
with different ones, so that a mixed-up dim does not fit.
"""
OTHER: tuple[Scalar, ...] = (2, 0.5, True, 1, "zero")
"""For an option without a default of which nothing says what it holds."""
TRIES = 4000

Elaborate = Callable[[Mapping[str, Scalar]], ir.Model]


def option_sets(
    elaborate: Elaborate, given: Mapping[str, Scalar], count: int
) -> tuple[dict[str, Scalar], ...]:
    """Up to `count` sets of options for which a layer can be made, `given` in all.

    Options with a small default keep it in the first set. `elaborate` makes the model
    under options, since its form may depend on them. Raises the `SpecError` of the last
    try where none fits.
    """
    model = elaborate(given)
    found: list[dict[str, Scalar]] = []
    problem: SpecError | None = None
    for options in islice(_candidates(model, given), TRIES):
        try:
            bind_sizes(model, options)
            bind_sizes(elaborate(options), options)
        except SpecError as error:
            problem = error
            continue
        found.append(options)
        if len(found) == count:
            break
    if not found and problem is not None:
        raise problem
    return tuple(found)


def option_values(
    elaborate: Elaborate, given: Mapping[str, Scalar] | None = None, count: int = 8
) -> st.SearchStrategy[dict[str, Scalar]]:
    """Options for which a layer can be made; see `option_sets`."""
    return st.sampled_from(option_sets(elaborate, given or {}, count))


def _candidates(
    model: ir.Model, given: Mapping[str, Scalar]
) -> Iterator[dict[str, Scalar]]:
    free = [o for o in model.options if o.name not in given]
    choices = [_choices(o, SMALL[i % len(SMALL)]) for i, o in enumerate(free)]
    for values in _diagonal(choices):
        chosen = zip((o.name for o in free), values, strict=True)
        yield {**given, **{n: v for n, v in chosen if v is not None}}


def _diagonal(
    choices: Sequence[Sequence[Scalar | None]],
) -> Iterator[tuple[Scalar | None, ...]]:
    """All combinations, those made of early choices first."""
    most = max((len(c) for c in choices), default=1)
    for level in range(most):
        cut = [c[: level + 1] for c in choices]
        for values in product(*cut):
            fresh = any(
                i + 1 == level + 1
                for v, c in zip(values, cut, strict=True)
                for i in (list(c).index(v),)
            )
            if fresh or level == 0:
                yield values


def _choices(option: ir.Option, small: tuple[int, ...]) -> tuple[Scalar | None, ...]:
    """Values to try, None for the option's own default."""
    match option.default:
        case None:
            return small if option.integral else OTHER
        case Lit(int(value)) if option.integral and not isinstance(value, bool):
            return (None, *small[:3]) if value <= 4 else small
        case _:
            return (None, *small[:3]) if option.integral else (None,)
