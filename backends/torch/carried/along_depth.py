"""Reads of other steps of a loop along depth, from the list of its steps."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.along_time import _stack
from seqdsl.backends.torch.carried.calling import CallError

__all__ = [
    "_back",
    "_chosen_step",
    "_every_step",
    "_from_initial",
    "_grown",
    "_step_of",
    "_steps_in_time",
]


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


def _grown(past: Sequence[Any], count: int, fresh: Callable[[int], Any]) -> list[Any]:
    """The parts of a state for each of `count` steps: new ones where none was taken."""
    return [*past, *(fresh(n) for n in range(len(past) + 1, count + 1))]


def _from_initial(steps: Sequence[Tensor], initial: Tensor | None) -> Tensor:
    """All steps from the initial value on, as the first dimension."""
    if initial is None and not steps:
        raise CallError("there is no step to read")
    first = torch.zeros_like(steps[0]) if initial is None else initial
    return torch.stack([first, *steps])


def _chosen_step(steps: Tensor, index: Tensor, name: str) -> Tensor:
    """The step that `index` says for every position; it broadcasts against a step."""
    last = len(steps) - 1
    checked = index.device.type == "cpu" and not torch.compiler.is_compiling()
    if checked and bool(((index < 0) | (index > last)).any()):
        raise CallError(f"`{name}` is read at a step outside 0 … {last}")
    place = index + torch.zeros_like(steps[0], dtype=torch.int64)
    steps = steps.expand(len(steps), *place.shape)
    return steps.gather(0, place[None])[0]


def _every_step(steps: Sequence[Tensor], initial: Tensor, time: int) -> Tensor:
    """All steps of a loop for whole sequences, from the initial value on: dimension 2."""
    first = initial.expand(initial.shape[0], time, *initial.shape[2:])
    return torch.stack([first, *(step.expand_as(first) for step in steps)], 2)


def _steps_in_time(
    steps: Sequence[Any], like: Tensor, counts: Sequence[int], *dims: int
) -> Any:
    """What loops along depth listed at each step of time, as lists of sequences."""
    if not counts:
        return _stack(steps, like, *dims)
    return [
        _steps_in_time([s[i] for s in steps], like, counts[1:], *dims)
        for i in range(counts[0])
    ]
