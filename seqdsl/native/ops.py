"""Kernels as operators of torch, which compilers and exporters see as one node.

`seqdsl::loop` runs a loop along time, `seqdsl::loop_kept` does so and returns what its
gradient reads as well, `seqdsl::loop_backward` is that gradient. The text in front says
which loop it is, among those that this process has loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from seqdsl.diagnostics import CallError
from seqdsl.ir.sizes import Scalar
from seqdsl.native.shapes import empty, floats_of, kept_of, results_of, shape_of

if TYPE_CHECKING:
    from seqdsl.native.loop import NativeLoop, SizedLoop

_F = TypeVar("_F", bound=Callable[..., object])


def _constant(function: _F) -> _F:
    """A function that a trace calls rather than follows.

    As `torch.compiler.assume_constant_result`, which would import the whole of torch's
    compiler, two seconds of every process that runs a kernel.
    """
    vars(function)["_dynamo_marked_constant"] = True
    return function


loops: dict[str, NativeLoop] = {}
"""Loops by name, for all sizes."""

_sized: dict[str, SizedLoop] = {}


def known(name: str, segments: bool, sizes: tuple[tuple[str, Scalar], ...]) -> str:
    """Notes a loop of these sizes; the text by which operators find it."""
    key = f"{name} {segments} {sizes}"
    if key not in _sized:
        _sized[key] = loops[name].sized(dict(sizes), segments)
    return key


@_constant
def traced(
    name: str, segments: bool, sizes: tuple[tuple[str, Scalar], ...]
) -> tuple[str, tuple[tuple[bool, bool, tuple[int, ...]], ...], int, bool]:
    """What a trace needs of a loop: its text, shapes of inputs, how many outputs, and
    whether kernels compute its gradient."""
    key = known(name, segments, sizes)
    loop = _sized[key]
    shapes = [shape_of(i.type, loop.extents) for i in loop.region.model.inputs]
    count = len(loop.region.model.outputs) + len(loop.region.states)
    plain = tuple((s.batched, s.timed, s.dims) for s in shapes)
    return key, plain, count, loop.derivative.known


def call_traced(
    name: str,
    sizes: Mapping[str, Scalar],
    segments: bool,
    inputs: Sequence[Tensor],
    batch: int,
    time: int,
) -> tuple[Tensor, ...]:
    """A loop as a node of a graph that is being traced."""
    key, shapes, count, learns = traced(name, segments, tuple(sizes.items()))
    ready: list[Tensor] = []
    for tensor, (batched, timed, dims) in zip(inputs, shapes, strict=True):
        lead = [batch] if batched else []
        ready.append(tensor.expand([*lead, *([time] if timed else []), *dims]))
    if not learns or not torch.is_grad_enabled():
        return tuple(torch.ops.seqdsl.loop(key, ready, batch, time))
    return tuple(torch.ops.seqdsl.loop_kept(key, ready, batch, time)[:count])


def _loop(key: str) -> SizedLoop:
    if key not in _sized:
        raise CallError("this loop was not made in this process: make its layer first")
    return _sized[key]


# ---- The operators


def _fake(operator: object) -> Callable[[_F], _F]:
    """Shapes of results, for graphs without values."""
    return getattr(operator, "register_fake")  # noqa: B009 (untyped)


@torch.library.custom_op("seqdsl::loop", mutates_args=(), device_types="cpu")
def loop(key: str, inputs: Sequence[Tensor], batch: int, time: int) -> list[Tensor]:
    """Values of every step, then the states after the last."""
    with torch.no_grad():
        made = _loop(key)(inputs, batch, time, floats_of(inputs))
    return _own(made, inputs)


@_fake(loop)
def _(key: str, inputs: Sequence[Tensor], batch: int, time: int) -> list[Tensor]:
    return empty(results_of(_loop(key)), inputs, batch, time)


@torch.library.custom_op("seqdsl::loop_kept", mutates_args=(), device_types="cpu")
def loop_kept(
    key: str, inputs: Sequence[Tensor], batch: int, time: int
) -> list[Tensor]:
    """The same, and what the gradient reads."""
    derivative = _loop(key).derivative
    with torch.no_grad():
        made, kept = derivative.run_forward(inputs, batch, time)
    found = derivative.adjoint
    assert found is not None
    named = {o: kept[n] for n, o in found.saved.items()}
    ordered = [named[o.name] for o in found.forward.outputs if o.name in named]
    return _own((*made, *ordered), inputs)


@_fake(loop_kept)
def _(key: str, inputs: Sequence[Tensor], batch: int, time: int) -> list[Tensor]:
    sized = _loop(key)
    return empty([*results_of(sized), *kept_of(sized)], inputs, batch, time)


@torch.library.custom_op("seqdsl::loop_backward", mutates_args=(), device_types="cpu")
def loop_backward(
    key: str,
    inputs: Sequence[Tensor],
    kept: Sequence[Tensor],
    grads: Sequence[Tensor],
    batch: int,
    time: int,
) -> list[Tensor]:
    """Gradients of those inputs that have one."""
    derivative = _loop(key).derivative
    found = derivative.adjoint
    assert found is not None
    wanted = {o: n for n, o in found.saved.items()}
    names = [wanted[o.name] for o in found.forward.outputs if o.name in wanted]
    with torch.no_grad():
        made = derivative.run_backward(
            inputs, dict(zip(names, kept, strict=True)), grads, batch, time
        )
    return _own((g for g in made if g is not None), (*inputs, *kept, *grads))


@_fake(loop_backward)
def _(
    key: str,
    inputs: Sequence[Tensor],
    kept: Sequence[Tensor],
    grads: Sequence[Tensor],
    batch: int,
    time: int,
) -> list[Tensor]:
    learned = _loop(key).derivative.learned()
    return [
        torch.empty_like(t, memory_format=torch.contiguous_format)
        for t, has in zip(inputs, learned, strict=True)
        if has
    ]


def _own(made: Iterable[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Dense tensors, no two of which (and of what was given) share memory."""
    taken = {t.untyped_storage().data_ptr() for t in inputs}
    found: list[Tensor] = []
    for tensor in made:
        place = tensor.untyped_storage().data_ptr()
        if place in taken or not tensor.is_contiguous():
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        taken.add(place)
        found.append(tensor)
    return found


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    key, tensors, batch, time = inputs
    count = len(results_of(_loop(key)))
    ctx.key, ctx.extents = key, (batch, time)
    ctx.counts = len(tensors), count
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(*output[count:])


def _backward(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    given, _ = ctx.counts
    inputs, made = ctx.saved_tensors[:given], ctx.saved_tensors[given:]
    return None, _gradients(ctx, inputs, made, grads), None, None


def _gradients(
    ctx: Any,
    inputs: Sequence[Tensor],
    made: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Those of the inputs; `made` is what `loop_kept` returned."""
    count = len(results_of(_loop(ctx.key)))
    wanted = [
        torch.zeros_like(o) if g is None else g
        for g, o in zip(grads[:count], made[:count], strict=True)
    ]
    kept = list(made[count:])
    found = iter(
        torch.ops.seqdsl.loop_backward(
            ctx.key, list(inputs), kept, wanted, *ctx.extents
        )
    )
    learned = _loop(ctx.key).derivative.learned()
    return [next(found) if has else None for has in learned]


getattr(loop_kept, "register_autograd")(_backward, setup_context=_keep)  # noqa: B009


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    key, tensors, batch, time = inputs
    ctx.key, ctx.extents = key, (batch, time)
    ctx.save_for_backward(*tensors)


def _backward_again(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """The gradient of `seqdsl::loop`, which kept nothing: it runs once more."""
    inputs = list(ctx.saved_tensors)
    made = torch.ops.seqdsl.loop_kept(ctx.key, inputs, *ctx.extents)
    return None, _gradients(ctx, inputs, made, grads), None, None


getattr(loop, "register_autograd")(  # noqa: B009 (untyped)
    _backward_again, setup_context=_keep_inputs
)
