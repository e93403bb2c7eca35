"""Segments, positions, shifts, windows and loops along time, and lists along depth."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqdsl.backends.torch.carried.calling import CallError

__all__ = [
    "_NO_SEGMENT",
    "_as_past",
    "_at_step",
    "_chosen",
    "_dot_over_time",
    "_each_step",
    "_earlier",
    "_ends",
    "_expand_time",
    "_final",
    "_held",
    "_keep",
    "_last",
    "_later",
    "_latest",
    "_next",
    "_over_time",
    "_per_segment",
    "_positions",
    "_recent",
    "_reset",
    "_reset_each",
    "_runs",
    "_seen_later",
    "_stack",
    "_starts",
    "_step_over_time",
    "_sum_over_time",
    "_windows",
    "_windows_ahead",
    "_with_blank",
    "_with_past",
    "_with_rows",
]

_NO_SEGMENT = -(2**63)


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


def _runs(past: Tensor, time: int, starts: Tensor | None) -> Tensor:
    """A number for the segment of every step, past ones included.

    0 is the one that the state was in and -1, as positions in `past`, stands for those
    before. An id may come back in a later segment, so ids do not tell segments apart.
    """
    now = past.new_zeros(len(past), time) if starts is None else starts.cumsum(1)
    return torch.cat([past.clamp(max=0, min=-1), now], 1)


def _as_past(t: Tensor, runs: Tensor, starts: Tensor | None) -> Tensor:
    """Positions as later steps see them: -1 in segments that have ended."""
    if starts is None:
        return t
    return torch.where(runs == starts.sum(1, keepdim=True), t, -1)


def _seen_later(past: Tensor, window: float, *needed: Tensor) -> Tensor | slice:
    """Which steps of `past` later ones may see: where one of `needed` is true.

    And all that a window has not left; none of segments that have ended.
    """
    if torch.compiler.is_compiling():
        return slice(None)  # how many there are is not known when a graph is made
    found = torch.arange(past.shape[1], 0, -1, device=past.device) < window
    for x in needed:
        found = found | (x.flatten(2).any(2) if x.dim() > 2 else x)
    return (found & (past >= 0)).any(0)


def _chosen(past: Any, kept: Tensor | slice) -> Any:
    """The `kept` steps of a past, or of each in lists along depth."""
    if hasattr(past, "append"):
        return [_chosen(x, kept) for x in past]
    return past[:, kept]


def _expand_time(x: Tensor, time: int) -> Tensor:
    """A value that is the same at all steps, once for each."""
    return x.expand(-1, time, *x.shape[2:])


def _each_step(x: Tensor, starts: Tensor | None) -> Tensor:
    """What is the same at all steps of a segment, once for each; once without any."""
    return x if starts is None else _expand_time(x, starts.shape[1])


def _final(x: Tensor, name: str) -> Tensor:
    """The one value, `[batch, …]`, of what is the same at all steps."""
    if x.shape[1] == 0:
        raise CallError(f"`{name}` needs at least one step")
    return x[:, -1]


def _with_past(past: Tensor, x: Tensor) -> Tensor:
    """`past` and then `x`, along time."""
    return torch.cat([past, x.expand(len(past), *x.shape[1:])], 1)


def _with_blank(past: Tensor) -> Tensor:
    """`past` and then a step of zeros, along time."""
    return F.pad(past, (*[0, 0] * (past.dim() - 2), 0, 1))


def _keep(past: Tensor, x: Tensor) -> Tensor:
    """The last steps of `past` and `x`, as many as `past` has."""
    return _with_past(past, x)[:, x.shape[1] :]


def _held(past: Tensor, x: Tensor, t: Tensor, initial: Tensor | float) -> Tensor:
    """As `_keep`, with `initial` in the place of what was before the segment."""
    kept = _keep(past, x)
    if t.shape[1] == 0:
        return kept
    ages = torch.arange(kept.shape[1], 0, -1, device=t.device)
    inside = t[:, -1:] + 1 >= ages
    return torch.where(inside.view(*inside.shape, *[1] * (x.dim() - 2)), kept, initial)


def _latest(past: Tensor, x: Tensor) -> Tensor:
    """The last step of `x`, or `past` where it has none."""
    return x[:, -1] if x.shape[1] else past


def _recent(past: Tensor, window: float, axes: int = 1) -> Tensor:
    """What a window that ends at the next step will still see, along some axes."""
    if window == math.inf:
        return past
    for axis in range(1, 1 + axes):
        first = max(0, past.shape[axis] - int(window) + 1)
        past = past.narrow(axis, first, past.shape[axis] - first)
    return past


def _with_rows(past: Tensor, first: Tensor | float, rows: int, axes: range) -> Tensor:
    """`past` with as many `rows` along each of `axes`, where new ones are as in `first`."""
    shape = [rows if i in axes else n for i, n in enumerate(past.shape)]
    fresh = torch.as_tensor(first, dtype=past.dtype, device=past.device).expand(shape)
    for axis in axes:
        seen = past.shape[axis]
        new = fresh.narrow(axis, seen, rows - seen)
        for other in range(axis + 1, axes.stop):
            new = new.narrow(other, 0, past.shape[other])
        past = torch.cat([past, new], axis)
    return past


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
    outside = outside.to(x.dtype).expand(len(x), time, *x.shape[2:])
    moved = torch.cat([x[:, steps:], outside[:, max(time - steps, 0) :]], 1)
    if segments is None:
        return moved
    kept = max(time - steps, 0)
    ends = _ends(segments).long()
    runs = ends.cumsum(1) - ends  # ids may come back in a later segment
    same = runs[:, :kept] == runs[:, time - kept :]
    same = F.pad(same, (0, time - kept), value=False)
    return torch.where(same.view(*same.shape, *[1] * (x.dim() - 2)), moved, outside)


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


def _windows_ahead(
    x: Tensor, width: int, dilation: int, segments: Tensor | None
) -> Tensor:
    """At every step the next entries, the furthest first: dimension 2."""
    outside = x.new_zeros(())
    outside = outside.expand(1, 1, *x.shape[2:])
    lags = [(width - 1 - i) * dilation for i in range(width)]
    taps = [_later(x, lag, segments, outside) if lag else x for lag in lags]
    return torch.stack(taps, 2)


def _over_time(
    reducer: Callable[..., Tensor],
    x: Tensor,
    dims: tuple[int, ...],
    where: Tensor | None,
    starts: Tensor | None,
) -> Tensor:
    """`reducer` over `dims` (from the end) and over time, kept as a dimension of 1.

    With segments, every step gets the reduction of its own segment.
    """
    if starts is None or x.shape[1] == 0:
        result = reducer(x, (1 - x.dim(), *dims), where)
        return result.unsqueeze(1)
    number = starts.cumsum(1)
    same = number[:, :, None] == number[:, None, :]
    same = same.view(*same.shape, *[1] * (x.dim() - 2))
    where = same if where is None else same & where[:, None]
    return reducer(x[:, None], (2 - x.dim() - 1, *dims), where)


def _per_segment(x: Tensor, starts: Tensor | None) -> Tensor:
    """`x` summed over time, a dimension of 1; with segments over each, at its steps."""
    if starts is None or x.shape[1] == 0:
        return x.sum(1, keepdim=True)
    number = starts.cumsum(1) - starts[:, :1].long()
    number = number.view(*number.shape, *[1] * (x.dim() - 2))
    number = number.expand(-1, -1, *x.shape[2:])
    x = x.expand(len(starts), *x.shape[1:])
    return torch.zeros_like(x).scatter_add(1, number, x).gather(1, number)


def _sum_over_time(
    x: Tensor, dims: tuple[int, ...], where: Tensor | None, starts: Tensor | None
) -> Tensor:
    """`x` summed over `dims` (from the end) and over time, which is kept."""
    if where is not None:
        x = torch.where(where, x, 0)
    return _per_segment(x.sum(dims) if dims else x, starts)


def _dot_over_time(whole: str, each: str, starts: Tensor | None, *x: Tensor) -> Tensor:
    """A product summed over time, which is kept; `each` is the one without the sum."""
    if starts is None:
        return torch.einsum(whole, *x).unsqueeze(1)
    return _per_segment(torch.einsum(each, *x), starts)


def _step_over_time(
    reducer: Callable[..., Tensor],
    x: Tensor,
    where: Tensor | None,
    starts: Tensor | None,
    t: Tensor,
) -> Tensor:
    """`_over_time` for what finds a step: its position `t` in the segment."""
    found = _over_time(reducer, x, (), where, starts)
    if starts is None or x.shape[1] == 0:
        return found
    steps = t.view(*t.shape, *[1] * (found.dim() - 2)).expand_as(found)
    return steps.gather(1, found)


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


def _reset_each(starts: Tensor, past: Any, initial: Any) -> Any:
    """`_reset` for every step of the loops along depth, which `initial` may tell apart."""
    if not hasattr(past, "append"):
        return _reset(starts, past, initial)
    each = initial if hasattr(initial, "append") else [initial] * len(past)
    pairs = zip(past, each, strict=False)
    return [_reset_each(starts, one, first) for one, first in pairs]
