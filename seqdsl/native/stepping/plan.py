"""What one step consists of, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from seqdsl.native.stepping.slots import Path, Slot, Store
from seqdsl.schedule.block import Block


class StepRefused(Exception):
    """A layer whose step is not all kernels."""


@dataclass(frozen=True)
class BlockCall:
    """A block with the slots of its inputs and outputs."""

    block: Block
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]


@dataclass(frozen=True)
class StepPlan:
    """The calls of one step, in order; `after` are paths of the state that follows.

    Where `after` says None the state's own tensor goes on. `checked` are numbers of
    inputs whose values must lie below an extent.
    """

    calls: tuple[BlockCall, ...]
    store: Store
    after: tuple[tuple[Path, int | None], ...]
    checked: tuple[tuple[int, int], ...]


@dataclass
class Work:
    """What all layers of a step add to."""

    store: Store
    state: object
    calls: list[BlockCall] = field(default_factory=list[BlockCall])
    after: dict[Path, int | None] = field(default_factory=dict[Path, int | None])
    checked: dict[int, int] = field(default_factory=dict[int, int])
