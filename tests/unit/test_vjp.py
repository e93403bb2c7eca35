"""Derivatives of every operator against torch's, through the reference interpreter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from derivatives import (
    DIMS,
    SIZES,
    close,
    gradients,
    input_ref,
    model_of,
    normal,
    with_expr,
)

from seqdsl.backends.reference import interpret
from seqdsl.ir import build, ops
from seqdsl.ir import nodes as ir
from seqdsl.rewrite.expand_grad import expand_grad

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
        grad = build.grad(y, input_ref(model, wrt))
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
