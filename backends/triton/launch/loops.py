"""Whole loops along time as one launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from seqdsl.backends.triton.launch.dispatch import on_gpu
from seqdsl.backends.triton.launch.loop_gradients import Gradient
from seqdsl.backends.triton.launch.tiles import blocks

_DESIRED = 4096
"""Entries that a program would best hold."""
_MOST = 32768
"""Entries that a program may hold."""

Dims = tuple[str, ...]


@dataclass(frozen=True)
class Loop:
    """What a kernel of a loop takes and gives, by the dims of each; `kernel` runs it.

    `reads` say whether they vary by sequence and by step. Programs may share out the
    dims in `parallel`. `values` are the dims of all that is in registers; `numbers` follow
    from the options of the layer.
    """

    kernel: Any
    dims: Dims
    parallel: Dims
    reads: tuple[tuple[bool, bool, Dims], ...]
    states: tuple[Dims, ...]
    outputs: tuple[Dims, ...]
    values: tuple[Dims, ...]
    numbers: Mapping[str, Callable[[Mapping[str, Any]], float]]
    gradient: Gradient | None = None

    def learns(self, sizes: Mapping[str, int]) -> bool:
        """Whether its gradient runs as kernels as well."""
        found = self.gradient
        return found is not None and all(x.fits(sizes) for x in found.loops())

    def fits(self, sizes: Mapping[str, int]) -> bool:
        """Whether registers hold what there is."""
        return self._held(self.cut(sizes)) <= _MOST

    def cut(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """How much of each dim a program has."""
        found = {d: 1 << max(0, sizes[d] - 1).bit_length() for d in self.dims}
        for dim in self.parallel:
            while found[dim] > 1 and self._held(found) > _DESIRED:
                found[dim] //= 2
        return found

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
            self._laid(x, first[0], [batch] * rows + [time] * steps, sizes, dims)
            for x, (rows, steps, dims) in zip(reads, self.reads, strict=True)
        ]
        pairs = list(zip(first, self.states, strict=True))
        states = [self._laid(x, x, [batch], sizes, d).contiguous() for x, d in pairs]
        fresh = [
            self._laid(x, s, [batch, time], sizes, d)
            for x, s, d in zip(again, states, self.states, strict=True)
        ]
        if self.gradient is not None and time and torch.is_grad_enabled():
            where = (
                states[0].new_zeros((), dtype=torch.bool) if starts is None else starts
            )
            tensors = (*given, where.expand(batch, time), *fresh, *states)
            if any(x.requires_grad for x in tensors):
                return self.gradient.applied(sizes, tensors)
        return self._launched(sizes, given, states, starts, fresh, batch, time)

    def _laid(
        self,
        x: Tensor | float,
        like: Tensor,
        lead: list[int],
        sizes: Mapping[str, int],
        dims: Dims,
    ) -> Tensor:
        """A value with all its dims, these without gaps."""
        made = x if isinstance(x, Tensor) else like.new_full((), x)
        made = made.expand(*lead, *(sizes[d] for d in dims))
        inner = made.new_empty([sizes[d] for d in dims], device="meta").stride()
        return made if made.stride()[len(lead) :] == inner else made.contiguous()

    def _launched(
        self,
        sizes: Mapping[str, int],
        given: Sequence[Tensor],
        states: Sequence[Tensor],
        starts: Tensor | None,
        fresh: Sequence[Tensor],
        batch: int,
        time: int,
    ) -> tuple[Tensor, ...]:
        """The outputs, and the states after the last step."""
        like = states[0]
        outs = [
            like.new_empty(batch, time, *(sizes[d] for d in x)) for x in self.outputs
        ]
        lasts = [torch.empty_like(s) for s in states]
        cuts = self.cut(sizes)
        programs = prod(blocks(sizes[d], cuts[d]) for d in self.parallel)
        constants: dict[str, Any] = {f"N_d_{d}": sizes[d] for d in self.dims}
        constants |= {f"B_d_{d}": n for d, n in cuts.items()}
        constants |= {n: made(sizes) for n, made in self.numbers.items()}
        warps = 1 << max(0, min(4, (self._held(cuts) // 1024).bit_length()))
        leads = [rows + steps for rows, steps, _ in self.reads]
        strides = [n for x, k in zip(given, leads, strict=True) for n in x.stride()[:k]]
        strides += [n for x in fresh for n in x.stride()[:2]]
        if batch:
            self.kernel[batch, programs](
                *given, *states, starts, *fresh, *outs, *lasts, time, *strides,
                **constants, SEGMENTED=starts is not None, num_warps=warps,
            )  # fmt: skip
        return (*outs, *lasts)


def loops_fit(
    module: nn.Module,
    given: Sequence[Any],
    state: Mapping[str, Any] | None,
    loops: Sequence[tuple[Loop, Mapping[str, int]]],
) -> bool:
    """Whether a call runs as kernels: on a GPU, small enough, outside of torch.compile."""
    if torch.compiler.is_compiling():
        return False
    values = (*given, *(state or {}).values(), *module.parameters())
    tensors = [x for x in values if isinstance(x, Tensor) and x.is_floating_point()]
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return on_gpu(*tensors) and all(
        loop.fits(sizes) and (not learning or loop.learns(sizes))
        for loop, sizes in loops
    )
