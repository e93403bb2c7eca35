"""Scans over elements that combine associatively, in other semirings than the real one."""

from collections.abc import Callable

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.dims import _broadcast, _logaddexp

__all__ = [
    "_NUMBERS",
    "_SEMIRINGS",
    "_UNITS",
    "_blocked",
    "_is_whole",
    "_moves",
    "_product",
    "_scan_by",
    "_scan_in",
    "_scan_matrices",
    "_scan_monoid",
    "_scanned_in",
    "_with_resets",
]

_Many = tuple[Tensor, ...]
_Binary = Callable[[Tensor, Tensor], Tensor]

_RADIX = 16
"""How many steps of a scan run one after another, for all blocks of steps at once."""

_NUMBERS = 3072
"""Steps of more numbers take longer to combine than the operations on them to start."""


def _blocked(steps: _Many) -> bool:
    """Whether blocks of steps are combined side by side before they are applied."""
    time = steps[0].shape[1]
    if time <= 3 * _RADIX:
        return False
    numbers = sum(s.numel() for s in steps) // time
    least = _NUMBERS if steps[0].device.type == "cpu" else 64 * _NUMBERS
    return numbers <= least or torch.compiler.is_compiling()


def _scan_by(
    combine: Callable[[_Many, _Many], _Many],
    apply: Callable[[_Many, _Many], _Many],
    steps: _Many,
    first: _Many,
) -> _Many:
    """The state after every step: each step is applied to the state before it.

    `combine(e, f)` is the one step that is `e` and then `f`. `steps: [batch, time, …]`,
    `first: [batch, …]`; combining and applying work on any number of rows. Blocks of steps
    are combined side by side, then their ends are scanned in the same way; steps that are
    few or large are applied one by one.
    """
    time = steps[0].shape[1]
    whole = time - time % _RADIX
    done: list[_Many] = []
    if _blocked(steps):
        rows = len(steps[0])
        count = rows * (whole // _RADIX)
        blocks = [s[:, :whole].reshape(count, _RADIX, *s.shape[2:]) for s in steps]
        inner = list(zip(*(b.unbind(1) for b in blocks), strict=True))
        for i in range(1, _RADIX):
            inner[i] = combine(inner[i - 1], inner[i])
        ends = tuple(e.view(rows, whole // _RADIX, *e.shape[1:]) for e in inner[-1])
        after = _scan_by(combine, apply, ends, first)
        before = tuple(
            torch.cat([f[:, None], h[:, :-1]], 1).flatten(0, 1)
            for f, h in zip(first, after, strict=True)
        )
        states = [apply(e, before) for e in inner]
        done = [
            tuple(
                torch.stack(s, 1).view(rows, whole, *s[0].shape[1:])
                for s in zip(*states, strict=True)
            )
        ]
        first = tuple(h[:, -1] for h in done[0])
    else:
        whole = 0
    rest: list[_Many] = []
    for step in zip(*(s[:, whole:].unbind(1) for s in steps), strict=True):
        first = apply(step, first)
        rest.append(first)
    if rest:
        done.append(tuple(torch.stack(s, 1) for s in zip(*rest, strict=True)))
    if not done:
        return tuple(f[:, None][:, :0] for f in first)
    return tuple(torch.cat(parts, 1) for parts in zip(*done, strict=True))


def _with_resets(
    combine: Callable[[_Many, _Many], _Many],
    apply: Callable[[_Many, _Many], _Many],
    count: int,
) -> tuple[Callable[[_Many, _Many], _Many], Callable[[_Many, _Many], _Many]]:
    """The same for steps that may begin by setting the state, of `count` tensors.

    An element is then (whether, what the state is set to, the rest).
    """

    def chosen(where: Tensor, a: _Many, b: _Many) -> _Many:
        pairs = zip(a, b, strict=True)
        return tuple(
            torch.where(where.view(-1, *[1] * (y.dim() - 1)), x, y) for x, y in pairs
        )

    def both(e: _Many, f: _Many) -> _Many:
        values = chosen(f[0], f[1 : 1 + count], e[1 : 1 + count])
        rest = chosen(f[0], f[1 + count :], combine(e[1 + count :], f[1 + count :]))
        return (e[0] | f[0], *values, *rest)

    def applied(e: _Many, state: _Many) -> _Many:
        return apply(e[1 + count :], chosen(e[0], e[1 : 1 + count], state))

    return both, applied


_SEMIRINGS: dict[str, tuple[_Binary, _Binary, float]] = {
    "real": (torch.add, torch.mul, 0.0),
    "log": (_logaddexp, torch.add, -torch.inf),
    "max_plus": (torch.maximum, torch.add, -torch.inf),
    "min_plus": (torch.minimum, torch.add, torch.inf),
    "max_min": (torch.maximum, torch.minimum, -torch.inf),
    "boolean": (torch.logical_or, torch.logical_and, False),
}
"""Sum, product and zero."""

_UNITS = {
    "real": 1.0,
    "log": 0.0,
    "max_plus": 0.0,
    "min_plus": 0.0,
    "max_min": torch.inf,
    "boolean": True,
}
"""What a product leaves as it is."""


def _scan_in(
    semiring: str,
    a: Tensor,
    b: Tensor,
    first: Tensor,
    starts: Tensor | None,
    initial: Tensor | float,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """`h = a ⊗ h[t-1] ⊕ b` in a semiring at all steps, and the last `h`.

    Shapes as in `_scan`.
    """
    plus, times, zero = _SEMIRINGS[semiring]
    shape = _broadcast([a.shape, b.shape, first[:, None].shape])
    a, b = a.expand(shape), b.expand(shape)
    start = first.expand(shape[0], *shape[2:])
    if starts is not None:
        begun = torch.as_tensor(initial, dtype=b.dtype, device=b.device)
        if _is_whole(b):
            begun, moves = begun.expand(shape), _moves(semiring)
            (h,), (last,) = _scan_monoid(
                *moves, (a, b), (start,), starts, (begun,), reverse
            )
            return h, last
        at = starts.view(*starts.shape, *[1] * (b.dim() - 2))
        b = torch.where(at, plus(times(a, begun), b), b)
        a = torch.where(at, zero, a)
    h = _scanned_in(semiring, a, b, start, reverse)
    return h, h[:, 0 if reverse else -1] if shape[1] else first


def _is_whole(x: Tensor) -> bool:
    """Whether the dtype has no infinity that could stand for an empty sum."""
    return not (x.is_floating_point() or x.dtype.is_complex or x.dtype == torch.bool)


def _moves(
    semiring: str,
) -> tuple[Callable[[_Many, _Many], _Many], Callable[[_Many, _Many], _Many]]:
    """How steps `h = a ⊗ h[t-1] ⊕ b` combine, and what they make of a state."""
    plus, times, _ = _SEMIRINGS[semiring]

    def combine(e: _Many, f: _Many) -> _Many:
        return times(e[0], f[0]), plus(times(e[1], f[0]), f[1])

    def apply(e: _Many, state: _Many) -> _Many:
        return (plus(times(state[0], e[0]), e[1]),)

    return combine, apply


def _scanned_in(
    semiring: str, a: Tensor, b: Tensor, first: Tensor, reverse: bool
) -> Tensor:
    """`h = a ⊗ h[t-1] ⊕ b` along dimension 1, from `first`; all shapes are those of `b`."""
    steps = (a.flip(1), b.flip(1)) if reverse else (a, b)
    (h,) = _scan_by(*_moves(semiring), steps, (first,))
    return h.flip(1) if reverse else h


def _product(semiring: str, a: Tensor, b: Tensor) -> Tensor:
    """The matrix product in a semiring."""
    if semiring == "real":
        return a @ b
    _, times, _ = _SEMIRINGS[semiring]
    terms = times(a[..., :, :, None], b[..., None, :, :])
    match semiring:
        case "log":
            top = terms.detach().amax(-2, keepdim=True)
            top = torch.where(top.isfinite(), top, 0)
            kept = torch.where(terms == -torch.inf, 0, (terms - top).exp()).sum(-2)
            none = kept == 0
            found = torch.where(none, 1, kept).log() + top.squeeze(-2)
            return torch.where(none, -torch.inf, found)
        case "min_plus":
            return terms.amin(-2)
        case "boolean":
            return terms.any(-2)
        case _:
            return terms.amax(-2)


def _scan_matrices(
    semiring: str,
    a: Tensor,
    b: Tensor,
    first: Tensor,
    starts: Tensor | None,
    initial: Tensor,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """`h = a @ h[t-1] ⊕ b` in a semiring at all steps, and the last `h`.

    `a` broadcasts to `[batch, time, …, n, n]`; `b: [batch, time, …, n, m]` and `first:
    [batch, …, n, m]`; `initial: [batch, time or 1, …, n, m]` comes before where a
    segment starts.
    """
    plus, _, zero = _SEMIRINGS[semiring]
    kept = torch.promote_types(torch.promote_types(a.dtype, b.dtype), first.dtype)
    exact = torch.float32 if kept in (torch.bfloat16, torch.float16) else kept
    a = a.to(exact).expand(*b.shape[:-2], *a.shape[-2:])
    b, first, initial = b.to(exact), first.to(exact), initial.to(exact)

    def combine(e: _Many, f: _Many) -> _Many:
        moved = _product(semiring, f[0], e[1])
        return _product(semiring, f[0], e[0]), plus(moved, f[1])

    def apply(e: _Many, state: _Many) -> _Many:
        return (plus(_product(semiring, e[0], state[0]), e[1]),)

    if starts is not None and not _is_whole(b):
        at = starts.view(*starts.shape, *[1] * (b.dim() - 2))
        begun = _product(semiring, a, initial.expand_as(b))
        b = torch.where(at, plus(begun, b), b)
        a = torch.where(at, zero, a)
        starts = None
    (h,), (last,) = _scan_monoid(
        combine, apply, (a, b), (first,), starts, (initial,), reverse
    )
    return h.to(kept), last.to(kept)


def _scan_monoid(
    combine: Callable[[_Many, _Many], _Many],
    apply: Callable[[_Many, _Many], _Many],
    steps: _Many,
    first: _Many,
    starts: Tensor | None,
    initial: _Many,
    reverse: bool = False,
) -> tuple[_Many, _Many]:
    """The states at all steps, and the last ones, of steps that are elements of a monoid.

    `initial: [batch, time or 1, …]` comes before where a segment starts. The functions are
    those of `_scan_by`.
    """
    if starts is not None:
        time = starts.shape[1]
        begun = [x.expand(-1, time, *x.shape[2:]) for x in initial]
        steps = (starts, *begun, *steps)
        combine, apply = _with_resets(combine, apply, len(initial))
    if reverse:
        steps = tuple(s.flip(1) for s in steps)
    states = _scan_by(combine, apply, steps, first)
    last = tuple(h[:, -1] for h in states) if steps[0].shape[1] else first
    return (tuple(h.flip(1) for h in states) if reverse else states), last
