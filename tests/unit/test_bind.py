"""Options and dims as numbers, and every way in which they are refused."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_instance, bind_sizes
from seqdsl.ir.sizes import Constraint, Lit, Opt, Scalar, Size, apply
from seqdsl.source import NOWHERE, Source, Span


def option(name: str, default: Size | None = None, integral: bool = True) -> ir.Option:
    return ir.Option(name=name, default=default, integral=integral)


def model(
    *options: ir.Option,
    dims: dict[str, Size] | None = None,
    constraints: tuple[Constraint, ...] = (),
    repeats: tuple[ir.Repeat, ...] = (),
    instances: tuple[ir.Instance, ...] = (),
) -> ir.Model:
    return ir.Model(
        name="L",
        options=options,
        dims={} if dims is None else dims,
        inputs=(),
        params=(),
        states=(),
        equations=(),
        outputs=(),
        constraints=constraints,
        repeats=repeats,
        instances=instances,
    )


HEADS = model(
    option("D"),
    option("heads"),
    option("K", apply("/", Opt("D"), Opt("heads"))),
    dims={n: Opt(n) for n in ("D", "heads", "K")} | {"V": apply("*", Lit(2), Opt("K"))},
)


def refused(spec: ir.Model, given: dict[str, Scalar]) -> list[Diagnostic]:
    with pytest.raises(SpecError) as error:
        bind_sizes(spec, given)
    return list(error.value.diagnostics)


def test_defaults_read_other_options_and_whole_quotients_are_ints() -> None:
    bound = bind_sizes(HEADS, {"D": 64, "heads": 4})
    assert bound.dims == {"D": 64, "heads": 4, "K": 16, "V": 32}
    assert bound.options == {"D": 64, "heads": 4, "K": 16}
    assert all(type(v) is int for v in bound.dims.values())
    assert bound.whole(apply("+", Opt("V"), Lit(1))) == 33


def test_given_value_wins_over_the_default() -> None:
    assert bind_sizes(HEADS, {"D": 64, "heads": 6, "K": 5}).dims["V"] == 10


def test_a_default_may_stand_before_what_it_reads() -> None:
    spec = model(option("A", apply("+", Opt("B"), Lit(1))), option("B", Lit(2)))
    assert bind_sizes(spec, {}).options == {"A": 3, "B": 2}


def test_a_default_may_read_a_dim() -> None:
    spec = model(
        option("D"),
        option("E", apply("*", Opt("J"), Lit(3))),
        dims={"J": apply("+", Opt("D"), Lit(1))},
    )
    bound = bind_sizes(spec, {"D": 4})
    assert bound.options["E"] == 15 and bound.dims == {"J": 5}


def test_plain_numbers_are_dims() -> None:
    assert bind_sizes(model(dims={"4": Lit(4)}), {}).dims == {"4": 4}


def test_whole_floats_and_numpy_integers_become_ints() -> None:
    given: dict[str, Scalar] = {"D": np.int64(64), "heads": 4.0}  # pyright: ignore
    bound = bind_sizes(HEADS, given)
    assert type(bound.options["D"]) is int and type(bound.options["heads"]) is int


def test_missing_options_are_all_reported() -> None:
    found = refused(HEADS, {})
    assert [d.code for d in found] == ["E0501", "E0501"]
    assert "`D`" in found[0].message and "`heads`" in found[1].message


def test_unknown_option_suggests_the_nearest() -> None:
    (found,) = refused(HEADS, {"D": 64, "heads": 4, "head": 4})
    assert found.code == "E0502" and "`heads`" in found.help[0]


def test_unknown_option_far_from_all_lists_them() -> None:
    (found,) = refused(HEADS, {"D": 64, "heads": 4, "zzz": 4})
    assert "`K`" in found.help[0]


def test_what_does_not_divide_shows_its_derivation() -> None:
    found = refused(HEADS, {"D": 64, "heads": 6})
    assert found[0].code == "E0503"
    assert "K = D / heads = 64 / 6 = 10.67 is not a whole number" in found[0].message
    assert len(found) == 1, "what follows from it is not reported again"


def test_the_span_is_that_of_the_default() -> None:
    source = Source("a.seq", "layer L(D, K = D/2):")
    span = Span(source, 11, 18)
    half = ir.Option(
        name="K", default=apply("/", Opt("D"), Lit(2)), integral=True, span=span
    )
    (found,) = refused(model(option("D"), half), {"D": 3})
    assert found.span is span and found.short.startswith("a.seq:1:12: E0503")


@pytest.mark.parametrize("value", [True, "8", -1, 0, None, [8], math.nan])
def test_wrong_kinds_for_a_size(value: object) -> None:
    (found,) = refused(model(option("D")), {"D": value})  # pyright: ignore
    assert found.code == "E0505" and repr(value) in found.message


@pytest.mark.parametrize("value", [2.5, math.inf])
def test_fractions_for_a_size(value: float) -> None:
    (found,) = refused(model(option("D")), {"D": value})
    assert found.code == "E0503"


@pytest.mark.parametrize(
    ("default", "good", "bad"),
    [
        (Lit("zero"), "circular", 1),
        (Lit(True), False, 1),
        (Lit(True), False, "yes"),
        (Lit(math.inf), 3, "3"),
        (Lit(0.5), 1, True),
    ],
)
def test_a_plain_default_tells_the_kind(
    default: Lit, good: Scalar, bad: Scalar
) -> None:
    spec = model(option("o", default, integral=False))
    assert bind_sizes(spec, {"o": good}).options["o"] == good
    assert refused(spec, {"o": bad})[0].code == "E0505"


def test_a_dim_of_nothing_is_refused() -> None:
    spec = model(option("D"), dims={"E": apply("-", Opt("D"), Lit(4))})
    assert bind_sizes(spec, {"D": 5}).dims == {"E": 1}
    (found,) = refused(spec, {"D": 4})
    assert found.code == "E0505" and "E = D - 4 = 4 - 4 = 0" in found.message


def test_bad_arithmetic_is_reported_not_raised() -> None:
    spec = model(option("D"), option("K", apply("/", Lit(6), Opt("D")), False))
    assert bind_sizes(spec, {"D": 4}).options["K"] == 1.5
    spec = model(
        option("D"), dims={"E": apply("//", Lit(6), apply("-", Opt("D"), Lit(1)))}
    )
    assert refused(spec, {"D": 1})[0].code == "E0503"


def test_defaults_in_a_circle() -> None:
    spec = model(option("A", Opt("B")), option("B", Opt("A")))
    assert "A → B → A" in refused(spec, {})[0].message
    assert bind_sizes(spec, {"A": 3}).options == {"A": 3, "B": 3}


def test_a_default_that_reads_no_option() -> None:
    (found,) = refused(model(option("A", Opt("nope"))), {})
    assert found.code == "E0502" and "`nope`, which A reads" in found.message


def test_constraints_print_both_numbers() -> None:
    same = Constraint(Opt("A"), apply("*", Opt("B"), Lit(2)), NOWHERE, "sizes differ")
    spec = model(option("A"), option("B"), constraints=(same,))
    assert bind_sizes(spec, {"A": 6, "B": 3}).options["A"] == 6
    (found,) = refused(spec, {"A": 6, "B": 4})
    assert (found.code, found.message) == ("E0504", "sizes differ: 6 is not 8")


def test_trip_counts_are_whole_and_may_be_zero() -> None:
    repeat = ir.Repeat(axis="n", count=Opt("N"), condition=None, scope=())
    spec = model(option("N", integral=False), repeats=(repeat,))
    assert bind_sizes(spec, {"N": 0}).options["N"] == 0
    assert refused(spec, {"N": 1.5})[0].code == "E0503"
    assert refused(spec, {"N": -1})[0].code == "E0505"


def test_sub_layers_are_bound_in_terms_of_ours_and_checked() -> None:
    span = Span(Source("a.seq", "HEADS(D)"), 0, 8)
    inner = ir.Instance(
        name="b",
        model=HEADS,
        options=(("D", apply("*", Opt("E"), Lit(2))), ("heads", Lit(4))),
        scope=(),
        span=span,
    )
    spec = model(option("E"), instances=(inner,))
    assert bind_instance(inner, bind_sizes(spec, {"E": 8})).dims["K"] == 4
    (found,) = refused(spec, {"E": 7})
    assert found.code == "E0503" and found.labels[0].span is span


def test_binding_needs_no_torch() -> None:
    import subprocess

    code = "import seqdsl.ir.bind, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
