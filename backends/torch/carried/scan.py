"""Recurrences along time at all steps at once, by scans."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.dims import _broadcast
from seqdsl.runtime.pages import _unwritten  # pyright: ignore[reportPrivateUsage]

__all__ = ["_Scan", "_before", "_convolved", "_scan", "_scanned"]

_FEW = 6
"""Steps that take no longer one after another than in pairs."""

_LANES = 4096
"""So many numbers of a step for each thread take no longer step by step than in pairs."""

_SPAN = 1 << 22
"""Numbers of a span; the fastest of 2**19 to 2**22 on two threads of a server."""


def _scan_spans(
    a: Tensor, b: Tensor, h: Tensor, reverse: bool, out: Tensor | None = None
) -> Tensor:
    """`h = a * h[t-1] + b` at all steps, in `out`: step by step, or spans in pairs."""
    if out is None:
        out = _unwritten(b.shape, b.dtype, b.device)
    time, size = b.shape[1], _span_of(b, max(1, h.numel()))
    if not size:
        _scan_steps(a, b, h, out, reverse)
        return out
    at = range(0, time, size)
    for i in reversed(at) if reverse else at:
        part = slice(i, i + size)
        h = _scan_pairs(a[:, part], b[:, part], h, out[:, part], reverse)
    return out


def _span_of(b: Tensor, lanes: int) -> int:
    """How many steps of so many numbers a span has; 0 for step by step."""
    cpu = b.device.type == "cpu"
    if lanes >= _LANES * (torch.get_num_threads() if cpu else 64):
        return 0
    return (_SPAN if cpu else 64 * _SPAN) // lanes


def _scan_steps(a: Tensor, b: Tensor, h: Tensor, out: Tensor, reverse: bool) -> Tensor:
    """One step after another, and the last `h`."""
    steps = list(zip(a.unbind(1), b.unbind(1), out.unbind(1), strict=True))
    for a_t, b_t, target in reversed(steps) if reverse else steps:
        h = torch.addcmul(b_t, a_t, h, out=target)
    return h


def _scan_pairs(a: Tensor, b: Tensor, h: Tensor, out: Tensor, reverse: bool) -> Tensor:
    """A scan of half as many steps, which pairs make, and the last `h`; `out` may be `b`.

    What it finds are the second steps of the pairs, from which their first steps follow.
    R. P. Brent, H. T. Kung, "A regular layout for parallel adders", IEEE Transactions on
    Computers C-31, 1982.
    """
    time = b.shape[1]
    if time <= _FEW:
        return _scan_steps(a, b, h, out, reverse)
    odd = time % 2
    one, two = (1 - odd, odd) if reverse else (0, 1)
    a1, b1, out1 = (x[:, one::2] for x in (a, b, out))
    a2, b2, out2 = (x[:, two::2] for x in (a, b, out))
    edge, paired, others, before = (
        (-1, slice(odd, None), slice(None, -1), slice(1 - odd, None))
        if reverse
        else (0, slice(time // 2), slice(1, None), slice((time - 1) // 2))
    )
    torch.addcmul(b2, a2, b1[:, paired], out=out2)
    last = _scan_pairs(a2 * a1[:, paired], out2, h, out2, reverse)
    torch.addcmul(b1[:, others], a1[:, others], out2[:, before], out=out1[:, others])
    torch.addcmul(b1[:, edge], a1[:, edge], h, out=out1[:, edge])
    return out1[:, -1 - edge] if odd else last


def _scan_gradients(
    a: Tensor, first: Tensor, h: Tensor, grad: Tensor, reverse: bool, wanted: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients of `a` (if `wanted`) and `b`: a scan the other way, nothing copied."""
    begin, end = (-1, 0) if reverse else (0, -1)
    after, before = slice(1, None), slice(None, -1)
    if reverse:
        after, before = before, after
    grad_b = _unwritten(h.shape, h.dtype, h.device)
    grad_b[:, end] = grad[:, end]
    factor, inner = a[:, after].conj(), grad[:, before]
    _scan_spans(factor, inner, grad_b[:, end], not reverse, grad_b[:, before])
    if not wanted:
        return None, grad_b
    grad_a = _unwritten(h.shape, h.dtype, h.device)
    torch.mul(grad_b[:, after], h[:, before].conj(), out=grad_a[:, after])
    torch.mul(grad_b[:, begin], first.conj(), out=grad_a[:, begin])
    return grad_a, grad_b


def _derivable_gradients(
    a: Tensor, first: Tensor, h: Tensor, grad: Tensor, reverse: bool, wanted: bool
) -> tuple[Tensor | None, Tensor]:
    """The same by operations that have derivatives."""
    after = torch.cat([a[:, :1], a[:, :-1]] if reverse else [a[:, 1:], a[:, :1]], 1)
    grad_b = _scanned(after.conj(), grad, torch.zeros_like(first), not reverse)
    if not wanted:
        return None, grad_b
    return grad_b * _before(h, first, reverse).conj(), grad_b


class _Scan(torch.autograd.Function):
    """`h = a * h[t-1] + b` along dimension 1; the gradient is a scan the other way."""

    @staticmethod
    def forward(a: Tensor, b: Tensor, first: Tensor, reverse: bool) -> Tensor:
        return _scan_spans(a, b, first, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, _, first, ctx.reverse = inputs
        ctx.save_for_backward(a, first, output)
        ctx.save_for_forward(a, first, output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        a, first, h = ctx.saved_tensors
        again, wanted = torch.is_grad_enabled(), ctx.needs_input_grad[0]
        find = _derivable_gradients if again else _scan_gradients
        grad_a, grad_b = find(a, first, h, grads[0], ctx.reverse, wanted)
        edge = -1 if ctx.reverse else 0
        return grad_a, grad_b, grad_b[:, edge] * a[:, edge].conj(), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        a, first, h = ctx.saved_tensors
        to_a, to_b, to_first = tangents[:3]
        b = torch.zeros_like(h) if to_b is None else to_b
        if to_a is not None:
            b = b + to_a * _before(h, first, ctx.reverse)
        start = torch.zeros_like(first) if to_first is None else to_first
        return _scanned(a, b, start, ctx.reverse)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *args: Any
    ) -> tuple[Tensor, int]:
        a, b, first = (
            x.unsqueeze(0).expand(info.batch_size, *x.shape)
            if dim is None
            else x.movedim(dim, 0)
            for x, dim in zip(args[:3], in_dims, strict=False)
        )
        # rows that are mapped over are rows of the batch
        a, b, first = (x.flatten(0, 1) for x in (a, b, first))
        h = _scanned(a, b, first, args[3])
        return h.view(info.batch_size, -1, *h.shape[1:]), 0


def _scanned(a: Tensor, b: Tensor, first: Tensor, reverse: bool) -> Tensor:
    """`_Scan` as a function; a compiler sees the steps and derives them itself."""
    if not torch.compiler.is_compiling():
        function: Any = _Scan
        return function.apply(a, b, first, reverse)
    steps = [first]
    order = range(b.shape[1])
    for i in reversed(order) if reverse else order:
        steps.append(torch.addcmul(b[:, i], a[:, i], steps[-1]))
    return torch.stack(steps[:0:-1] if reverse else steps[1:], 1)


def _before(h: Tensor, first: Tensor, reverse: bool) -> Tensor:
    """What each step started from."""
    if reverse:
        return torch.cat([h[:, 1:], first[:, None]], 1)
    return torch.cat([first[:, None], h[:, :-1]], 1)


def _scan(
    a: Tensor,
    b: Tensor,
    first: Tensor,
    starts: Tensor | None,
    initial: Tensor | float,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """`h = a * h[t-1] + b` at all steps, and the last `h`.

    `b: [batch, time, …]`; `a` broadcasts to it, and `first: [batch, …]` is the `h` before.
    Where a segment starts, `initial` comes before. With `reverse` from the last step to
    the first.
    """
    kept = torch.promote_types(torch.promote_types(a.dtype, b.dtype), first.dtype)
    # sums of many products of low precision are not worth having
    exact = torch.float32 if kept in (torch.bfloat16, torch.float16) else kept
    shape = _broadcast([a.shape, b.shape, first[:, None].shape])
    a, b = a.to(exact).expand(shape), b.to(exact).expand(shape)
    if starts is not None:
        at = starts.view(*starts.shape, *[1] * (b.dim() - 2))
        b = torch.where(at, a * initial + b, b)
        a = torch.where(at, 0, a)
    if shape[1] == 0:
        return b.to(kept), first
    start = first.to(exact).expand(shape[0], *shape[2:])
    h = _scanned(a, b, start, reverse).to(kept)
    return h, h[:, 0 if reverse else -1]


def _convolved(
    a: Tensor,
    b: Tensor,
    first: Tensor,
    starts: Tensor | None,
    initial: Tensor | float,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """`_scan` for an `a` that is the same at all steps, as a convolution with its powers."""
    time = b.shape[1]
    if starts is not None or time < 2:
        return _scan(a, b, first, starts, initial, reverse)
    kept = torch.promote_types(torch.promote_types(a.dtype, b.dtype), first.dtype)
    shape = _broadcast([a.shape, b.shape, first[:, None].shape])
    if reverse:
        b = b.flip(1)
    wide = torch.promote_types(kept, torch.float64)
    a = a.to(wide).expand(*([1] * (len(shape) - a.dim())), *a.shape)
    steps = torch.arange(time, device=b.device, dtype=torch.float64)
    steps = steps.view(-1, *[1] * (len(shape) - 2))
    # what grows is damped before the transform, lest its end drown its beginning
    size = a.detach().abs().clamp(min=1)
    powers = (a / size) ** steps
    b = b.to(wide) * size**-steps
    apply = _filter(powers, time, kept.is_complex)
    start = first[:, None].to(wide) * size
    h = apply(b) + a / size * powers * start
    if kept == wide:
        # a transform rounds relative to the largest entry; what is left of the equation
        # tells by how much, entry by entry
        h = h + apply(b - (h - a / size * _shifted(h, start)))
    h = (h * size**steps).expand(shape).to(kept)
    return (h.flip(1) if reverse else h), h[:, -1]


def _filter(powers: Tensor, time: int, complex_: bool) -> Callable[[Tensor], Tensor]:
    """The convolution with `powers` along dimension 1, by Fourier transforms."""
    transforms: Any = torch.fft
    transform = transforms.fft if complex_ else transforms.rfft
    back = transforms.ifft if complex_ else transforms.irfft
    spectrum = transform(powers, n=2 * time, dim=1)

    def apply(x: Tensor) -> Tensor:
        found = transform(x, n=2 * time, dim=1) * spectrum
        return back(found, n=2 * time, dim=1)[:, :time]

    return apply


def _shifted(h: Tensor, start: Tensor) -> Tensor:
    """`h` a step earlier, after `start`."""
    return torch.cat([start.expand_as(h[:, :1]), h[:, :-1]], 1)
