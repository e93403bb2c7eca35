"""SelectivBench: the taxonomy of linear recurrent models, and grammar tasks."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from systems_case import make, noise, same, std, verdicts

from examples.tasks.grammar import END, Grammar, filtered, grammar, guessed, sample

# ---- The taxonomy, computed by the checker
#
# Of the recurrence of each model: is the transition fixed, what structure has it (which
# is where channels mix), and can a step forget everything?

TAXONOMY: dict[tuple[str, str, str], tuple[str, bool, bool]] = {
    ("s4d", "S4D", "h"): ("diagonal", False, False),
    ("retnet", "Retention", "S"): ("scalar", False, False),
    ("mamba", "Mamba", "h"): ("diagonal", True, False),
    ("mamba2", "Mamba2", "h"): ("scalar", True, False),
    ("gla", "GLA", "S"): ("diagonal", True, False),
    ("deltanet", "DeltaNet", "S"): ("scalar_plus_low_rank", True, True),
    ("gated_deltanet", "GatedDeltaNet", "S"): ("scalar_plus_low_rank", True, True),
    ("gated_deltaproduct", "GatedDeltaProduct", "M"): (
        "scalar_plus_low_rank",
        True,
        True,
    ),
}


@pytest.mark.parametrize(("file", "layer", "state"), TAXONOMY)
def test_the_taxonomy_is_what_the_checker_finds(
    file: str, layer: str, state: str
) -> None:
    found = verdicts(getattr(std(file), layer))[state]
    structure, selective, mixes = TAXONOMY[file, layer, state]
    assert found.structure == structure
    assert found.invariant is not selective
    assert ("low_rank" in str(found.structure)) is mixes


def test_softmax_attention_has_no_transition_and_a_gru_is_sequential() -> None:
    assert verdicts(std("attention").MHA) == {}
    (gru,) = verdicts(std("gru").GRU).values()
    assert gru.verdict == "sequential"


# ---- The grammars

SEEDS = range(5)


def small(seed: int) -> Grammar:
    """6 symbols, one of them the end, 3 standing for 3 states: 12 states; 2 starts."""
    return grammar(6, 3, 3, seed, density=1.2, starts=2)


def test_grammars_and_sequences_are_equal_by_seed() -> None:
    a, b = small(1), small(1)
    assert torch.equal(a.edges, b.edges) and a.starts == b.starts
    one, two = (sample(a, 3, 50, 7, gap=0.2, distractors=True) for _ in range(2))
    assert torch.equal(one.symbols, two.symbols) and torch.equal(one.states, two.states)
    assert not torch.equal(a.edges, small(2).edges)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_generated_transition_is_allowed(seed: int) -> None:
    g = small(seed)
    assert len(g.symbol) == 1 + 3 * 3 + 2
    data = sample(g, 4, 100, seed)
    move = g.transitions
    assert torch.equal(g.symbol[data.states], data.symbols)
    assert (move[data.states[:, :-1], data.states[:, 1:]] > 0).all()
    for row in data.states:
        after = {int(b) for a, b in pairwise(row) if a == END}
        assert after <= set(g.starts)
    # at most one successor for every symbol
    emits = torch.nn.functional.one_hot(g.symbol).double()
    assert (g.edges.double() @ emits).max() <= 1


def test_gaps_are_what_they_say() -> None:
    g = small(0)
    silent = sample(g, 4, 100, 0, gap=0.3)
    assert (silent.symbols[silent.kind == 1] == -1).all() and (silent.kind == 1).any()
    wrong = sample(g, 4, 100, 0, gap=0.3, distractors=True, after=10)
    assert (wrong.kind[:, :10] == 0).all() and (wrong.kind == 2).any()
    rows, steps = (wrong.kind == 2).nonzero().unbind(1)
    held = wrong.states[rows, steps]
    assert torch.equal(held, wrong.states[rows, steps - 1])
    emits = torch.nn.functional.one_hot(g.symbol).double()
    chance = (g.transitions @ emits)[held, wrong.symbols[rows, steps]]
    assert (chance == 0).all()


def test_the_filter_solves_the_task_and_a_guess_does_not() -> None:
    """Over five grammars; where both starts emit one symbol even the filter must guess."""
    right, guess = list[float](), list[float]()
    for seed in SEEDS:
        g = small(seed)
        data, known = sample(g, 1, 400, seed), sample(g, 20, 400, 100 + seed)
        right.append(float((filtered(g, data.symbols) == data.states).double().mean()))
        best = guessed(g, known, data.symbols)
        guess.append(float((best == data.states).double().mean()))
    assert sum(right) / 5 >= 0.95 and min(right) >= 0.9, right
    assert max(guess) <= 0.70, guess


def test_the_filter_is_the_hmm_of_the_library() -> None:
    """The same beliefs by the log-semiring scan of std.hmm."""
    g = small(3)
    data = sample(g, 2, 60, 5)
    count = len(g.symbol)
    pi = torch.zeros(count, dtype=torch.float64)
    pi[list(g.starts)] = 1 / len(g.starts)
    emit = torch.nn.functional.one_hot(g.symbol).double()
    module = make(std("hmm").HMMForward, S=count, O=emit.shape[1])
    alpha, _ = module(data.symbols, pi.log(), g.transitions.log(), emit.log())
    assert torch.equal(alpha.argmax(2), filtered(g, data.symbols))


def test_complexity_grows_with_the_alphabet() -> None:
    mean = [
        sum(grammar(n, n - 1, 3, s, starts=2).entropy for s in range(3)) / 3
        for n in (5, 9, 15)
    ]
    assert mean[0] < mean[1] < mean[2]
    assert all(1.2 < small(s).entropy < 1.5 for s in SEEDS)


def test_a_distractor_moves_a_fixed_decay_and_not_the_filter_that_holds() -> None:
    g = small(0)
    data = sample(g, 20, 100, 1, gap=0.1, distractors=True, after=20)
    found = filtered(g, data.symbols, hold=0.1)
    assert (found == data.states).double().mean() >= 0.95
    without = filtered(g, data.symbols)
    assert (without == data.states).double().mean() < 0.9
    # constant decay: what a distractor writes shows at every later step
    layer = make(std("retnet").Retention, D=8, heads=2)
    x = noise(1, 12, 8)
    other = x.clone()
    other[:, 4] += 1
    moved = (layer(x) - layer(other)).abs().amax((0, 2))
    assert (moved[4:] > 1e-6).all()
    same(layer(x)[:, :4], layer(other)[:, :4])
