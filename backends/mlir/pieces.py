"""Scans by pieces of the sequence, where sequences and channels are too few for all threads.

One thread runs the first piece in full while others find what theirs add and keep; then
the states at all borders are known, and the pieces behind the first run in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import torch
from torch import Tensor

from seqdsl.backends.mlir.engine import Code
from seqdsl.backends.mlir.kernel import Kernel
from seqdsl.backends.mlir.run import Native, declared, ready
from seqdsl.backends.mlir.threads import Launch, described, side_by_side, tasks_of
from seqdsl.schedule.pieces import ZERO, Piece, piece_of

LEAST = 1 << 13
"""Steps of a sequence from which on pieces are worth their start."""

Part = tuple[int, int]
"""The first step of a part of the sequence, and the one behind its last."""

_PLUS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "real": torch.add,
    "log": torch.logaddexp,
    "max_plus": torch.maximum,
    "min_plus": torch.minimum,
}


@dataclass(frozen=True)
class _Run:
    """Kernels of a region with their arguments by name; calls differ in a few of these."""

    native: Native
    kernel: Kernel
    code: Code
    arguments: Mapping[str, Tensor]
    batch: int
    time: int

    def call(self, part: Part, given: Mapping[str, Tensor]) -> None:
        """The steps of a part, with other states before or behind it."""
        tensors = [given.get(n, t) for n, t in self.arguments.items()]
        tasks, _, grain = tasks_of(self.kernel, self.batch)
        launch = Launch(self.code, (self.batch, self.time, grain), described(tensors))
        launch.run(0, tasks, part)

    def behind(self) -> dict[str, Tensor]:
        """Room for the states behind a part."""
        names = (f"{s}.last" for s in self.native.region.states)
        return {n: torch.empty_like(self.arguments[n]) for n in names}

    def state(self, name: str, behind: Mapping[str, Tensor]) -> Tensor:
        """A state behind a part, its dims as declared."""
        place = f"{name}.last"
        buffer = self.kernel.buffer(place)
        return declared(behind[place], buffer, self.native.dims[place])

    def before(self, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Arguments for states before a part."""
        found: dict[str, Tensor] = {}
        for name, value in states.items():
            place = f"{name}_0"
            dims, buffer = self.native.dims[place], self.kernel.buffer(place)
            found[place] = ready(value, buffer, dims, value.dtype)
        return found


class InPieces:
    """Runs the region of `native` by pieces of the sequence."""

    def __init__(self, native: Native) -> None:
        self.native = native

    @cached_property
    def piece(self) -> Piece | None:
        """What a piece does to states; None for updates that do not tell."""
        return piece_of(self.native.region)

    @cached_property
    def ends(self) -> Native:
        """The kernels that find it."""
        assert self.piece is not None
        return Native(self.piece.region)

    def pays(self, batch: int, time: int, floats: torch.dtype) -> bool:
        """Whether threads would have nothing to do, and states keep their precision."""
        threads = torch.get_num_threads()
        if time < LEAST or threads == 1 or floats == torch.bfloat16:
            return False
        if batch == 0 or 2 * batch > threads or self.native.region.replay:
            return False
        kernel, _ = self.native.kernel(floats, batch)
        _, most, _ = tasks_of(kernel, batch)
        return 2 * most <= threads and not kernel.members and self.piece is not None

    def __call__(
        self, inputs: Sequence[Tensor], batch: int, time: int, floats: torch.dtype
    ) -> list[Tensor]:
        """Outputs of every step, then the states after the last."""
        names = self.native.region.states
        whole, results = _prepared(self.native, inputs, batch, time, floats)
        ends, _ = _prepared(self.ends, self._of_piece(inputs), batch, time, floats)
        first, *rest = self._parts(time)
        after, found = whole.behind(), [ends.behind() for _ in rest[1:]]
        finding = zip(rest, found, strict=False)
        side_by_side(
            [
                partial(whole.call, first, after),
                *(partial(ends.call, *f) for f in finding),
            ]
        )
        borders = [{s: whole.state(s, after) for s in names}]
        borders += self._borders(borders[0], ends, found)
        rooms = [*(whole.behind() for _ in found), dict[str, Tensor]()]
        none = self._from_nothing(borders[0])
        side_by_side(
            [
                partial(whole.call, part, {**whole.before(border | none), **room})
                for part, border, room in zip(rest, borders, rooms, strict=True)
            ]
        )
        for name in none:
            for room in (after, *rooms[:-1]):
                whole.arguments[f"{name}.last"].add_(room[f"{name}.last"])
        return results

    def _from_nothing(self, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """States that the pieces behind the first add to what others find."""
        assert self.piece is not None
        return {s: torch.zeros_like(states[s]) for s in self.piece.sums}

    def _parts(self, time: int) -> list[Part]:
        """Equal parts in the order in which they run, one more than there are threads."""
        count = torch.get_num_threads() + 1
        borders = [time * i // count for i in range(count + 1)]
        parts = [*pairwise(borders)]
        return parts if self.native.region.direction == "forward" else parts[::-1]

    def _of_piece(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Inputs of the region of pieces: states begin at 0, and 1 of them is kept."""
        assert self.piece is not None
        names = (i.name for i in self.native.region.model.inputs)
        known = dict(zip(names, inputs, strict=True))
        for state, kept in self.piece.kept.items():
            semiring, like = self.piece.semirings[state], known[f"{state}_0"]
            known[f"{state}_0"] = torch.full_like(like, ZERO[semiring])
            known[f"{kept}_0"] = torch.full_like(like, float(semiring == "real"))
        return [known[i.name] for i in self.piece.region.model.inputs]

    def _borders(
        self,
        first: Mapping[str, Tensor],
        ends: _Run,
        found: Sequence[Mapping[str, Tensor]],
    ) -> list[dict[str, Tensor]]:
        """States behind every part that `found` says what it adds and keeps."""
        assert self.piece is not None
        borders: list[dict[str, Tensor]] = []
        before = first
        for behind in found:
            after: dict[str, Tensor] = {}
            for state, kept in self.piece.kept.items():
                semiring = self.piece.semirings[state]
                times = torch.mul if semiring == "real" else torch.add
                old = times(ends.state(kept, behind), before[state])
                after[state] = _PLUS[semiring](old, ends.state(state, behind))
            borders.append(after)
            before = after
        return borders


def _prepared(
    native: Native,
    inputs: Sequence[Tensor],
    batch: int,
    time: int,
    floats: torch.dtype,
) -> tuple[_Run, list[Tensor]]:
    kernel, code = native.kernel(floats, batch, ranges=True)
    made, results = native.arguments(kernel, inputs, batch, time, floats)
    named = {b.name: t for b, t in zip(kernel.arguments, made, strict=True)}
    return _Run(native, kernel, code, named, batch, time), results
