"""Scans entry by entry as operators of torch, with their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.triton.kernels.scan import scan_forward, scan_segments
from seqdsl.backends.triton.kernels.scan_backward import scan_adjoints, scan_backward
from seqdsl.backends.triton.launch.again import wanted_again
from seqdsl.backends.triton.launch.tiles import (
    NAMESPACE,
    Key,
    blank,
    blocks,
    cut,
    key_of,
    tiles_of,
)
from seqdsl.backends.triton.launch.tuning import settled


@torch.library.custom_op(f"{NAMESPACE}::scan", mutates_args=())
def scan(a: Tensor, b: Tensor, initial: Tensor, semiring: str = "real") -> Tensor:
    """`h[t] = a[t] * h[t-1] + b[t]` along time, from `h[-1] = initial`.

    `a`, `b` and the result are [batch, time, channels], `initial` is [batch, channels].
    Sums and products are those of `semiring`: `real`, `log`, `max_plus`, `min_plus` or
    `max_min`.
    """
    if not b.numel():
        return torch.empty_like(b)
    settled(scan_key(b), b, lambda: _scanned_at_once(a, b, initial, semiring))
    return _scanned_at_once(a, b, initial, semiring)


def _scanned_at_once(a: Tensor, b: Tensor, initial: Tensor, semiring: str) -> Tensor:
    h, cutting = torch.empty_like(b), Cutting.of(b)
    ends, wholes = cutting.ends(b)
    if cutting.segments > 1:
        scan_segments[cutting.programs, cutting.segments - 1](
            a, b, ends, wholes, *cutting.sizes, **cutting.constants, SEMIRING=semiring
        )
    scan_forward[cutting.programs, cutting.segments](
        a, b, initial, ends, wholes, h, *cutting.sizes,
        **cutting.constants, SEMIRING=semiring,
    )  # fmt: skip
    return h


@scan.register_fake
def _scan_made(*args: Any) -> Tensor:
    return torch.empty_like(args[1])


def scan_key(b: Tensor) -> Key:
    """What the tiles of a scan, and of its gradient, depend on."""
    batch, time, channels = b.shape
    width = b.element_size()
    return key_of("scan", "none", "forward", 1, channels, width, time, batch)


@dataclass(frozen=True)
class Cutting:
    """Programs for each segment, and how long and how many segments are."""

    programs: int
    sizes: tuple[int, int, int]
    constants: Mapping[str, int]

    @classmethod
    def of(cls, b: Tensor) -> Cutting:
        """How sequences like `b` are cut."""
        batch, time, channels = b.shape
        tiles = tiles_of(scan_key(b))
        programs = batch * blocks(channels, tiles.columns)
        sizes = time, *cut(tiles.chunk, programs, time, b.device)
        constants = {"D": channels, "BD": tiles.columns, "C": tiles.chunk}
        options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
        return cls(programs, sizes, constants | options)

    @property
    def segments(self) -> int:
        """Into how many pieces a sequence is cut."""
        return self.sizes[2]

    def ends(self, b: Tensor) -> Sequence[Tensor]:
        """Room for what segments make of the state 0, and for what they keep of any."""
        shape = (2, b.shape[0], self.segments - 1, b.shape[2])
        return blank(b, *shape, dtype=torch.float32).unbind()


@torch.library.custom_op(f"{NAMESPACE}::scan_gradients", mutates_args=())
def scan_gradients(
    a: Tensor, b: Tensor, h: Tensor, initial: Tensor, dh: Tensor, semiring: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a, b and initial; `b` may be anything in the semiring `real`."""
    made = _scan_gradients_made(a, b, h, initial, dh, semiring)
    da, db, dinitial = made
    if not h.numel():
        dinitial.zero_()
        return made
    cutting = Cutting.of(h)
    ends, wholes = cutting.ends(h)
    if cutting.segments > 1:
        read = (a, dh, dh, dh) if semiring == "real" else (a, b, h, dh)
        scan_adjoints[cutting.programs, cutting.segments - 1](
            *read, ends, wholes, *cutting.sizes, **cutting.constants, SEMIRING=semiring
        )
    scan_backward[cutting.programs, cutting.segments](
        a, b, h, dh, initial, ends, wholes, da, db, dinitial, *cutting.sizes,
        **cutting.constants, SEMIRING=semiring,
    )  # fmt: skip
    return made


@scan_gradients.register_fake
def _scan_gradients_made(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    a, _, h, initial, *_ = args
    return torch.empty_like(a), torch.empty_like(h), torch.empty_like(initial)


def _scan_remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, initial, ctx.semiring = inputs
    ctx.save_for_backward(a, None if ctx.semiring == "real" else b, output, initial)


def _scan_pulled(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
    a, b, h, initial = ctx.saved_tensors
    b = h if b is None else b
    if wanted_again():
        return *_scan_pulled_again(a, b, h, initial, dh, ctx.semiring), None
    return *scan_gradients(a, b, h, initial, dh.contiguous(), ctx.semiring), None


def _scan_pulled_again(
    a: Tensor, b: Tensor, h: Tensor, initial: Tensor, dh: Tensor, semiring: str
) -> tuple[Tensor, ...]:
    """Gradients that have gradients: a scan of numbers from the end, as an operator."""
    given, types = (a, b, h, initial, dh), (a.dtype, h.dtype, initial.dtype)
    a, b, h, initial, dh = (x.float() for x in given)
    before = torch.cat([initial.unsqueeze(1), h[:, :-1]], 1)
    kept, by_a, by_b = derivatives(a, b, before, h, semiring)
    later = torch.cat([kept[:, 1:], torch.ones_like(kept[:, :1])], 1)
    back = later.flip(1), dh.flip(1), torch.zeros_like(initial)
    y = scan(*(x.contiguous() for x in back)).flip(1)
    found = y * by_a, y * by_b, y[:, 0] * kept[:, 0]
    return tuple(x.to(t) for x, t in zip(found, types, strict=True))


def derivatives(
    a: Tensor, b: Tensor, before: Tensor, h: Tensor, semiring: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Of `h = a * before + b` by `before`, `a` and `b`; ties of a maximum share it."""

    def larger(x: Tensor, y: Tensor) -> Tensor:
        return (x > y).float() + 0.5 * (x == y).float()

    def part(x: Tensor) -> Tensor:
        nothing = h == -math.inf
        return (x - h.masked_fill(nothing, 0)).exp().masked_fill(nothing, 0)

    match semiring:
        case "real":
            return a, before, torch.ones_like(a)
        case "log":
            kept, made = part(a + before), part(b)
        case "max_plus" | "min_plus":
            pair = (a + before, b) if semiring == "max_plus" else (b, a + before)
            kept = larger(*pair)
            made = 1 - kept
        case _:
            moved = larger(torch.minimum(a, before), b)
            kept = moved * larger(a, before)
            return kept, moved - kept, 1 - moved
    return kept, kept, made


scan.register_autograd(_scan_pulled, setup_context=_scan_remember)
