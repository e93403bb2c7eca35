"""Functions that generated modules carry along, each only where it is used.

A generated file contains the text of what it needs from here (and of what that needs);
nothing is imported from this package at run time.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_NO_SEGMENT = -(2**63)


class CallError(ValueError):
    """The module was called wrongly: shape, dtype, device, state or option."""


class UnsupportedError(NotImplementedError):
    """The layer cannot do what it is asked for."""


# ---- Making a module


def _whole(what: str, value: float) -> int:
    """`value`, which `what` derives, as a whole number of at least 1."""
    if isinstance(value, bool) or value != int(value):
        raise CallError(f"{what} = {value:g} is not a whole number")
    if value < 1:
        raise CallError(f"{what} = {value:g}, but a size is at least 1")
    return int(value)


def _orthogonal_(x: Tensor, gain: float) -> None:
    """Orthonormal rows or columns of `[first, the rest]` (Saxe et al. 2013)."""
    rows = x.shape[0] if x.dim() > 1 else 1
    value = torch.empty(rows, x.numel() // rows, dtype=torch.float32)
    torch.nn.init.orthogonal_(value, gain)
    x.copy_(value.reshape(x.shape))


# ---- Checking a call


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
    if not isinstance(state, dict) or set(state) != set(wanted):
        came = sorted(state) if isinstance(state, dict) else type(state).__name__
        raise CallError(f"the state must have the keys {sorted(wanted)}; got {came}")
    for key, shape in wanted.items():
        if shape is None:
            continue
        x = state[key]
        if isinstance(shape, int):
            if not isinstance(x, list) or len(x) != shape:
                raise CallError(f"state[{key!r}] must be a list of {shape}")
            continue
        fits = isinstance(x, Tensor) and x.dim() == len(shape)
        if not fits or any(
            a != b for a, b in zip(x.shape, shape, strict=True) if b != "past"
        ):
            came = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise CallError(
                f"state[{key!r}] must be [{', '.join(map(str, shape))}]; got {came}"
            )


def _check_externs(given: dict[str, Any], names: Sequence[str]) -> None:
    """Refuse a module whose extern ops are not bound."""
    for name in names:
        if not callable(given.get(name)):
            raise CallError(
                f"extern `{name}` is not bound: give externs={{{name!r}: …}}"
            )


def _inside(index: Tensor, extent: int, name: str) -> Tensor:
    """`index`, refused where it lies outside [0, extent); only checked on the CPU."""
    checked = index.device.type == "cpu" and not torch.compiler.is_compiling()
    if checked and index.numel():
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= extent:
            worst = low if low < 0 else high
            raise CallError(f"`{name}` is {worst}, which is outside [0, {extent})")
    return index


# ---- Along time


def _starts(segments: Tensor, last: Tensor) -> Tensor:
    """Where a segment begins, `[batch, time]`; `last` is the id of the step before."""
    previous = torch.cat([last[:, None], segments[:, :-1]], 1)[:, : segments.shape[1]]
    return (segments != previous) & (previous != _NO_SEGMENT)


def _ends(segments: Tensor) -> Tensor:
    """Where a segment ends, `[batch, time]`."""
    inner = segments[:, 1:] != segments[:, :-1]
    return F.pad(inner, (0, min(1, segments.shape[1])), value=True)


def _last(segments: Tensor | None, last: Tensor) -> Tensor:
    """The segment id after these steps."""
    if segments is None or segments.shape[1] == 0:
        return last
    return segments[:, -1].to(last.dtype)


def _positions(first: Tensor, time: int, starts: Tensor | None) -> Tensor:
    """The position of every step in its segment, `[batch, time]`, from `first` on."""
    steps = torch.arange(time, device=first.device).expand(len(first), time)
    if starts is None or time == 0:
        return first[:, None] + steps
    begin = torch.where(starts, steps, -first[:, None]).cummax(1).values
    return steps - begin


def _next(t: Tensor, first: Tensor) -> Tensor:
    """The position after the last of `t`."""
    return t[:, -1] + 1 if t.shape[1] else first


def _expand_time(x: Tensor, time: int) -> Tensor:
    """A value that is the same at all steps, once for each."""
    return x.expand(-1, time, *x.shape[2:])


def _with_past(past: Tensor, x: Tensor) -> Tensor:
    """`past` and then `x`, along time."""
    return torch.cat([past, x.expand(len(past), *x.shape[1:])], 1)


def _earlier(x: Tensor, past: Tensor, steps: int, t: Tensor, outside: Tensor) -> Tensor:
    """`x` some steps earlier; before position `steps`, what is `outside`.

    `past: [batch, ≥ steps, …]` are the last steps before `x`.
    """
    moved = _with_past(past[:, past.shape[1] - steps :], x)[:, : x.shape[1]]
    begun = t >= steps
    return torch.where(begun.view(*begun.shape, *[1] * (x.dim() - 2)), moved, outside)


def _later(x: Tensor, steps: int, segments: Tensor | None, outside: Tensor) -> Tensor:
    """`x` some steps later; beyond the last step (of the segment), what is `outside`."""
    time = x.shape[1]
    outside = outside.expand(len(x), min(steps, time), *x.shape[2:])
    moved = torch.cat([x[:, steps:], outside.to(x.dtype)], 1)
    if segments is None:
        return moved
    kept = max(time - steps, 0)
    same = segments[:, :kept] == segments[:, time - kept :]
    same = F.pad(same, (0, time - kept), value=False)
    return torch.where(
        same.view(*same.shape, *[1] * (x.dim() - 2)), moved, outside[:, :1]
    )


def _stack(steps: Sequence[Tensor], like: Tensor, *dims: int) -> Tensor:
    """Steps of a loop along time as `[batch, time, …]`."""
    if steps:
        return torch.stack(list(steps), 1)
    return like.new_zeros(len(like), 0, *dims)


def _windows(x: Tensor, past: Tensor, width: int, dilation: int, t: Tensor) -> Tensor:
    """At every step the last `width` entries, `dilation` steps apart: dimension 2.

    What lies before the beginning of the segment is 0.
    """
    time = x.shape[1]
    whole = _with_past(past, x)
    lags = [(width - 1 - i) * dilation for i in range(width)]
    taps = [whole[:, past.shape[1] - lag :][:, :time] for lag in lags]
    begun = t[:, :, None] >= torch.tensor(lags, device=t.device)
    begun = begun.view(*begun.shape, *[1] * (x.dim() - 2))
    return torch.where(begun, torch.stack(taps, 2), 0)


def _keep(past: Tensor, x: Tensor) -> Tensor:
    """The last steps of `past` and `x`, as many as `past` has."""
    return _with_past(past, x)[:, x.shape[1] :]


def _recent(past: Tensor, window: float) -> Tensor:
    """What a window that ends at the next step will still see."""
    return (
        past
        if window == math.inf
        else past[:, max(0, past.shape[1] - int(window) + 1) :]
    )


def _ids(segments: Tensor | None, last: Tensor, time: int) -> Tensor:
    """The segment of every step, `[batch, time]`."""
    return (
        last[:, None].expand(-1, time) if segments is None else segments.to(last.dtype)
    )


def _over_time(
    reducer: Callable[..., Tensor],
    x: Tensor,
    dims: Sequence[int],
    where: Tensor | None,
    starts: Tensor | None,
) -> Tensor:
    """`reducer` over `dims` (from the end) and over time, kept as a dimension of 1.

    With segments, every step gets the reduction of its own segment.
    """
    if starts is None:
        result = reducer(x, (1 - x.dim(), *dims), where)
        return result.unsqueeze(1)
    number = starts.cumsum(1)
    same = number[:, :, None] == number[:, None, :]
    same = same.view(*same.shape, *[1] * (x.dim() - 2))
    where = same if where is None else same & where[:, None]
    return reducer(x[:, None], (2 - x.dim() - 1, *dims), where)


def _at_step(
    x: Tensor, index: Tensor | int | None, starts: Tensor | None, name: str
) -> Tensor:
    """`x` at one position of the segment (None: the last), for every step."""
    time = x.shape[1]
    if starts is None and index is None:
        return x[:, -1:]
    steps = torch.arange(time, device=x.device).expand(len(x), time)
    if starts is None:
        starts = steps == 0
    begin = torch.where(starts, steps, 0).cummax(1).values
    ends = F.pad(starts[:, 1:], (0, min(1, time)), value=True)
    end = torch.where(ends, steps, time).flip(1).cummin(1).values.flip(1)
    place = end if index is None else begin + index
    if not torch.compiler.is_compiling() and bool(
        (place > end).any() | (place < begin).any()
    ):
        raise CallError(f"`{name}` is read at a step outside of its segment")
    place = place.view(len(x), time, *[1] * (x.dim() - 2))
    return x.gather(1, place.expand(len(x), time, *x.shape[2:]))


def _reset(starts: Tensor, x: Tensor, initial: Tensor | float) -> Tensor:
    """`initial` where a segment starts, else `x`."""
    return torch.where(starts.view(-1, *[1] * (x.dim() - 1)), initial, x)


def _reset_each(starts: Tensor, past: Any, initial: Tensor | float) -> Any:
    """`_reset` for every step of the loops along depth."""
    if isinstance(past, list):
        return [_reset_each(starts, one, initial) for one in past]
    return _reset(starts, past, initial)


# ---- Reductions with a mask; gradients are finite, also where nothing takes part


def _masked(x: Tensor, where: Tensor | None, outside: float) -> Tensor:
    """`x`, and `outside` where the mask is false."""
    return x if where is None else torch.where(where, x, outside)


def _sum(x: Tensor, dims: Sequence[int], where: Tensor | None) -> Tensor:
    return _masked(x, where, 0).sum(dims)


def _mean(x: Tensor, dims: Sequence[int], where: Tensor | None) -> Tensor:
    if where is None:
        where = torch.ones((), dtype=torch.bool, device=x.device)
    x, where = torch.broadcast_tensors(x, where)
    return torch.where(where, x, 0).sum(dims) / where.sum(dims).clamp(min=1)


def _flat(x: Tensor, dims: Sequence[int]) -> Tensor:
    """`dims` (from the end) as one last dimension."""
    x = x.movedim(list(dims), list(range(-len(dims), 0)))
    return x.flatten(-len(dims))


def _prod(x: Tensor, dims: Sequence[int], where: Tensor | None) -> Tensor:
    return _flat(_masked(x, where, 1), dims).prod(-1)


def _least(x: Tensor) -> float:
    return -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min


def _max(x: Tensor, dims: Sequence[int], where: Tensor | None) -> Tensor:
    if x.numel() == 0:
        return torch.full_like(x.sum(dims), _least(x))
    return _masked(x, where, _least(x)).amax(dims)


def _min(x: Tensor, dims: Sequence[int], where: Tensor | None) -> Tensor:
    most = math.inf if x.is_floating_point() else torch.iinfo(x.dtype).max
    if x.numel() == 0:
        return torch.full_like(x.sum(dims), most)
    return _masked(x, where, most).amin(dims)


def _argmax(x: Tensor, dim: int, where: Tensor | None) -> Tensor:
    return _masked(x, where, _least(x)).argmax(dim)


def _argmin(x: Tensor, dim: int, where: Tensor | None) -> Tensor:
    most = math.inf if x.is_floating_point() else torch.iinfo(x.dtype).max
    return _masked(x, where, most).argmin(dim)


def _any(x: Tensor, dims: Sequence[int], where: Tensor | None) -> Tensor:
    return (x if where is None else x & where).any(dims)


def _all(x: Tensor, dims: Sequence[int], where: Tensor | None) -> Tensor:
    return (x if where is None else x | ~where).all(dims)


def _logsumexp(x: Tensor, dims: Sequence[int], where: Tensor | None) -> Tensor:
    x = _masked(x, where, -math.inf)
    if x.numel() == 0:
        return torch.full_like(x.sum(dims), -math.inf)
    top = x.detach().amax(dims, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0)
    total = torch.exp(x - top).sum(dims)
    log = torch.log(torch.where(total == 0, 1, total)) + top.reshape(total.shape)
    return torch.where(total == 0, -math.inf, log)


def _softmax(x: Tensor, dims: Sequence[int], where: Tensor | None) -> Tensor:
    """Softmax over `dims` of what `where` lets take part; all 0 where nothing does."""
    x = _masked(x, where, -math.inf)
    if x.numel() == 0:
        return x
    top = x.detach().amax(dims, keepdim=True)
    powers = torch.exp(x - torch.where(torch.isfinite(top), top, 0))
    total = powers.sum(dims, keepdim=True)
    return powers / torch.where(total == 0, 1, total)


def _log_softmax(x: Tensor, dims: Sequence[int], where: Tensor | None) -> Tensor:
    x = _masked(x, where, -math.inf)
    total = _logsumexp(x, dims, None)
    for dim in sorted((d % x.dim() for d in dims)):
        total = total.unsqueeze(dim)
    seen = (x > -math.inf) & (total > -math.inf)
    return torch.where(seen, x - torch.where(seen, total, 0), -math.inf)


def _top(x: Tensor, count: int, dim: int) -> Tensor:
    """`x` at its `count` largest entries along `dim`, else 0; ties go to the first."""
    order = torch.sort(x, dim=dim, descending=True, stable=True).indices
    chosen = torch.zeros_like(x, dtype=torch.bool)
    chosen = chosen.scatter(dim, order.narrow(dim, 0, count), True)
    return torch.where(chosen, x, 0)


# ---- Pointwise


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """log(eᵃ + eᵇ) whose gradient is finite where both are -inf."""
    gap = torch.where(a == b, 0, a - b)
    return torch.maximum(a, b) + torch.log1p(torch.exp(-torch.abs(gap)))


def _imag(x: Tensor) -> Tensor:
    """The imaginary part, 0 of real numbers."""
    return torch.imag(x) if x.is_complex() else torch.zeros_like(x)


# ---- Dims


def _entries(start: int, step: int, count: int, device: torch.device) -> Tensor:
    """start, start + step, … (count of them)."""
    return start + step * torch.arange(count, device=device)


def _move(x: Tensor, offset: int, dim: int) -> Tensor:
    """`x` moved towards higher indices of `dim`, filled with 0."""
    source = torch.arange(x.shape[dim], device=x.device) - offset
    inside = (source >= 0) & (source < x.shape[dim])
    moved = x.index_select(dim, torch.where(inside, source, 0))
    return torch.where(inside.view(-1, *[1] * (-1 - dim)), moved, 0)


def _concat(parts: Sequence[Tensor], dim: int) -> Tensor:
    """`parts` one after another along `dim`, broadcast along the others."""
    shapes = [[*p.shape[:dim], 1, *p.shape[p.dim() + dim + 1 :]] for p in parts]
    shape = torch.broadcast_shapes(*shapes)
    wide = [
        p.expand(*shape[:dim], p.shape[dim], *shape[len(shape) + dim + 1 :])
        for p in parts
    ]
    return torch.cat(wide, dim)


def _gather(
    table: Tensor, index: Tensor, places: Sequence[int | None], rank: int
) -> Tensor:
    """`table` at `index` (along the dimension with place None), by dimensions' places."""
    where = [
        index
        if place is None
        else torch.arange(n, device=index.device).view(-1, *[1] * (rank - 1 - place))
        for n, place in zip(table.shape, places, strict=True)
    ]
    return table[tuple(where)]


def _neighbors(x: Tensor, dim: int, width: int, dilation: int, pad: str) -> Tensor:
    """Along `dim` the `width` entries around each, as the dimension behind it."""
    extent = x.shape[dim]
    offsets = (torch.arange(width, device=x.device) - (width - 1) // 2) * dilation
    source = torch.arange(extent, device=x.device)[:, None] + offsets
    inside = (source >= 0) & (source < extent)
    if pad == "circular":
        source = source % extent
    elif pad == "replicate":
        source = source.clamp(0, extent - 1)
    elif pad == "reflect":
        period = max(2 * (extent - 1), 1)
        source = source % period
        source = torch.where(source < extent, source, period - source)
    else:
        source = torch.where(inside, source, 0)
    near = x.index_select(dim, source.flatten()).unflatten(dim, (extent, width))
    if pad == "zero":
        near = torch.where(inside.view(extent, width, *[1] * (-1 - dim)), near, 0)
    return near


def _extern(function: Callable[..., Tensor], lead: int, *args: Tensor) -> Tensor:
    """`function` at every index of the first `lead` dimensions."""
    if lead == 0:
        return function(*args)
    shape = torch.broadcast_shapes(*(a.shape[:lead] for a in args))
    flat = [a.expand(*shape, *a.shape[lead:]).flatten(0, lead - 1) for a in args]
    results = [function(*one) for one in zip(*flat, strict=True)]
    return torch.stack(results).unflatten(0, shape)


def _elements(extents: Sequence[int], device: torch.device) -> Tensor:
    """The row-major number of every element."""
    return torch.arange(math.prod(extents), device=device).view(*extents)


# ---- Along depth


def _back(steps: Sequence[Tensor], index: int, initial: Tensor) -> Tensor:
    """Step `index` (from 0) of the steps so far; before the first, `initial`."""
    return steps[index] if index >= 0 else initial


def _step_of(steps: Sequence[Tensor], index: int, initial: Tensor | None) -> Tensor:
    """Step `index` of 1 … count; 0 is the initial value."""
    if not 0 <= index <= len(steps):
        raise CallError(f"step {index} is outside 0 … {len(steps)}")
    if index == 0:
        return torch.zeros_like(steps[0]) if initial is None else initial
    return steps[index - 1]
