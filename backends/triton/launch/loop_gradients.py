"""Gradients of loops along time: what their adjoint computes, from the end."""

# pyright: reportUnknownMemberType=false, reportUntypedFunctionDecorator=false
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Gradient:
    """`forward` computes what a loop does and what else `backward`, its gradient, reads.

    Both are made for known sizes and run `loops`. The first `own` outputs of `forward` are
    those of the loop. `reads` says what arguments `backward` has: those `given` to `forward`,
    its outputs (`made`) or what is `wanted` of these, by number. `found` has, for each
    argument of `forward`, the output of `backward` that is its gradient.
    """

    forward: Callable[[], type[nn.Module]]
    backward: Callable[[], type[nn.Module]]
    loops: Callable[[], tuple[Any, ...]]
    own: int
    reads: tuple[tuple[str, int], ...]
    found: tuple[int | None, ...]

    def applied(
        self, sizes: Mapping[str, int], given: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """What the loop computes, as one step of autograd."""
        apply: Any = getattr(LoopPulled, "apply")  # noqa: B009 (untyped)
        return apply(self, sizes, *given)


class LoopPulled(torch.autograd.Function):
    """A loop with its gradient, which has none itself."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Gradient, sizes: Mapping[str, int], *given: Tensor
    ) -> tuple[Tensor, ...]:
        made = several(gradient.forward()(**sizes)(*given))
        ctx.gradient, ctx.sizes = gradient, sizes
        ctx.save_for_backward(*given, *made)
        return made[: gradient.own]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *wanted: Tensor) -> tuple[Tensor | None, ...]:
        gradient: Gradient = ctx.gradient
        count = len(gradient.found)
        given, made = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        sources = {"given": given, "made": made, "wanted": wanted}
        module = gradient.backward()(**ctx.sizes)
        grads = several(module(*(sources[kind][i] for kind, i in gradient.reads)))
        pairs = zip(given, gradient.found, strict=True)
        return (
            None,
            None,
            *(
                None if i is None else grads[i].expand(x.shape).to(x.dtype)
                for x, i in pairs
            ),
        )


def several(outputs: Any) -> tuple[Tensor, ...]:
    """One output, or several, as several."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
