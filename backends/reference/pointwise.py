"""What each pointwise operator of `ir.ops.MAPS` computes, on aligned tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from seqdsl.diagnostics import CallError


class _LogAddExp(torch.autograd.Function):
    """log(eᵃ + eᵇ) whose derivatives of any order are finite at a = b = -inf."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return torch.logaddexp(a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        a, b = cast("tuple[Tensor, Tensor]", ctx.saved_tensors)
        equal = torch.isinf(a) & (a == b)
        gap = torch.where(equal, 0.0, a) - torch.where(equal, 0.0, b)
        share = torch.sigmoid(gap)
        return _unbroadcast(grads[0] * share, a), _unbroadcast(
            grads[0] * (1 - share), b
        )


def _unbroadcast(grad: Tensor, like: Tensor) -> Tensor:
    return grad.sum_to_size(like.shape)


def logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """log(eᵃ + eᵇ); -inf is its identity, also for gradients."""
    apply: Callable[..., Any] = getattr(_LogAddExp, "apply")  # noqa: B009 (untyped)
    return apply(a, b)


def _whole(a: Tensor, b: Tensor) -> None:
    if not b.is_floating_point() and bool((b == 0).any()):
        raise CallError("a whole number is divided by zero")


def _floordiv(a: Tensor, b: Tensor) -> Tensor:
    _whole(a, b)
    return torch.div(a, b, rounding_mode="floor")


def _mod(a: Tensor, b: Tensor) -> Tensor:
    _whole(a, b)
    return torch.remainder(a, b)


def _pow(a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or a.is_complex())
    if whole and bool((b < 0).any()):
        raise CallError("a whole number is raised to a negative power")
    return torch.pow(a, b)


def _imag(a: Tensor) -> Tensor:
    return torch.imag(a) if a.is_complex() else torch.zeros_like(a)


def _conj(a: Tensor) -> Tensor:
    return torch.conj(a).resolve_conj()


def _same(a: Tensor) -> Tensor:
    return a


def _int(a: Tensor) -> Tensor:
    return a.to(torch.int64)


def _bool(a: Tensor) -> Tensor:
    return a != 0


def _softplus(a: Tensor) -> Tensor:
    return -F.logsigmoid(-a)  # exact, where F.softplus turns linear at 20


def _rounding(op: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Rounding, which leaves whole numbers alone."""
    return lambda a: op(a) if a.is_floating_point() else a


MAPS: Mapping[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "floordiv": _floordiv,
    "mod": _mod,
    "pow": _pow,
    "neg": torch.neg,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "eq": torch.eq,
    "ne": torch.ne,
    "and": torch.logical_and,
    "or": torch.logical_or,
    "not": torch.logical_not,
    "where": torch.where,
    "exp": torch.exp,
    "log": torch.log,
    "log1p": torch.log1p,
    "expm1": torch.expm1,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "square": torch.square,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "atanh": torch.atanh,
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "softplus": _softplus,
    "silu": F.silu,
    "gelu": F.gelu,
    "relu": torch.relu,
    "erf": torch.erf,
    "sign": torch.sign,
    "floor": _rounding(torch.floor),
    "ceil": _rounding(torch.ceil),
    "round": _rounding(torch.round),
    "abs": torch.abs,
    "min": torch.minimum,
    "max": torch.maximum,
    "logaddexp": logaddexp,
    "atan2": torch.atan2,
    "complex": torch.complex,
    "real": torch.real,
    "imag": _imag,
    "conj": _conj,
    "float": _same,
    "int": _int,
    "bool": _bool,
    "stopgrad": torch.Tensor.detach,
}
