"""Rule-based grammar tasks with gaps and distractors, and the exact filter as an oracle.

After Bouhadjar et al. 2026, "Dissecting linear recurrent models" (SelectivBench). A
symbol may stand for several hidden states; the task is to name the state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

END = 0
"""The symbol, and the state, that ends a string."""


@dataclass(frozen=True)
class Grammar:
    """`edges[i, j]`: state j may follow state i; `symbol[i]` is what state i emits."""

    edges: Tensor
    symbol: Tensor
    starts: tuple[int, ...]

    @property
    def transitions(self) -> Tensor:
        """Probabilities `[states, states]`; the end leads to a start, uniformly."""
        move = self.edges.double()
        move[END, list(self.starts)] = 1
        return move / move.sum(1, keepdim=True)

    @property
    def entropy(self) -> float:
        """Topological entropy: log of the largest eigenvalue of the closed graph."""
        closed = (self.transitions > 0).double()
        values: Tensor = torch.linalg.eigvals(closed)  # pyright: ignore
        return math.log(float(values.abs().max()))


def grammar(
    symbols: int,
    ambiguous: int,
    depth: int,
    seed: int,
    density: float = 0.4,
    starts: int = 4,
) -> Grammar:
    """A grammar in which every state can reach the end; equal by seed.

    `symbols` counts the end, which is one of them; each of the `ambiguous` ones stands
    for `depth` states. A state has at most one successor for each symbol.
    """
    random = Random(f"{symbols} {ambiguous} {depth} {density} {starts} {seed}")
    copies = [1] + [depth if s <= ambiguous else 1 for s in range(1, symbols)]
    symbol = [s for s in range(symbols) for _ in range(copies[s])]
    states = range(len(symbol))
    while True:
        edges = torch.zeros(len(symbol), len(symbol), dtype=torch.bool)
        for i in states[1:]:
            for s in range(symbols):
                if random.random() < min(1, copies[s] * density / depth):
                    edges[i, random.choice([j for j in states if symbol[j] == s])] = (
                        True
                    )
        first = tuple(sorted(random.sample(states[1:], starts)))
        if _all_end(edges):
            return Grammar(edges, torch.tensor(symbol), first)


def _all_end(edges: Tensor) -> bool:
    reaches = torch.zeros(len(edges), dtype=torch.bool)
    reaches[END] = True
    for _ in range(len(edges)):
        reaches = reaches | (edges & reaches).any(1)
    return bool(reaches.all())


@dataclass(frozen=True)
class Sample:
    """Symbols and states `[rows, time]`; `kind` is 0 for an element, 1 for a silent step,
    2 for a distractor. In gaps the state is that of the element before.
    """

    symbols: Tensor
    states: Tensor
    kind: Tensor


def sample(
    g: Grammar,
    rows: int,
    time: int,
    seed: int,
    *,
    gap: float = 0.0,
    distractors: bool = False,
    after: int = 0,
) -> Sample:
    """Concatenated strings; behind an element at `after` or later a gap of one step with
    chance `gap`: silent (symbol -1) or a symbol that cannot follow. Equal by seed.
    """
    result = [
        _row(g, time, Random(f"{seed} {row}"), gap, distractors, after)
        for row in range(rows)
    ]
    return Sample(*(torch.tensor([r[i] for r in result]) for i in range(3)))


def _row(
    g: Grammar, time: int, random: Random, gap: float, distractors: bool, after: int
) -> tuple[list[int], list[int], list[int]]:
    move, symbol = g.transitions.tolist(), g.symbol.tolist()
    symbols, states, kind = list[int](), list[int](), list[int]()
    state = random.choice(g.starts)
    while len(symbols) < time:
        symbols.append(symbol[state])
        states.append(state)
        kind.append(0)
        allowed = {symbol[j] for j, p in enumerate(move[state]) if p > 0}
        others = sorted(set(symbol) - allowed - {END})
        if (
            len(symbols) > after
            and random.random() < gap
            and (others or not distractors)
        ):
            symbols.append(random.choice(others) if distractors else -1)
            states.append(state)
            kind.append(2 if distractors else 1)
        state = random.choices(range(len(symbol)), move[state])[0]
    return symbols[:time], states[:time], kind[:time]


def share_named(scores: Tensor, data: Sample) -> float:
    """The share of elements whose state is named.

    `scores: [rows, time, states]`; what `softmax` makes of them is summed over an element
    and the gap behind it.
    """
    element = (data.kind == 0).long().cumsum(1) - 1
    chance = torch.softmax(scores, 2)
    total = torch.zeros_like(chance)
    total = total.scatter_add(1, element[:, :, None].expand_as(chance), chance)
    named = total.argmax(2).gather(1, element)
    return float((named == data.states)[data.kind == 0].double().mean())


def filtered(g: Grammar, symbols: Tensor, hold: float = 0.0) -> Tensor:
    """The most probable state at every step: the exact forward filter.

    With chance `hold` a step is a gap, in which the state stays and a symbol appears
    that cannot follow it, or none at all (-1).
    """
    move, count = g.transitions, len(g.symbol)
    emits = torch.nn.functional.one_hot(g.symbol, int(g.symbol.max()) + 1).double()
    possible = (move @ emits > 0).double()
    belief = torch.zeros(len(symbols), count, dtype=torch.float64)
    belief[:, list(g.starts)] = 1 / len(g.starts)
    found: list[Tensor] = []
    for t in range(symbols.shape[1]):
        now = symbols[:, t]
        silent = (now < 0)[:, None]
        word = emits[:, now.clamp(0)].T
        seen = (belief if t == 0 else belief @ move) * word
        kept = belief * torch.where(silent, 1, 1 - possible[:, now.clamp(0)].T)
        belief = torch.where(
            silent, belief, (1 - hold) * seen + hold * (kept if t else 0 * kept)
        )
        belief = belief / belief.sum(1, keepdim=True).clamp_min(1e-300)
        found.append(belief.argmax(1))
    return torch.stack(found, 1)


def guessed(g: Grammar, known: Sample, symbols: Tensor) -> Tensor:
    """The best answer without a memory: the most frequent state of each symbol."""
    count = torch.zeros(int(g.symbol.max()) + 1, len(g.symbol))
    count.index_put_(
        (known.symbols.flatten(), known.states.flatten()),
        torch.tensor(1.0),
        accumulate=True,
    )
    return count.argmax(1)[symbols]
