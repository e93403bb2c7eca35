"""Loops along time as operators of torch, with their gradients: their adjoint, from the end."""

# pyright: reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqdsl.backends.triton.launch.again import pulled_again, wanted_again
from seqdsl.backends.triton.launch.tiles import NAMESPACE
from seqdsl.backends.triton.launch.tuning import settled

LOOPS: dict[str, Any] = {}
"""The loops of this file, by name."""


@dataclass(frozen=True)
class Gradient:
    """`forward` computes what a loop does and what else `backward`, its gradient, reads.

    All are made for known sizes; these two run `loops`, and `plain` does in torch what
    `forward` does. The first `own` outputs of `forward` are those of the loop. `reads` says
    what arguments `backward` has: those `given` to `forward`, its outputs (`made`) or what is
    `wanted` of these, by number. `found` has, for each argument of `forward`, the output of
    `backward` that is its gradient.
    """

    forward: Callable[[], type[nn.Module]]
    backward: Callable[[], type[nn.Module]]
    plain: Callable[[], type[nn.Module]]
    loops: Callable[[], tuple[Any, ...]]
    own: int
    reads: tuple[tuple[str, int], ...]
    found: tuple[int | None, ...]


def sized(names: str, numbers: Sequence[float]) -> dict[str, Any]:
    """Extents and options by name, as operators are given them."""
    values = [int(n) if n == int(n) else n for n in numbers]
    return dict(zip(names.split(","), values, strict=True)) if names else {}


@torch.library.custom_op(f"{NAMESPACE}::fused_loop", mutates_args=())
def fused_loop(
    name: str,
    names: str,
    numbers: Sequence[float],
    given: Sequence[Tensor],
    states: Sequence[Tensor],
    starts: Tensor | None,
    fresh: Sequence[Tensor],
) -> list[Tensor]:
    """Values of every step, then the states after the last."""
    loop, sizes = LOOPS[name], sized(names, numbers)
    batch, time = fresh[0].shape[:2]
    rest = given, states, starts, fresh
    key = loop.key(sizes, states[0], batch, time)
    settled(key, states[0], lambda: loop.launched(sizes, *rest))
    return loop.launched(sizes, *rest)


@fused_loop.register_fake
def _fused_loop_made(
    name: str,
    names: str,
    numbers: Sequence[float],
    given: Sequence[Tensor],
    states: Sequence[Tensor],
    starts: Tensor | None,
    fresh: Sequence[Tensor],
) -> list[Tensor]:
    batch, time = fresh[0].shape[:2]
    return LOOPS[name].room(sized(names, numbers), states[0], batch, time)


@torch.library.custom_op(f"{NAMESPACE}::fused_loop_kept", mutates_args=())
def fused_loop_kept(
    name: str, names: str, numbers: Sequence[float], given: Sequence[Tensor]
) -> list[Tensor]:
    """What a loop computes of all that it is given, and what its gradient reads."""
    made = _fused_loop_kept_made(name, names, numbers, given)
    return owned(made, given)


@fused_loop_kept.register_fake
def _fused_loop_kept_made(
    name: str, names: str, numbers: Sequence[float], given: Sequence[Tensor]
) -> list[Tensor]:
    with torch.no_grad():
        module = LOOPS[name].gradient.forward()(**sized(names, numbers))
        return [x.contiguous() for x in several(module(*given))]


@torch.library.custom_op(f"{NAMESPACE}::fused_loop_gradients", mutates_args=())
def fused_loop_gradients(
    name: str,
    names: str,
    numbers: Sequence[float],
    given: Sequence[Tensor],
    made: Sequence[Tensor],
    wanted: Sequence[Tensor],
) -> list[Tensor]:
    """Gradients of those of what is given that have one."""
    found = _fused_loop_gradients_made(name, names, numbers, given, made, wanted)
    return owned(found, (*given, *made, *wanted))


@fused_loop_gradients.register_fake
def _fused_loop_gradients_made(
    name: str,
    names: str,
    numbers: Sequence[float],
    given: Sequence[Tensor],
    made: Sequence[Tensor],
    wanted: Sequence[Tensor],
) -> list[Tensor]:
    gradient: Gradient = LOOPS[name].gradient
    sources = {"given": given, "made": made, "wanted": wanted}
    with torch.no_grad():
        module = gradient.backward()(**sized(names, numbers))
        grads = several(module(*(sources[kind][i] for kind, i in gradient.reads)))
    return [
        grads[i].expand(x.shape).to(x.dtype).contiguous()
        for x, i in zip(given, gradient.found, strict=True)
        if i is not None
    ]


def owned(made: Iterable[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """Tensors no two of which, or of what was `given`, share memory."""
    taken = {x.untyped_storage().data_ptr() for x in given}
    found: list[Tensor] = []
    for x in made:
        x = x.clone() if x.untyped_storage().data_ptr() in taken else x
        taken.add(x.untyped_storage().data_ptr())
        found.append(x)
    return found


def several(outputs: Any) -> tuple[Tensor, ...]:
    """One output, or several, as several."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _loop_remember(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    *ctx.call, given = inputs
    ctx.count = len(given)
    ctx.save_for_backward(*given, *output)
    ctx.mark_non_differentiable(*output[LOOPS[ctx.call[0]].gradient.own :])


def _loop_pulled(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    given, made = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
    gradient: Gradient = LOOPS[ctx.call[0]].gradient
    wanted = [
        torch.zeros_like(x) if dx is None else dx.contiguous()
        for x, dx in zip(made[: gradient.own], grads, strict=False)
    ]
    if wanted_again():
        module = gradient.plain()(**sized(*ctx.call[1:]))
        again = pulled_again(lambda *x: several(module(*x)), given, wanted)
        return None, None, None, again
    found = iter(fused_loop_gradients(*ctx.call, given, made, wanted))
    return (
        None,
        None,
        None,
        [None if i is None else next(found) for i in gradient.found],
    )


fused_loop_kept.register_autograd(_loop_pulled, setup_context=_loop_remember)
