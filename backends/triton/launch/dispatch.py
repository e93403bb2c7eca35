"""Which calls of a module run as kernels, and how they are put to these."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from triton import knobs

from seqdsl.backends.triton.launch.delta import delta_products
from seqdsl.backends.triton.launch.outer import decayed_products
from seqdsl.backends.triton.launch.scan import scan

EVERYWHERE = bool(knobs.runtime.interpret)
"""Whether kernels run wherever tensors are, as in Triton's interpreter."""

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_MOST_ROWS = 256
_MOST_WRITES = 16


def on_gpu(*tensors: Tensor | None) -> bool:
    """Whether kernels can run on all of `tensors`."""
    there = [x for x in tensors if x is not None]
    alike = all(x.dtype in _FLOATS for x in there)
    return alike and (EVERYWHERE or all(x.is_cuda for x in there))


def scan_fits(a: Tensor, b: Tensor, first: Tensor) -> bool:
    """Whether a scan of numbers, or of what is true or false, runs as kernels."""
    there = EVERYWHERE or all(x.is_cuda for x in (a, b, first))
    kinds = {x.dtype for x in (a, b, first)}
    fits = kinds == {torch.bool} or kinds <= {*_FLOATS}
    return fits and there and b.numel() > 0


def scan_fused(
    a: Tensor, b: Tensor, first: Tensor, reverse: bool, semiring: str = "real"
) -> Tensor:
    """`h = a * h[t-1] + b` along dimension 1, from `first`; false and true are 0 and 1."""
    if semiring == "boolean":
        numbers = (x.to(torch.float16) for x in (a, b, first))
        return scan_fused(*numbers, reverse, "max_min").bool()
    lead = b.shape[:2]
    flat = [x.flip(1) if reverse else x for x in (a.expand_as(b), b)]
    a, b = (x.reshape(*lead, -1).contiguous() for x in flat)
    h = scan(a, b, first.reshape(len(first), -1).contiguous(), semiring)
    h = h.view(*lead, *first.shape[1:])
    return h.flip(1) if reverse else h


def chunks_fit(
    decay: Tensor | None,
    right: Tensor | None,
    left: Tensor,
    value: Tensor,
    query: Tensor | None,
    initial: Tensor | None,
    states: int,
    bounded: bool,
) -> bool:
    """Whether matrix states run as kernels.

    They begin at 0 in every segment. `bounded` says that log decay has a bounded derivative:
    kernels know the gradient of a decay only by that of its logarithm.
    """
    if query is None or initial is not None or states != 1:
        return False
    if left.shape[4] > _MOST_ROWS or rows_of(left, query) > _MOST_WRITES:
        return False
    if decay is not None and decay.requires_grad and not bounded:
        return False
    same = {x.dtype for x in (left, value, query, right) if x is not None}
    return len(same) == 1 and on_gpu(decay, right, left, value, query)


def beside(*parts: Tensor | None) -> Tensor | None:
    """Vectors `[batch, time, copies, count, entries]` of several kinds as one tensor."""
    there = [x for x in parts if x is not None]
    if len(there) < 2:
        return there[0] if there else None
    lead = torch.broadcast_shapes(*(x.shape[:3] for x in there))
    return torch.cat([x.expand(*lead, *x.shape[3:]) for x in there], 3)


def rows_of(left: Tensor, query: Tensor) -> int:
    """How many rows a step is: one for each write, the last ones for queries as well."""
    return 1 << (left.shape[3] + query.shape[3] - 2).bit_length()


@dataclass(frozen=True)
class Order:
    """How the steps of a call lie along time: the last one first for `reverse`, `rows` each.

    `lead` are batch, time and copies; segments begin where `starts` says.
    """

    lead: tuple[int, int, int]
    starts: Tensor | None
    reverse: bool
    rows: int

    def laid(self, x: Tensor, before: bool = False) -> Tensor:
        """Vectors of every step, which read what stands `before` it where that is said."""
        x = x.expand(*self.lead, *x.shape[3:])
        if before and self.starts is not None:
            x = x.masked_fill(self.starts[..., None, None, None], 0)
        return x.flip(1) if self.reverse else x

    def as_rows(self, x: Tensor, last: bool = False) -> Tensor:
        """`[batch, time * rows, copies, entries]`; rows left over are 0."""
        if self.rows == 1:
            return x.squeeze(3)
        spare = self.rows - x.shape[3]
        x = F.pad(x, (0, 0, spare, 0) if last else (0, 0, 0, spare))
        batch, time, copies = self.lead
        return x.transpose(2, 3).reshape(batch, time * self.rows, copies, x.shape[4])

    def writes(self, x: Tensor) -> Tensor:
        """What is written, as rows."""
        return self.as_rows(self.laid(x))

    def queries(self, query: Tensor, old: int) -> Tensor:
        """Queries as rows; the first `old` read before their step: after the last one."""
        before, rest = self.laid(query[..., :old, :], True), query[..., old:, :]
        if old:
            before = torch.cat([before[:, 1:], torch.zeros_like(before[:, :1])], 1)
        return self.as_rows(torch.cat([before, self.laid(rest)], 3), last=True)

    def reads(self, o: Tensor, query: Tensor, old: int, first: Tensor) -> Tensor:
        """What queries read, `[batch, time, copies, queries, columns]`."""
        batch, time, copies = self.lead
        o = o.view(batch, time, self.rows, copies, -1)
        o = o[:, :, self.rows - query.shape[3] :].transpose(2, 3)
        if old:
            begin = self.laid(query[..., :old, :], True)[:, :1]
            found = torch.einsum("bthqk,bhkv->bthqv", begin.float(), first.float())
            before = torch.cat([found.to(o.dtype), o[:, :-1, :, :old]], 1)
            o = torch.cat([before, o[..., old:, :]], 3)
        return o.flip(1) if self.reverse else o

    def logarithm(self, decay: Tensor | None) -> Tensor | None:
        """log decay, -inf where a segment starts; of the rows of a step the first decays."""
        starts = self.starts
        if decay is not None:
            g = decay.float().clamp_min(1e-38).log()
            g = g.expand(*self.lead, decay.shape[-1])
            g = g.squeeze(-1) if decay.shape[-1] == 1 else g
        elif starts is not None:
            g = torch.zeros(self.lead, device=starts.device)
        else:
            return None
        if starts is not None:
            at = starts.view(*starts.shape, *[1] * (g.dim() - 2))
            g = g.masked_fill(at, float("-inf"))
        g = g.flip(1) if self.reverse else g
        if self.rows > 1:
            spare = [*[0] * (2 * g.dim() - 3), self.rows - 1]
            shape = (self.lead[0], self.lead[1] * self.rows, *g.shape[2:])
            g = F.pad(g.unsqueeze(2), spare).reshape(shape)
        return g


def outer_fused(
    decay: Tensor | None,
    left: Tensor,
    value: Tensor,
    query: Tensor,
    first: Tensor,
    starts: Tensor | None,
    time: int,
    now: int,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Reads `[batch, time, copies, queries, columns]`, and states after the last step.

    The last `now` queries read what a step makes, the others what it finds.
    """
    first = first.reshape(len(first), -1, left.shape[-1], value.shape[-1])
    lead = len(first), time, first.shape[1]
    order = Order(lead, starts, reverse, rows_of(left, query))
    k, v, g = order.writes(left), order.writes(value), order.logarithm(decay)
    if order.rows == 1 and not now:
        q = order.as_rows(order.laid(query, True))
        o, last = decayed_products(q, k, v, g, first, 1.0, lag=1)
        return order.reads(o, query, 0, first), last
    old = query.shape[3] - now
    o, last = decayed_products(order.queries(query, old), k, v, g, first)
    return order.reads(o, query, old, first), last


def delta_fused(
    decay: Tensor | None,
    right: Tensor,
    left: Tensor,
    value: Tensor,
    query: Tensor,
    first: Tensor,
    starts: Tensor | None,
    time: int,
    now: int,
    reverse: bool,
    own: bool,
) -> tuple[Tensor, Tensor]:
    """`outer_fused` where the first writes erase, by `right`.

    `own` says that they also write values of their own. A single write beside a single
    one that erases goes with it; else every write is a row of its step, and one that does
    not erase has zeros in the place of `right`.
    """
    first = first.reshape(len(first), -1, left.shape[-1], value.shape[-1])
    pair = (left.shape[3], right.shape[3], query.shape[3]) == (2, 1, 1)
    rows = 1 if pair else rows_of(left, query)
    order = Order((len(first), time, first.shape[1]), starts, reverse, rows)
    old = query.shape[3] - now
    q, g = order.queries(query, old), order.logarithm(decay)
    r = order.as_rows(order.laid(right, before=True))
    if pair:
        l, k, y, v = (
            order.writes(x[..., i : i + 1, :]) for x in (left, value) for i in range(2)
        )
        y = y if own else None
        o, last = delta_products(q, l, r, y, g, initial=first, k=k, v=v)
    else:
        l, y = order.writes(left), order.writes(value)
        o, last = delta_products(q, l, r, y, g, initial=first, group=rows)
    return order.reads(o, query, old, first), last
