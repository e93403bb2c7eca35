"""Operators in random specs: templates that keep bounded values bounded.

`{0}` and `{1}` are arguments (in the last two tables `{1}` is a dim). What a function
is applied to lies well inside its domain, and what is rounded or compared is moved off
the numbers that zeros and small integers would tie with.
"""

from __future__ import annotations

from collections.abc import Mapping

UNARY: Mapping[str, str] = {
    "tanh": "tanh({0})",
    "sigmoid": "sigmoid({0})",
    "sin": "sin({0})",
    "cos": "cos({0})",
    "neg": "-{0}",
    "silu": "silu(tanh({0}))",
    "gelu": "gelu(tanh({0}))",
    "relu": "relu(tanh({0}))",
    "erf": "erf({0})",
    "exp": "exp(-abs({0}))",
    "expm1": "expm1(tanh({0}))",
    "log": "log(1.5 + tanh({0}))",
    "log1p": "log1p(0.5 * sigmoid({0}))",
    "sqrt": "sqrt(0.1 + sigmoid({0}))",
    "rsqrt": "rsqrt(1 + square({0}))",
    "square": "square(tanh({0}))",
    "tan": "tan(0.5 * tanh({0}))",
    "atan": "atan({0})",
    "sinh": "sinh(tanh({0}))",
    "cosh": "cosh(tanh({0}))",
    "atanh": "atanh(0.9 * tanh({0}))",
    "logsigmoid": "logsigmoid(tanh({0}))",
    "softplus": "softplus(tanh({0}))",
    "sign": "sign({0} + 0.0137)",
    "floor": "floor(2.7 * tanh({0}) + 0.1371)",
    "ceil": "ceil(2.7 * tanh({0}) + 0.1371)",
    "round": "round(2.7 * tanh({0}) + 0.1371)",
    "abs": "abs({0})",
    "float": "float({0})",
    "bool": "float(bool({0}))",
    "int": "float(int(2.7 * tanh({0}) + 0.1371))",
    "stopgrad": "stopgrad({0})",
    "div": "{0} / (1 + abs({0}))",
    "pow": "(1.1 + sigmoid({0})) ** 2",
    "where": "where({0} > 0.1371, {0}, 0.3)",
    "conditional": "({0} if D > 1 else 0.5 * {0})",
    "atan2": "atan2({0}, 1.7)",
    "mod": "({0} + 0.0137) % 1.9",
    "floordiv": "({0} + 0.0137) // 0.7",
}

BINARY: Mapping[str, str] = {
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "tanh({0}) * {1}",
    "div": "{0} / (1 + square({1}))",
    "min": "min({0}, {1})",
    "max": "max({0}, {1})",
    "logaddexp": "logaddexp(tanh({0}), tanh({1}))",
    "atan2": "atan2({0}, 1.3 + sigmoid({1}))",
    "pow": "(0.5 + sigmoid({0})) ** tanh({1})",
    "where": "where({0} <= {1} + 0.0137, {0}, sin({1}))",
    "logic": "where({0} >= 0.1371 and not {1} < 0.0371, 0.3, {0})",
    "or": "where({0} != {1} + 0.5 or {0} == {1} + 0.7, {0}, {1})",
    "xor": "float(({0} > 0.1371) == ({1} > 0.1371)) * {0}",
    "complex": "real(complex({0}, {1}) * complex(0.3, -0.5))",
    "conj": "real(conj(complex({0}, {1})) * complex(0.4, -0.2))",
    "imag": "imag(conj(complex({0}, {1})) * complex(0.3, -0.5))",
    "modulus": "abs(complex({0}, 1.5 + sigmoid({1})))",
    "phase": "real(exp(complex(-abs({0}), {1})))",
    "roots": "real(sqrt(complex(1.5 + sigmoid({0}), {1})))",
    "complex_div": "imag(complex({0}, {1}) / complex(1.5 + square({1}), {0}))",
    "complex_sin": "real(sin(complex(tanh({0}), tanh({1}))))",
}

REDUCE: Mapping[str, str] = {
    "sum": "sum[{1}]({0})",
    "mean": "mean[{1}]({0})",
    "prod": "prod[{1}](tanh({0}))",
    "max": "max[{1}]({0})",
    "min": "min[{1}]({0})",
    "logsumexp": "logsumexp[{1}]({0})",
    "argmax": "0.5 * argmax[{1}]({0})",
    "argmin": "0.5 * argmin[{1}]({0})",
    "any": "float(any[{1}]({0} > 0.1371))",
    "all": "float(all[{1}]({0} < 0.7371))",
    "entry": "({0})[{1} = 0]",
    "dot": "dot[{1}]({0}, tanh({0}))",
}

ALONG: Mapping[str, str] = {
    "softmax": "softmax[{1}]({0})",
    "log_softmax": "log_softmax[{1}]({0})",
    "cumsum": "cumsum[{1}]({0})",
    "cumprod": "cumprod[{1}](tanh({0}))",
    "cummax": "cummax[{1}]({0})",
    "cummin": "cummin[{1}]({0})",
    "logcumsumexp": "logcumsumexp[{1}]({0})",
    "top": "top[{1}]({0}, 1)",
    "roll": "roll[{1}]({0}, 1)",
    "shift": "shift[{1}]({0}, 1)",
    "l2norm": "l2norm[{1}]({0})",
    "rmsnorm": "rmsnorm[{1}]({0})",
    "layernorm": "layernorm[{1}]({0})",
    "index": "({0} + 0.1 * index[{1}])",
    "conv": 'conv[{1}]({0}, width = 3, pad = "circular")',
}
