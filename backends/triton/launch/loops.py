"""Whole loops along time as one launch, for those that no gradient is wanted of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from seqdsl.backends.triton.launch.dispatch import on_gpu
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
        like = first[0]

        def laid(x: Tensor | float, rows: bool, steps: bool, dims: Dims) -> Tensor:
            lead = [batch] * rows + [time] * steps
            x = torch.as_tensor(x, device=like.device)
            return x.expand(*lead, *(sizes[d] for d in dims)).contiguous()

        given = [laid(x, *how) for x, how in zip(reads, self.reads, strict=True)]
        states = [
            laid(x, True, False, d) for x, d in zip(first, self.states, strict=True)
        ]
        fresh = states
        if starts is not None:
            pairs = zip(again, states, self.states, strict=True)
            fresh = [laid(x, True, True, d).to(s.dtype) for x, s, d in pairs]
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
        if batch:
            self.kernel[batch, programs](
                *given, *states, starts, *fresh, *outs, *lasts, time,
                **constants, SEGMENTED=starts is not None, num_warps=warps,
            )  # fmt: skip
        return (*outs, *lasts)


def loops_fit(
    module: nn.Module,
    given: Sequence[Any],
    state: Mapping[str, Any] | None,
    loops: Sequence[tuple[Loop, Mapping[str, int]]],
) -> bool:
    """Whether a call runs as kernels: on a GPU, small enough, and without gradients."""
    if torch.compiler.is_compiling():
        return False
    values = (*given, *(state or {}).values(), *module.parameters())
    tensors = [x for x in values if isinstance(x, Tensor) and x.is_floating_point()]
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return False
    return on_gpu(*tensors) and all(loop.fits(sizes) for loop, sizes in loops)
