"""Derivatives of every operator against torch's, through the reference interpreter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from seqdsl.backends.reference import interpret
from seqdsl.elaborate import elaborate_text
from seqdsl.ir import build, ops
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Opt, Scalar, apply
from seqdsl.ir.types import Type
from seqdsl.rewrite.expand_grad import expand_grad

SIZES: Mapping[str, Scalar] = {"K": 4, "V": 3, "H": 2, "J": 2, "W": 3}
DIMS = {
    "a": ("K",),
    "b": ("K",),
    "m": ("K", "V"),
    "s": (),
    "w": ("W",),
    "g": ("H", "J", "K"),
}
Make = Callable[[Mapping[str, ir.Node]], ir.Node]


def model_of(
    expr: str, lines: str = "", dims: Mapping[str, tuple[str, ...]] = DIMS
) -> ir.Model:
    inputs = "".join(f"    input {n}: [{', '.join(d)}]\n" for n, d in dims.items())
    options = ", ".join(SIZES)
    return elaborate_text(
        f"layer L({options}):\n{inputs}{lines}    y = {expr}\n    output y\n"
    )


def with_expr(model: ir.Model, make: Make) -> ir.Model:
    """`model` whose `y` is what `make` builds from the inputs."""
    refs = {i.name: build.ref(i.name, i.type) for i in model.inputs}
    equation = replace(model.equation["y"], expr=make(refs))
    return replace(model, equations=(equation,))


def gradients(
    model: ir.Model, wrt: str, values: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The gradient of `sum(y * y)` (or of its real part): interpreted and expanded."""
    y: ir.Node = build.ref("y", model.equation["y"].expr.type)
    if y.type.dtype == "complex":
        real, imag = build.map_("real", y), build.map_("imag", y)
        y = build.map_("add", build.map_("mul", real, imag), imag)
    grad = build.grad(build.map_("square", y), _ref(model, wrt))
    asked = replace(model, outputs=(replace(model.outputs[0], expr=grad),))
    expanded = expand_grad(asked)
    runs = [
        interpret(m, options=SIZES, params={}, inputs=values)[m.outputs[0].name]
        for m in (asked, expanded)
    ]
    return runs[0].detach(), runs[1].detach()


def _ref(model: ir.Model, name: str) -> ir.Ref:
    return build.ref(name, model.input[name].type)


def close(expected: Tensor, found: Tensor) -> bool:
    return torch.allclose(expected, found, rtol=1e-8, atol=1e-10, equal_nan=True)


def normal(shapes: Mapping[str, Iterable[str]], seed: int = 0) -> dict[str, Tensor]:
    make = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(
            2, 3, *(int(SIZES[d]) for d in dims), generator=make, dtype=torch.float64
        )
        for name, dims in shapes.items()
    }


EXPRESSIONS = [
    # pointwise, with either side broadcast
    "a + s",
    "s - a * b",
    "m * a",
    "m / (a * a + 1)",
    "a * (m + a)",
    "square(a) * s",
    "a ** 3",
    "(a * a + 1) ** b",
    "where(a > b, a * b, square(a))",
    "min(a, b) + max(a, s)",
    "abs(a) * relu(b)",
    "a % (square(b) + 1)",
    "logaddexp(a, b)",
    "a * stopgrad(a)",
    "gelu(a) + silu(b) * softplus(a) + logsigmoid(a * s)",
    # reductions
    "sum[K](a * b) * s",
    "sum[K](m)",
    "mean[K](square(a)) + mean[K, V](m * a)",
    "prod[K](a)",
    "prod[K](where(b > 0, 0, a))",
    "max[K](a * b) + min[K](a)",
    "logsumexp[K](a * b)",
    # contractions
    "dot[K](a, m)",
    "dot[K](a, b) * m",
    "square(dot[K](a, a))",
    "dot[K, V](m, a * m)",
    "dot[K](a, m, b)",
    # along a dim
    "softmax[K](a) * b",
    "softmax[K, V](m * a) * m",
    "log_softmax[K](a) * b",
    "sum[K](softmax[K](a))",
    "cumsum[K](square(a)) * b",
    "cumprod[K](a) * b",
    "cumprod[K](where(b > 0, 0, a)) * b",
    "cummax[K](a) * b",
    "cummin[K](a) * b",
    "logcumsumexp[K](a) * b",
    "top[K](a, 2) * b",
    "top[K](relu(a), 3)",
    # re-indexing
    "dot[Q](m.(K -> Q), a.(K -> Q))",
    "a.(K -> [H, J]) * s",
    "sum[H](a.(K -> [H, J]))",
    "square(m.([K, V] -> P)) * s",
    "(m * a).([V, K] -> P)",
    "roll[K](a, 1) * b",
    "shift[K](square(a), 1) * b",
    "shift[K](a, -2) * b",
    "a[K = 1:4:2 as H] * s",
    "concat[K as R](a, square(b), a * b) * s",
    "concat[K as R](m, a * m)",
]
LINES = "    dim Q = K\n    dim P = K * V\n"


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_an_expression_has_the_derivatives_that_torch_finds(expr: str) -> None:
    model = model_of(expr, LINES)
    for wrt in ("a", "b", "m", "s", "w"):
        expected, found = gradients(model, wrt, normal(DIMS))
        assert close(expected, found), wrt


ROWS = [row for row in ops.MAPS.values() if row.result in ("promote", "branches")]


@pytest.mark.parametrize(
    "row", [r for r in ROWS if any(r.partials)], ids=lambda r: r.name
)
@pytest.mark.parametrize("tied", [False, True])
def test_every_row_of_the_table(row: ops.MapOp, tied: bool) -> None:
    def make(refs: Mapping[str, ir.Node]) -> ir.Node:
        args = [refs["a"], refs["a"] if tied else refs["b"]]
        if row.result == "branches":
            return build.map_(row.name, build.map_("gt", args[0], args[1]), *args)
        return build.map_(row.name, *args[: row.arity])

    model = with_expr(model_of("a"), make)
    values = normal(DIMS)
    if row.name in ("log", "log1p", "sqrt", "rsqrt", "pow", "atanh"):
        values = {n: v.abs() % 0.9 + 0.05 for n, v in values.items()}
    for wrt in ("a", "b"):
        assert close(*gradients(model, wrt, values)), wrt


@pytest.mark.parametrize(
    "op", ["min", "max", "abs", "relu", "pow", "logaddexp", "sign"]
)
def test_ties_and_edges_are_torch_s(op: str) -> None:
    arity = ops.MAPS[op].arity
    model = model_of(f"{op}({', '.join('ab'[:arity])})" if op != "pow" else "a ** b")
    values = normal(DIMS)
    values["a"] = torch.tensor([0.0, 0.0, 2.0, -math.inf], dtype=torch.float64)
    values["b"] = torch.tensor([0.0, 1.0, 2.0, -math.inf], dtype=torch.float64)
    if op in ("pow", "abs", "relu"):
        values["a"][3] = values["b"][3] = 3.0
    values |= {n: values[n].expand(2, 3, 4) for n in "ab"}
    y: ir.Node = build.ref("y", model.equation["y"].expr.type)
    for wrt in "ab":
        grad = build.grad(y, _ref(model, wrt))
        asked = replace(model, outputs=(replace(model.outputs[0], expr=grad),))
        found = [
            interpret(m, options=SIZES, params={}, inputs=values)["y"].detach()
            for m in (asked, expand_grad(asked))
        ]
        assert close(found[0], found[1]), wrt


def test_equal_entries_share_what_a_maximum_gets() -> None:
    values = normal(DIMS) | {"a": torch.ones(2, 3, 4, dtype=torch.float64)}
    expected, found = gradients(model_of("max[K](a)"), "a", values)
    assert close(expected, found) and close(found, torch.full_like(found, 0.5))


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
    from seqdsl.differentiate.broadcast import ONE, Dims
    from seqdsl.differentiate.vjp import vjp

    with pytest.raises(build.Issue, match="E0216"):
        vjp(call, ONE, Dims({"K": Lit(2)}))
