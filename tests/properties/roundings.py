"""How far rounding carries a result off: every operation rounded at random.

A bound for half precision that nobody has to guess: the same operations in double
precision, the result of each changed by a random part of at most one unit, say what errors
of that size make of a result (D. Stott Parker, Monte Carlo arithmetic, 1997). True
roundings are no larger and behave as if they were random, unless the same one is made at
every step: what grows by small steps loses them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqdsl.testing.subject import Tensors

CONFIDENCE = 6
"""How many times as large as expected an error may be: a result may be one number."""

DRAWS = 4

SMALL = 1e-7
"""The unit in which results are changed: what becomes of it grows in proportion."""

_EXACT = frozenset(
    [
        "abs",
        "alias",
        "amax",
        "amin",
        "arange",
        "argmax",
        "argmin",
        "cat",
        "clone",
        "constant_pad_nd",
        "copy",
        "cummax",
        "cummin",
        "detach",
        "empty",
        "empty_like",
        "empty_strided",
        "expand_copy",
        "fill",
        "flip",
        "full",
        "full_like",
        "gather",
        "index",
        "index_select",
        "masked_fill",
        "max",
        "maximum",
        "min",
        "minimum",
        "neg",
        "new_empty",
        "new_full",
        "new_ones",
        "new_zeros",
        "ones",
        "ones_like",
        "relu",
        "repeat",
        "roll",
        "scatter",
        "select_backward",
        "sign",
        "slice_backward",
        "slice_scatter",
        "sort",
        "stack",
        "threshold_backward",
        "to_copy",
        "topk",
        "tril",
        "triu",
        "unfold_backward",
        "where",
        "zero",
        "zeros",
        "zeros_like",
    ]
)
"""Operations that move numbers or choose among them."""


class _Rounded(TorchDispatchMode):
    """Changes the results of operations by a random part of at most `SMALL`."""

    generator: torch.Generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__.strip("_") not in _EXACT and not _views(func):
            for value in tree_leaves(made):
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    self._change(value)
        return made

    def _change(self, value: torch.Tensor) -> None:
        noise = torch.rand(value.shape, generator=self.generator, dtype=value.dtype)
        value.mul_(1 + SMALL * (2 * noise - 1))


def _views(func: Any) -> bool:
    """Whether a function returns its argument in another shape."""
    infos = [r.alias_info for r in func._schema.returns]
    return any(i is not None and not i.is_write for i in infos)


def units_of(run: Callable[[], Tensors], exact: Tensors) -> dict[str, float]:
    """What errors of one unit make of results, relative to their largest entries.

    `run` computes in double precision what is `exact`; the errors are those expected of
    the largest entry of each result.
    """
    squares = {n: 0.0 for n, v in exact.items() if v.is_floating_point() and v.numel()}
    for seed in range(DRAWS):
        mode = _Rounded()
        mode.generator = torch.Generator().manual_seed(seed)
        with mode:
            found = run()
        for name in squares:
            error = (found[name] - exact[name]).abs().max()
            relative = float(error / exact[name].abs().max().clamp_min(1)) / SMALL
            squares[name] += relative**2 / DRAWS
    return {n: max(1.0, s**0.5) for n, s in squares.items()}


def bound(units: float, dtype: torch.dtype) -> float:
    """The error that a result of so many units may have."""
    return CONFIDENCE * units * torch.finfo(dtype).eps / 2
