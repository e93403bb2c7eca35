"""The state of a layer as a tree: dicts and lists, tensors at the leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seqdsl.native.stepping.plan import StepPlan
from seqdsl.native.stepping.slots import Path


@dataclass(frozen=True)
class Leaf:
    """A tensor: the fresh one of that number in the next state, or None: as it was."""

    fresh: int | None


@dataclass(frozen=True)
class Named:
    """A dict."""

    parts: dict[str, Tree]


@dataclass(frozen=True)
class Listed:
    """A list, one entry for each step of a repeat."""

    parts: tuple[Tree, ...]


Tree = Leaf | Named | Listed


def tree_of(plan: StepPlan) -> Tree:
    """The state that a plan reads, and makes anew."""
    return _grown([(path, Leaf(number)) for path, number in plan.after])


def _grown(found: list[tuple[Path, Leaf]]) -> Tree:
    """The tree with these leaves."""
    if len(found) == 1 and not found[0][0]:
        return found[0][1]
    below: dict[str | int, list[tuple[Path, Leaf]]] = {}
    for path, leaf in found:
        below.setdefault(path[0], []).append((path[1:], leaf))
    if found and isinstance(found[0][0][0], int):
        return Listed(tuple(_grown(below[i]) for i in range(len(below))))
    return Named({str(k): _grown(v) for k, v in below.items()})


def leaves(tree: Tree, path: Path = ()) -> list[Path]:
    """Paths of all tensors of a state, in order."""
    match tree:
        case Leaf():
            return [path]
        case Named(parts=parts):
            return [p for k, v in parts.items() for p in leaves(v, (*path, k))]
        case Listed(parts=steps):
            return [p for i, v in enumerate(steps) for p in leaves(v, (*path, i))]


def collect(tree: Tree, state: Any, into: list[Any]) -> bool:
    """The tensors of a state in that order; False where it has other keys."""
    match tree:
        case Leaf():
            into.append(state)
            return True
        case Named(parts=parts):
            if type(state) is not dict or len(parts) != len(state):  # pyright: ignore[reportUnknownArgumentType]
                return False
            return all(
                k in state and collect(v, state[k], into) for k, v in parts.items()
            )
        case Listed(parts=steps):
            if type(state) is not list or len(steps) != len(state):  # pyright: ignore[reportUnknownArgumentType]
                return False
            return all(collect(v, state[i], into) for i, v in enumerate(steps))


def filled(tree: Tree, made: Mapping[int, Tensor], state: Any) -> Any:
    """The next state: what was made, with keys in the order of `state`."""
    match tree:
        case Leaf(fresh=number):
            return state if number is None else made[number]
        case Named(parts=parts):
            return {k: filled(parts[k], made, v) for k, v in state.items()}
        case Listed(parts=steps):
            return [filled(v, made, state[i]) for i, v in enumerate(steps)]
