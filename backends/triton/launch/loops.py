"""Whole loops along time as one launch: what they take, and whether they fit."""

# pyright: reportUntypedFunctionDecorator=false, reportUnknownMemberType=false

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from seqdsl.backends.triton.launch.dispatch import on_gpu
from seqdsl.backends.triton.launch.loop_gradients import (
    LOOPS,
    Gradient,
    fused_loop,
    fused_loop_kept,
)
from seqdsl.backends.triton.launch.tiles import Key, blocks, bucket, tiles_of

_MOST = 32768
"""Entries that a program may hold."""
_KEPT = 1024
"""Entries that a gradient may keep of a step where a parallel form keeps none."""

Dims = tuple[str, ...]


@dataclass(frozen=True)
class Loop:
    """What a kernel of a loop takes and gives, by the dims of each; `kernel` runs it.

    `reads` say whether they vary by sequence and by step. Programs may share out the
    dims in `parallel`. `values` are the dims of all that is in registers, `work` says how
    many operations of a step have which dims; `numbers` follow from the options of the
    layer.
    """

    name: str
    kernel: Any
    dims: Dims
    parallel: Dims
    reads: tuple[tuple[bool, bool, Dims], ...]
    states: tuple[Dims, ...]
    outputs: tuple[Dims, ...]
    values: tuple[Dims, ...]
    work: Mapping[Dims, int]
    numbers: Mapping[str, Callable[[Mapping[str, Any]], float]]
    gradient: Gradient | None = None

    def __post_init__(self) -> None:
        LOOPS[self.name] = self

    def learns(self, sizes: Mapping[str, int]) -> bool:
        """Whether its gradient runs as kernels as well."""
        found = self.gradient
        return found is not None and all(x.fits(sizes) for x in found.loops())

    def keeps_little(self, sizes: Mapping[str, int]) -> bool:
        """Whether its gradient keeps of a step little, or little beside what it reads."""
        if self.gradient is None:
            return False
        inner = self.gradient.loops()[0]
        kept = sum(prod(sizes[d] for d in dims) for dims in inner.outputs)
        read = sum(prod(sizes[d] for d in dims) for _, t, dims in self.reads if t)
        return kept <= max(_KEPT, 4 * read)

    def fits(self, sizes: Mapping[str, int]) -> bool:
        """Whether registers hold what there is."""
        return self._held(self.cut(sizes)) <= _MOST

    def cut(self, sizes: Mapping[str, int], entries: int = 4096) -> dict[str, int]:
        """How much of each dim a program has, that would best hold so many `entries`."""
        found = {d: 1 << max(0, sizes[d] - 1).bit_length() for d in self.dims}
        for dim in self.parallel:
            while found[dim] > 1 and self._held(found) > entries:
                found[dim] //= 2
        return found

    def key(
        self, sizes: Mapping[str, int], first: Tensor, batch: int, time: int
    ) -> Key:
        """What its tiles depend on; `first` is a state."""
        whole, usual = (self._held(self.cut(sizes, n)) for n in (1 << 62, 4096))
        held = 1 << (whole - 1).bit_length(), 1 << (usual.bit_length() - 1)
        calls = first.element_size(), bucket(time, 64), bucket(batch)
        extents = ",".join(f"{d}={sizes[d]}" for d in self.dims)
        kernel = f"{self.name} {source_of(self.kernel)} {extents}"
        return Key("loop", "scalar", "forward", *held, *calls, kernel)

    def flops(self, sizes: Mapping[str, int]) -> float:
        """Operations of a step of one sequence."""
        return sum(n * prod(sizes[d] for d in dims) for dims, n in self.work.items())

    def _held(self, found: Mapping[str, int]) -> int:
        """Entries in registers: what is the same at all steps, and room to work."""
        same = [dims for _, steps, dims in self.reads if not steps]
        held = sum(prod(found[d] for d in dims) for dims in (*same, *self.states))
        return held + 2 * self._largest(found)

    def _largest(self, found: Mapping[str, int]) -> int:
        return max((prod(found[d] for d in dims) for dims in self.values), default=1)

    def __call__(
        self,
        sizes: Mapping[str, int],
        reads: Sequence[Tensor],
        first: Sequence[Tensor],
        starts: Tensor | None,
        again: Sequence[Tensor | float],
        batch: int,
        time: int,
    ) -> tuple[Tensor, ...]:
        """Values of every step, then the states after the last.

        `first` are the states before the first step; where `starts` says, they begin again
        from `again`.
        """
        given = [
            _wide(x, first[0], [batch] * rows + [time] * steps, sizes, dims)
            for x, (rows, steps, dims) in zip(reads, self.reads, strict=True)
        ]
        pairs = list(zip(first, self.states, strict=True))
        states = [_wide(x, x, [batch], sizes, dims) for x, dims in pairs]
        fresh = [
            _wide(x, s, [batch, time], sizes, dims)
            for x, s, dims in zip(again, states, self.states, strict=True)
        ]
        call = self.name, ",".join(sizes), [float(n) for n in sizes.values()]
        if self.gradient is not None and time and torch.is_grad_enabled():
            none = states[0].new_zeros((), dtype=torch.bool)
            where = (none if starts is None else starts).expand(batch, time)
            tensors = [*given, where, *fresh, *states]
            if any(x.requires_grad for x in tensors):
                return tuple(fused_loop_kept(*call, tensors)[: self.gradient.own])
        return tuple(fused_loop(*call, given, states, starts, fresh))

    def room(
        self, sizes: Mapping[str, int], like: Tensor, batch: int, time: int
    ) -> list[Tensor]:
        """Values of every step and the states after the last, to be filled."""
        leads = [(batch, time)] * len(self.outputs) + [(batch,)] * len(self.states)
        return [
            like.new_empty(*lead, *(sizes[d] for d in dims))
            for lead, dims in zip(leads, (*self.outputs, *self.states), strict=True)
        ]

    def launched(
        self,
        sizes: Mapping[str, int],
        given: Sequence[Tensor],
        states: Sequence[Tensor],
        starts: Tensor | None,
        fresh: Sequence[Tensor],
    ) -> list[Tensor]:
        """What `room` has, filled by the kernel."""
        batch, time = fresh[0].shape[:2]
        made = self.room(sizes, states[0], batch, time)
        tiles = tiles_of(self.key(sizes, states[0], batch, time))
        cuts = self.cut(sizes, tiles.rows)
        leads = [rows + steps for rows, steps, _ in self.reads]
        given = [_dense(x, lead) for x, lead in zip(given, leads, strict=True)]
        fresh = [_dense(x, 2) for x in fresh]
        strides = [n for x, k in zip(given, leads, strict=True) for n in x.stride()[:k]]
        strides += [n for x in fresh for n in x.stride()[:2]]
        if batch:
            programs = prod(blocks(sizes[d], cuts[d]) for d in self.parallel)
            self.kernel[batch, programs](
                *given, *(x.contiguous() for x in states),
                None if starts is None else starts.contiguous(), *fresh, *made, time, *strides,
                **self._constants(sizes, cuts), SEGMENTED=starts is not None,
                num_warps=tiles.warps,
            )  # fmt: skip
        return made

    def _constants(
        self, sizes: Mapping[str, int], cuts: Mapping[str, int]
    ) -> dict[str, Any]:
        """What the kernel is compiled for."""
        found: dict[str, Any] = {f"N_d_{d}": sizes[d] for d in self.dims}
        found |= {f"B_d_{d}": n for d, n in cuts.items()}
        return found | {n: made(sizes) for n, made in self.numbers.items()}


@cache
def source_of(kernel: Any) -> str:
    """A digest of the text of a kernel."""
    return hashlib.sha256(inspect.getsource(kernel.fn).encode()).hexdigest()[:12]


def _wide(
    x: Tensor | float,
    like: Tensor,
    lead: Sequence[int],
    sizes: Mapping[str, int],
    dims: Dims,
) -> Tensor:
    """A value with all its dims."""
    made = x if isinstance(x, Tensor) else like.new_full((), x)
    return made.expand(*lead, *(sizes[d] for d in dims))


def _dense(x: Tensor, lead: int) -> Tensor:
    """`x` without gaps in its dims behind the first `lead`."""
    inner = x.new_empty(x.shape[lead:], device="meta").stride()
    return x if x.stride()[lead:] == inner else x.contiguous()


def loops_fit(
    module: nn.Module,
    given: Sequence[Any],
    state: Mapping[str, Any] | None,
    loops: Sequence[tuple[Loop, Mapping[str, int]]],
    parallel: bool = False,
) -> bool:
    """Whether a call runs as kernels: on a GPU, and small enough.

    Where torch has a `parallel` form, a gradient must not keep much more than that does.
    """
    values = (*given, *(state or {}).values(), *module.parameters())
    tensors = [x for x in values if isinstance(x, Tensor) and x.is_floating_point()]
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return on_gpu(*tensors) and all(
        runs(loop.name, tuple(sizes.items()), learning, parallel)
        for loop, sizes in loops
    )


@torch.compiler.assume_constant_result
def runs(
    name: str, sizes: tuple[tuple[str, int], ...], learning: bool, parallel: bool
) -> bool:
    """Whether a loop is small enough, and its gradient if that is wanted."""
    loop, known = LOOPS[name], dict(sizes)
    if not loop.fits(known):
        return False
    light = not parallel or loop.keeps_little(known)
    return not learning or (light and loop.learns(known))
