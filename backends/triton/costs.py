"""What a call of kernels costs on a GPU that is not there, beside the least it could."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seqdsl.backends.triton.chips import CHIPS, Chip, roofline
from seqdsl.backends.triton.dry_run import DryRun, Launch


@dataclass(frozen=True)
class Pass:
    """A forward or a backward pass.

    `least_bytes` are those of what the operators take and give, each once, without what
    they only keep for themselves; `least_flops` those of the recurrence step by step.
    """

    launches: tuple[Launch, ...]
    least_bytes: int
    least_flops: float

    @property
    def given(self) -> int:
        """Bytes given to all launches."""
        return sum(x.given for x in self.launches)

    @property
    def flops(self) -> float:
        """Floating-point operations of all matrix products."""
        return sum(x.flops for x in self.launches)

    @property
    def others(self) -> float:
        """All other floating-point operations."""
        return sum(x.others for x in self.launches)

    def seconds(self, chip: Chip) -> float:
        """The least time by the chip's data sheet, launch after launch."""
        return sum(roofline(chip, x.given, x.flops, x.others) for x in self.launches)

    def report(self, arch: str, tokens: int) -> dict[str, Any]:
        """All figures, for JSON."""
        chip = CHIPS[arch]
        return {
            "launches": [_row(x, chip) for x in self.launches],
            "bytes_per_token": self.given / tokens,
            "least_bytes_per_token": self.least_bytes / tokens,
            "flops_per_token": (self.flops + self.others) / tokens,
            "products_per_token": self.flops / tokens,
            "least_flops_per_token": self.least_flops / tokens,
            "roofline_us": 1e6 * self.seconds(chip),
            "least_us": 1e6 * roofline(chip, self.least_bytes, self.least_flops),
        }


def _row(launch: Launch, chip: Chip) -> dict[str, Any]:
    used = launch.resources
    return {
        "kernel": launch.kernel,
        "programs": launch.programs,
        **asdict(used),
        "programs_per_processor": used.fits(chip),
        "occupancy": used.fits(chip) * used.warps / chip.warps,
        "bytes": launch.given,
        "flops": launch.flops + launch.others,
        "products": launch.flops,
    }


def costs(
    forward: Callable[[], Sequence[Tensor]],
    arch: str,
    loops: Mapping[str, Any] | None = None,
) -> tuple[Pass, Pass]:
    """The forward pass that `forward` runs, and the backward pass of its outputs' sum.

    `loops` are those that have kernels of their own, by name.
    """
    with DryRun(arch) as run, _Operators(loops or {}) as least:
        outs = [o for o in forward() if o.is_floating_point()]
        cut, first = len(run.launches), least.counted()
        total = sum((o.float().sum() for o in outs), torch.zeros(()))
        if total.requires_grad:
            total.backward()
    return (
        Pass(tuple(run.launches[:cut]), *first),
        Pass(tuple(run.launches[cut:]), *least.counted()),
    )


_SHOWN: Mapping[str, int] = {"outer": 2, "delta": 2}
"""How many outputs of an operator are not for its gradient alone."""


class _Operators(TorchDispatchMode):
    """Adds up what calls of our operators take and give."""

    def __init__(self, loops: Mapping[str, Any]) -> None:
        super().__init__()
        self._loops = loops
        self._bytes, self._flops = 0, 0.0
        self._inner: set[int] = set()

    def counted(self) -> tuple[int, float]:
        """Bytes and operations since it was asked last."""
        found = self._bytes, self._flops
        self._bytes, self._flops = 0, 0.0
        return found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        space, _, name = func.name().partition("::")
        if space.startswith("seqdsl"):
            name = name.partition(".")[0]
            outs = list(_tensors([out]))
            inner = outs[_SHOWN[name] :] if name in _SHOWN else []
            self._inner |= {x.data_ptr() for x in inner if x.numel()}
            sizes = {x.data_ptr(): x.nbytes for x in (*_tensors(args), *outs)}
            self._bytes += sum(n for at, n in sizes.items() if at not in self._inner)
            self._flops += _least(name, list(args), self._loops)
        return out


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)  # pyright: ignore[reportUnknownArgumentType]


def _least(name: str, args: Sequence[Any], loops: Mapping[str, Any]) -> float:
    """Operations of the recurrence step by step; its gradient has twice as many."""
    family, _, gradients = name.partition("_")
    times = 2.0 if gradients else 1.0
    match family:
        case "scan":
            return times * 2 * args[1].numel()
        case "outer":
            values = args[2].shape[-1]
            return times * 5 * prod(args[0].shape) * values
        case "delta":
            value = args[5] if args[3] is None else args[3]
            each = 7 + 2 * (args[4] is not None)
            return times * each * prod(args[0].shape) * value.shape[-1]
        case "fused":
            return _least_of_loop(args, loops, 2.0 if "gradients" in name else 1.0)
        case _:
            return 0.0


def _least_of_loop(
    args: Sequence[Any], loops: Mapping[str, Any], times: float
) -> float:
    """The equations at all steps of all sequences, each once."""
    name, names, numbers, given, *rest = args
    loop = loops[name]
    by_step = given[len(loop.reads)] if len(rest) < 3 else rest[2][0]
    steps = prod(by_step.shape[:2])
    sizes = dict(zip(names.split(","), numbers, strict=True))
    return times * steps * loop.flops(sizes)
