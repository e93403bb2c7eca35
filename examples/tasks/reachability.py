"""Directed graphs in which one node can, or cannot, be reached from another in k hops.

Positives have a shortest path of exactly `hops` edges. Negatives are made from them by
turning one edge of that path around, so that both have the same number of edges: degrees
give nothing away to a model that does not follow the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random

import torch
from torch import Tensor

Edges = set[tuple[int, int]]


@dataclass(frozen=True)
class Graphs:
    """`mask[v, u]` holds for an edge from u to v and for u = v."""

    mask: Tensor
    source: Tensor
    target: Tensor
    label: Tensor


def distance(edges: Edges, source: int, target: int, nodes: int) -> int | None:
    """Edges on a shortest path, None where there is no path."""
    reached, steps = {source}, 0
    while target not in reached:
        further = reached | {v for u, v in edges if u in reached}
        if further == reached or steps > nodes:
            return None
        reached, steps = further, steps + 1
    return steps


def sample(rows: int, nodes: int, hops: int, seed: int, extra: int = 4) -> Graphs:
    """`rows` graphs with `extra` further edges, half of them positive; equal by seed."""
    random = Random(f"{seed} {nodes} {hops}")
    mask = torch.eye(nodes, dtype=torch.bool).repeat(rows, 1, 1)
    source, target = (
        torch.zeros(rows, dtype=torch.long),
        torch.zeros(rows, dtype=torch.long),
    )
    label = torch.arange(rows) % 2 == 0
    for row in range(rows):
        edges, ends = _graph(random, nodes, hops, extra, bool(label[row]))
        source[row], target[row] = ends
        for u, v in edges:
            mask[row, v, u] = True
    return Graphs(mask, source, target, label)


def _graph(
    random: Random, nodes: int, hops: int, extra: int, reachable: bool
) -> tuple[Edges, tuple[int, int]]:
    while True:
        order = random.sample(range(nodes), nodes)
        path = order[: hops + 1]
        edges: Edges = set(pairwise(path))
        while len(edges) < hops + extra:
            u, v = random.sample(range(nodes), 2)
            if (v, u) not in edges:
                edges.add((u, v))
        if not reachable:
            i = random.randrange(hops)
            edges.remove((path[i], path[i + 1]))
            edges.add((path[i + 1], path[i]))
        wanted = hops if reachable else None
        if distance(edges, path[0], path[-1], nodes) == wanted:
            return edges, (path[0], path[-1])
