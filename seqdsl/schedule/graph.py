"""Strongly connected components of small graphs, in an order that keeps the source's."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

_K = TypeVar("_K", bound=Hashable)


def components(
    nodes: Sequence[_K], successors: Mapping[_K, Iterable[_K]]
) -> list[list[_K]]:
    """Strongly connected components, each before those that depend on it.

    Among components that are ready at the same time, the one whose first node comes
    first in `nodes` is taken first; inside a component the order is that of `nodes`.
    """
    place = {node: i for i, node in enumerate(nodes)}
    of = _component_of(nodes, successors)
    members: dict[int, list[_K]] = {}
    for node in nodes:
        members.setdefault(of[node], []).append(node)
    waits: dict[int, set[int]] = {c: set() for c in members}
    for node in nodes:
        for after in successors.get(node, ()):
            if of[after] != of[node]:
                waits[of[after]].add(of[node])
    order: list[list[_K]] = []
    left = sorted(members, key=lambda c: place[members[c][0]])
    done: set[int] = set()
    while left:
        ready = next(c for c in left if waits[c] <= done)
        left.remove(ready)
        done.add(ready)
        order.append(members[ready])
    return order


def _component_of(
    nodes: Sequence[_K], successors: Mapping[_K, Iterable[_K]]
) -> dict[_K, int]:
    """A component number for every node (Kosaraju: two depth-first walks)."""
    finished: list[_K] = []
    seen: set[_K] = set()
    for root in nodes:
        finished.extend(_postorder(root, successors, seen))
    backward: dict[_K, list[_K]] = {node: [] for node in nodes}
    for node in nodes:
        for after in successors.get(node, ()):
            backward[after].append(node)
    of: dict[_K, int] = {}
    taken: set[_K] = set()
    for number, root in enumerate(reversed(finished)):
        for node in _postorder(root, backward, taken):
            of[node] = number
    return of


def _postorder(
    root: _K, successors: Mapping[_K, Iterable[_K]], seen: set[_K]
) -> list[_K]:
    """Nodes reachable from `root` and not in `seen`, children first; marks them."""
    if root in seen:
        return []
    seen.add(root)
    result: list[_K] = []
    stack = [(root, iter(successors.get(root, ())))]
    while stack:
        node, rest = stack[-1]
        child = next((c for c in rest if c not in seen), None)
        if child is None:
            result.append(node)
            stack.pop()
        else:
            seen.add(child)
            stack.append((child, iter(successors.get(child, ()))))
    return result


def shortest_cycle(
    nodes: Sequence[_K], successors: Mapping[_K, Iterable[_K]]
) -> list[_K]:
    """The nodes of a shortest cycle among `nodes`, empty where there is none."""
    best: list[_K] = []
    inside = set(nodes)
    for start in nodes:
        previous: dict[_K, _K] = {}
        frontier = [start]
        while frontier and start not in previous:
            frontier = _widen(frontier, successors, inside, previous)
        if start in previous:
            cycle = [start]
            while (node := previous[cycle[-1]]) != start:
                cycle.append(node)
            if not best or len(cycle) < len(best):
                best = cycle[::-1]
    return best


def _widen(
    frontier: list[_K],
    successors: Mapping[_K, Iterable[_K]],
    inside: set[_K],
    previous: dict[_K, _K],
) -> list[_K]:
    """One step of a breadth-first walk; records where each node was reached from."""
    reached: list[_K] = []
    for node in frontier:
        for after in successors.get(node, ()):
            if after in inside and after not in previous:
                previous[after] = node
                reached.append(after)
    return reached
