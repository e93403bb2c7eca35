"""Errors and checks of a call, and of the options of a module."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "CallError",
    "UnsupportedError",
    "_agree",
    "_any_parameter",
    "_check",
    "_check_externs",
    "_check_segments",
    "_check_state",
    "_complex",
    "_fits",
    "_inside",
    "_orthogonal_",
    "_whole",
]


class CallError(ValueError):
    """The module was called wrongly: shape, dtype, device, state or option."""


class UnsupportedError(NotImplementedError):
    """The layer cannot do what it is asked for."""


def _whole(what: str, value: float, least: int = 1) -> int:
    """`value`, which `what` derives, as a whole number: a size, or a count of steps."""
    if isinstance(value, bool) or value != int(value):
        raise CallError(f"{what} = {value:g} is not a whole number")
    if value < least:
        raise CallError(f"{what} = {value:g}, but must be at least {least}")
    return int(value)


def _orthogonal_(x: Tensor, gain: float, rows: int = 1) -> None:
    """Orthonormal rows or columns of `[first dims, the rest]` (Saxe et al. 2013)."""
    first = x.shape[:rows].numel()
    value = torch.empty(first, x.numel() // first, dtype=torch.float32)
    torch.nn.init.orthogonal_(value, gain)
    x.copy_(value.reshape(x.shape))


def _check(
    name: str,
    x: Any,
    lead: Sequence[str],
    dims: dict[str, int],
    like: Tensor | None = None,
    kind: str = "float",
) -> None:
    """Refuse an input of the wrong type, shape, dtype or device."""
    if not isinstance(x, Tensor):
        raise CallError(f"input `{name}` must be a tensor, not {type(x).__name__}")
    shape = x.shape[len(lead) :]
    if x.dim() != len(lead) + len(dims) or list(shape) != list(dims.values()):
        sizes = ", ".join(f"{d} = {n}" for d, n in dims.items() if d != str(n))
        declared = f"[{', '.join(dims)}]" + (f" with {sizes}" if sizes else "")
        wanted = ", ".join([*lead, *map(str, dims.values())])
        raise CallError(
            f"input `{name}` is declared {declared}, so it must be [{wanted}]; "
            f"got {list(x.shape)}"
        )
    kinds = {
        "float": x.is_floating_point(),
        "complex": x.is_complex() or x.is_floating_point(),
        "bool": x.dtype == torch.bool,
        "int": not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool),
    }
    if not kinds[kind]:
        raise CallError(f"input `{name}` is declared {kind}; got {x.dtype}")
    if like is not None and x.device != like.device:
        raise CallError(
            f"input `{name}` is on {x.device}, the parameters on {like.device}"
        )


def _agree(axis: str, extents: dict[str, int]) -> None:
    """Refuse inputs that do not share their extent along batch or time."""
    if len(set(extents.values())) > 1:
        shown = ", ".join(f"`{name}` has {n}" for name, n in extents.items())
        raise CallError(f"inputs differ along {axis}: {shown}")


def _check_segments(segments: Tensor, batch: int, time: int) -> None:
    """Refuse segment ids that are not whole numbers `[batch, time]`."""
    if list(segments.shape) != [batch, time]:
        raise CallError(
            f"segments must be [batch, time] = {[batch, time]}; "
            f"got {list(segments.shape)}"
        )
    if segments.is_floating_point() or segments.dtype == torch.bool:
        raise CallError(f"segments must be whole numbers; got {segments.dtype}")


def _check_state(state: Any, wanted: dict[str, Any]) -> None:
    """Refuse a state with other keys or shapes; None is not looked into.

    A number stands for a list with so many entries, one for each step along depth.
    """
    keys = set(state.keys()) if hasattr(state, "keys") else None
    if keys != set(wanted):
        came = type(state).__name__ if keys is None else sorted(keys)
        raise CallError(f"the state must have the keys {sorted(wanted)}; got {came}")
    for key, shape in wanted.items():
        x: Any = state[key]
        if shape is None:
            continue
        if isinstance(shape, int):
            if not hasattr(x, "append") or len(x) != shape:
                raise CallError(f"state[{key!r}] must be a list of {shape}")
            continue
        came = list(x.shape) if isinstance(x, Tensor) else None
        if came is None or not _fits(came, shape):
            text = f"[{', '.join(map(str, shape))}]"
            raise CallError(f"state[{key!r}] must be {text}; got {came or type(x)}")


def _fits(came: Sequence[int], shape: Sequence[int | str]) -> bool:
    """Whether a shape is the one wanted, where a word stands for any extent."""
    return len(came) == len(shape) and all(
        isinstance(b, str) or a == b for a, b in zip(came, shape, strict=True)
    )


def _complex(dtype: torch.dtype) -> torch.dtype:
    """Complex numbers with parts of this precision; a method is not traced."""
    known = {torch.float64: torch.complex128, torch.float16: torch.complex32}
    return known.get(dtype, torch.complex64)


def _check_externs(given: dict[str, Any], names: Sequence[str]) -> None:
    """Refuse a module whose extern ops are not bound."""
    for name in names:
        if not callable(given.get(name)):
            raise CallError(
                f"extern `{name}` is not bound: give externs={{{name!r}: …}}"
            )


def _any_parameter(module: torch.nn.Module) -> Tensor:
    """A parameter that is no whole number, or an empty tensor where there is none."""
    floats = [p for p in module.parameters() if p.is_floating_point()]
    return floats[0] if floats else torch.empty(0)


def _inside(index: Tensor, extent: int, name: str) -> Tensor:
    """`index`, refused where it lies outside [0, extent); only checked on the CPU."""
    checked = index.device.type == "cpu" and not torch.compiler.is_compiling()
    if checked and index.numel():
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= extent:
            worst = low if low < 0 else high
            raise CallError(f"`{name}` is {worst}, which is outside [0, {extent})")
    return index
