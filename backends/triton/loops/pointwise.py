"""Pointwise operators in Triton, as a table."""

from __future__ import annotations

from collections.abc import Mapping

TEXTS: Mapping[str, str] = {
    "add": "({} + {})",
    "sub": "({} - {})",
    "mul": "({} * {})",
    "div": "({} / {})",
    "neg": "(-{})",
    "lt": "({} < {})",
    "le": "({} <= {})",
    "gt": "({} > {})",
    "ge": "({} >= {})",
    "eq": "({} == {})",
    "ne": "({} != {})",
    "and": "({} & {})",
    "or": "({} | {})",
    "not": "({} == 0)",
    "where": "tl.where({}, {}, {})",
    "exp": "tl.exp({})",
    "log": "tl.log({})",
    "sqrt": "tl.sqrt({})",
    "rsqrt": "tl.rsqrt({})",
    "abs": "tl.abs({})",
    "sin": "tl.sin({})",
    "cos": "tl.cos({})",
    "erf": "tl.erf({})",
    "floor": "tl.floor({})",
    "min": "tl.minimum({}, {})",
    "max": "tl.maximum({}, {})",
    "square": "squared({})",
    "relu": "tl.maximum({}, 0.0)",
    "sigmoid": "logistic({})",
    "tanh": "hyperbolic({})",
    "silu": "weighed({})",
    "softplus": "softened({})",
    "logsigmoid": "(-softened(-{}))",
    "gelu": "bell({})",
    "logaddexp": "logaddexp({}, {})",
    "float": "tl.cast({}, tl.float32)",
    "stopgrad": "{}",
    "expm1": "grown({})",
    "log1p": "log_beside_one({})",
    "pow": "powered({}, {})",
    "mod": "remainder({}, {})",
    "sign": "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, 0.0))",
    "ceil": "tl.ceil({})",
    "tan": "(tl.sin({0}) / tl.cos({0}))",
    "sinh": "opened({})",
    "cosh": "hanging({})",
    "atanh": "unwound({})",
}
"""By operator; functions are those of `kernels/pointwise.py` and `kernels/semirings.py`."""

FLAGS: Mapping[str, int] = {"and": 2, "or": 2, "not": 1, "where": 1, "eq": 2, "ne": 2}
"""How many of the first operands may be conditions; others are numbers."""

REDUCTIONS: Mapping[str, tuple[str, str]] = {
    "sum": ("tl.sum", "0.0"),
    "mean": ("tl.sum", "0.0"),
    "max": ("tl.max", 'float("-inf")'),
    "min": ("tl.min", 'float("inf")'),
    "logsumexp": ("log_summed", 'float("-inf")'),
}
"""Function, and what it leaves as it is."""

WHOLE = frozenset(("mod", "pow", "sign", "ceil", "floor"))
"""Operators of which there is a form for floats alone."""
