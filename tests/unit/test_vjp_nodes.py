"""Derivatives through masks, look-ups, convolutions and complex numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from derivatives import (
    DIMS,
    Make,
    close,
    gradients,
    model_of,
    normal,
    with_expr,
)

from seqdsl.differentiate.broadcast import ONE, Dims
from seqdsl.differentiate.vjp import vjp
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Opt, apply
from seqdsl.ir.types import Type

# ---- Nodes built directly


def _masked(op: str) -> Make:
    def make(refs: Mapping[str, ir.Node]) -> ir.Node:
        where = build.map_("gt", refs["b"], build.const(0))
        arg = build.map_("mul", refs["a"], refs["s"])
        return build.reduce(op, arg, ("K",), where)

    return make


@pytest.mark.parametrize("op", ["sum", "mean", "prod", "max", "min", "logsumexp"])
def test_reductions_under_a_condition(op: str) -> None:
    model = with_expr(model_of("a"), _masked(op))
    values = normal(DIMS)
    values["b"][..., 0] = 1.0  # an empty maximum has no derivative
    for wrt in ("a", "b", "s"):
        assert close(*gradients(model, wrt, values)), wrt


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_softmax_under_a_condition(op: str) -> None:
    def make(refs: Mapping[str, ir.Node]) -> ir.Node:
        where = build.map_("gt", refs["b"], build.const(0))
        y = build.along(op, refs["a"], ("K",), where)
        return build.map_("where", where, y, refs["s"])

    model = with_expr(model_of("a"), make)
    values = normal(DIMS)
    values["b"][..., 0] = 1.0
    for wrt in ("a", "s"):
        assert close(*gradients(model, wrt, values)), wrt


@pytest.mark.parametrize("wrt", ["a", "s"])
def test_a_look_up_adds_up_what_reads_the_same_entry(wrt: str) -> None:
    def make(refs: Mapping[str, ir.Node]) -> ir.Node:
        position = build.position("V", axis=False)
        index = build.map_("mod", position, build.const(2))
        return build.gather(build.map_("mul", refs["a"], refs["s"]), "K", index)

    assert close(*gradients(with_expr(model_of("a"), make), wrt, normal(DIMS)))


@pytest.mark.parametrize("wrt", ["m", "s"])
def test_a_look_up_by_the_dim_s_own_positions(wrt: str) -> None:
    def make(refs: Mapping[str, ir.Node]) -> ir.Node:
        turned = build.map_("sub", build.const(3), build.position("K", axis=False))
        table = build.map_("mul", refs["m"], refs["s"])
        return build.map_("mul", build.gather(table, "K", turned), refs["a"])

    assert close(*gradients(with_expr(model_of("a"), make), wrt, normal(DIMS)))


@pytest.mark.parametrize("pad", ["zero", "circular", "reflect", "replicate"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolution_along_a_dim(pad: str, dilation: int) -> None:
    def make(refs: Mapping[str, ir.Node]) -> ir.Node:
        weight = build.map_("mul", refs["w"], refs["s"])
        return build.conv(refs["a"], weight, ("K",), ("W",), (), Lit(dilation), pad)  # pyright: ignore[reportArgumentType]

    model = with_expr(model_of("a"), make)
    for wrt in ("a", "w", "s"):
        assert close(*gradients(model, wrt, normal(DIMS))), wrt


def test_convolution_with_channels_and_two_axes() -> None:
    model = model_of("g", dims={"g": ("H", "K", "V"), "u": ("J", "H", "W")})
    model = replace(model, dims={**model.dims, "X": Lit(3)})

    def make(refs: Mapping[str, ir.Node]) -> ir.Node:
        weight = build.map_("mul", refs["u"], build.rename(refs["u"], [("W", "X")]))
        return build.conv(
            refs["g"], weight, ("K", "V"), ("W", "X"), ("H",), Lit(1), "circular"
        )

    values = normal({"g": ("H", "K", "V"), "u": ("J", "H", "W")})
    for wrt in ("g", "u"):
        assert close(*gradients(with_expr(model, make), wrt, values)), wrt


def test_parts_of_different_sizes_are_joined() -> None:
    def make(refs: Mapping[str, ir.Node]) -> ir.Node:
        return build.concat((refs["w"], refs["m"], refs["s_k"]), ("W", "K", "K"), "R")

    model = model_of("a")
    size = apply("+", Opt("W"), apply("*", Lit(2), Opt("K")))
    model = replace(model, dims={**model.dims, "R": size})

    def scaled(refs: Mapping[str, ir.Node]) -> ir.Node:
        return make({**refs, "s_k": build.map_("mul", refs["a"], refs["s"])})

    for wrt in ("w", "m", "a", "s"):
        assert close(*gradients(with_expr(model, scaled), wrt, normal(DIMS))), wrt


COMPLEX = [
    "complex(a, b)",
    "complex(a, b) * complex(b, s)",
    "complex(a, b) / complex(s, b)",
    "exp(complex(a, b))",
    "conj(complex(a, b)) * complex(s, a)",
    "tanh(complex(a, s))",
    "complex(a, b) ** 2",
    "abs(complex(a, b)) * complex(b, s)",
    "sqrt(complex(a, b))",
    "log(complex(a, b))",
    "dot[K](complex(a, b), complex(b, a))",
    "prod[K](complex(a, b))",
    "cumprod[K](complex(a, b))",
    "real(complex(a, b) * complex(s, b)) + imag(complex(b, a) * complex(a, a))",
]


@pytest.mark.parametrize("expr", COMPLEX)
def test_complex_numbers_follow_torch(expr: str) -> None:
    model = model_of(expr)
    for wrt in ("a", "b", "s"):
        assert close(*gradients(model, wrt, normal(DIMS))), wrt


def test_an_extern_op_cannot_be_differentiated() -> None:
    x = build.ref("x", Type("float", ("K",)))
    call = ir.ExternCall(name="f", args=(x,), type=x.type)
    with pytest.raises(build.Issue, match="E0315"):
        vjp(call, ONE, Dims({"K": Lit(2)}))
