"""SelectivBench: the taxonomy of linear recurrent models, and grammar tasks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from systems_case import make, noise, same, seeded, std, train, verdicts
from torch import Tensor

import seqdsl
from examples.tasks.grammar import (
    END,
    Grammar,
    filtered,
    grammar,
    guessed,
    sample,
    share_named,
)
from seqdsl.analysis import Verdict, analyze
from seqdsl.analysis.bounds import Bounds
from seqdsl.analysis.intervals import Interval
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes

# ---- The taxonomy, computed by the checker
#
# Of the recurrence of each model: is the transition fixed, what structure has it (which
# is where channels mix), and can a step forget everything? "slow": not with numbers of
# moderate size, here because of a power of 1/16.

TAXONOMY: dict[tuple[str, str, str], tuple[str, bool, bool, str]] = {
    ("s4d", "S4D", "h"): ("diagonal", False, False, "no"),
    ("retnet", "Retention", "S"): ("scalar", False, False, "no"),
    ("mamba", "Mamba", "h"): ("diagonal", True, False, "yes"),
    ("mamba2", "Mamba2", "h"): ("scalar", True, False, "yes"),
    ("gla", "GLA", "S"): ("diagonal", True, False, "slow"),
    ("deltanet", "DeltaNet", "S"): ("scalar_plus_low_rank", True, True, "along k"),
    ("gated_deltanet", "GatedDeltaNet", "S"): (
        "scalar_plus_low_rank",
        True,
        True,
        "yes",
    ),
    ("gated_deltaproduct", "GatedDeltaProduct", "M"): (
        "scalar_plus_low_rank",
        True,
        True,
        "yes",
    ),
}
WITHIN = Interval(-3.0, 3.0)


class Moderate(Bounds):
    """Bounds where parameters and what `linear` makes stay within 3."""

    def _named(self, name: str) -> Interval:
        return WITHIN if name in self.model.param else super()._named(name)

    def _contract(self, args: tuple[ir.Node, ...], over: tuple[str, ...]) -> Interval:
        return WITHIN


def kept(model: ir.Model, found: Verdict, state: str) -> ir.Node:
    """What a step keeps of the state, leaving out what it erases along a direction."""
    for update in found.updates:
        if update.state == state:
            assert update.diagonal is not None
            return update.diagonal
    # steps within a step: the first of them starts from the decayed state
    (inner,) = [s for s in model.states if s.name != state]
    assert isinstance(inner.initial, ir.Map)
    factor, _ = inner.initial.args
    return factor


def forgetting(model: ir.Model, found: Verdict, state: str) -> str:
    """Whether one step can forget nearly everything, as far as moderate numbers go."""
    if found.invariant:
        return "no"
    bounds = Moderate(model, dict(bind_sizes(model, {}).options))
    least = bounds.modulus(kept(model, found, state)).low
    if least == 1.0:
        return "along k" if "low_rank" in str(found.structure) else "no"
    return "yes" if least < 0.01 else "slow"


@pytest.mark.parametrize(("file", "layer", "state"), TAXONOMY)
def test_the_taxonomy_is_what_the_checker_finds(
    file: str, layer: str, state: str
) -> None:
    model = getattr(std(file), layer).elaborate().model
    (found,) = [v for v in analyze(model).verdicts if state in v.recurrence.states]
    structure, selective, mixes, immediate = TAXONOMY[file, layer, state]
    assert found.structure == structure
    assert found.invariant is not selective
    assert ("low_rank" in str(found.structure)) is mixes
    assert forgetting(model, found, state) == immediate


def test_softmax_attention_has_no_transition_and_a_gru_is_sequential() -> None:
    assert verdicts(std("attention").MHA) == {}
    (gru,) = verdicts(std("gru").GRU).values()
    assert gru.verdict == "sequential"


# ---- The grammars

SEEDS = range(5)


def small(seed: int) -> Grammar:
    """6 symbols, one of them the end, 3 standing for 3 states: 12 states; 2 starts.

    The density is 0.4 for each of the 3 copies: see the test of its size.
    """
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


def paths(g: Grammar, steps: int) -> tuple[Tensor, Tensor]:
    """All state paths of a length, `[paths, steps]`, and their probabilities."""
    found = torch.tensor(g.starts)[:, None]
    chance = torch.full((len(found),), 1 / len(found), dtype=torch.float64)
    for _ in range(steps - 1):
        following = g.transitions[found[:, -1]]
        path, state = (following > 0).nonzero().unbind(1)
        found = torch.cat([found[path], state[:, None]], 1)
        chance = chance[path] * following[path, state]
    return found, chance


@pytest.mark.parametrize("seed", SEEDS)
def test_no_answer_is_right_more_often_than_the_filters(seed: int) -> None:
    """Against the most probable state by enumeration of all paths."""
    g = small(seed)
    found, chance = paths(g, 6)
    assert float(chance.sum()) == pytest.approx(1)
    symbols = g.symbol[found]
    right = (filtered(g, symbols) == found).double()
    for t in range(6):
        # what was heard so far, as a number with a digit for each symbol
        heard = (symbols[:, : t + 1] * 6 ** torch.arange(t + 1)).sum(1)
        joint = torch.zeros(6 ** (t + 1), len(g.symbol), dtype=torch.float64)
        joint.index_put_((heard, found[:, t]), chance, accumulate=True)
        best = float(joint.amax(1).sum())
        assert float(chance @ right[:, t]) == pytest.approx(best, abs=1e-12)
        # only starts that emit the same symbol leave anything to guess
        apart = len({int(g.symbol[i]) for i in g.starts}) == len(g.starts)
        assert (best == pytest.approx(1)) == apart or t > 0


def test_the_filter_solves_the_task_and_a_guess_does_not() -> None:
    """Over five grammars; where both starts emit one symbol even the filter must guess."""
    right, apart, guess = list[float](), list[bool](), list[float]()
    for seed in SEEDS:
        g = small(seed)
        data, known = sample(g, 1, 400, seed), sample(g, 20, 400, 100 + seed)
        right.append(float((filtered(g, data.symbols) == data.states).double().mean()))
        apart.append(len({int(g.symbol[i]) for i in g.starts}) == len(g.starts))
        best = guessed(g, known, data.symbols)
        guess.append(float((best == data.states).double().mean()))
    assert sum(right) / 5 >= 0.95
    assert all(r == 1 for r, a in zip(right, apart, strict=True) if a), right
    assert sum(apart) >= 3 and min(right) > max(guess) + 0.25, (right, guess)
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


def test_the_density_is_that_of_the_published_figures() -> None:
    """An entropy of 1.32 to 1.40 is that of 0.4 for each copy of a symbol.

    Divided by the depth, as the formula is written, 0.4 would give half of it.
    """
    assert all(1.3 < small(s).entropy < 1.45 for s in SEEDS)
    for seed in SEEDS:
        divided = grammar(6, 3, 3, seed, density=0.4, starts=2)
        assert divided.entropy < 0.9


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


# ---- Training

MIXERS = {
    "gated": "std.gla:GLA(heads = 2, K = 32, tau = 1)",
    "selective": "std.mamba2:Mamba2(P = 32, N = 16)",
    "gated delta": "std.gated_deltanet:GatedDeltaNet(heads = 2)",
    "fixed decay": "std.retnet:Retention(heads = 2)",
}


# The block of the paper: the norm stands behind the sum, and nothing but the mixer in it.
TAGGER = """
import std.gla: GLA

layer Tagger(symbols, states, D = 64, L = 2, mixer = GLA):
    input tokens: int
    x0 = embed(tokens, symbols, D)
    repeat l in L:
        state x: [D] = x0
        x = layernorm[D](x[l-1] + mixer(x[l-1]))
    output linear(x[l = L], states)
"""


def trained(mixer: str, *, distractors: bool) -> float:
    """Share of elements whose state is named, after 2000 sequences of 60 elements."""
    g = small(0)
    seeded(0)
    spec = seqdsl.loads(TAGGER)
    module: Any = spec.Tagger(symbols=6, states=len(g.symbol), mixer=mixer)
    gap = 0.1 if distractors else 0.0
    data = sample(g, 2000, 60, 1, gap=gap, distractors=distractors)
    rows = iter(range(100_000))

    def loss() -> Tensor:
        at = torch.arange(32) + 32 * (next(rows) % 62)
        logits = module(data.symbols[at]).flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, data.states[at].flatten())

    train(module, 250, loss, 4e-3)
    fresh = sample(g, 200, 60, 2, gap=gap, distractors=distractors)
    with torch.no_grad():
        return share_named(module(fresh.symbols), fresh)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated", "selective", "gated delta"])
def test_tiny_training_gates_name_the_state(name: str) -> None:
    assert trained(MIXERS[name], distractors=False) >= 0.90


@pytest.mark.slow
def test_tiny_training_fixed_decay_is_distracted() -> None:
    gated = trained(MIXERS["selective"], distractors=True)
    assert trained(MIXERS["fixed decay"], distractors=True) <= gated - 0.05
