"""Hidden Markov models as semiring scans, and an RNN that emulates them."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]
from systems_case import (
    make,
    noise,
    same,
    std,
    stepped,
    strategies,
    train,
    verdicts,
)
from torch import Tensor

import seqdsl
from examples.tasks.markov import chain, sample, sinkhorn, statistics

assign: Any = getattr(optimize, "linear_sum_assignment")  # noqa: B009
HMM = std("hmm")
RNN = std("hmm_rnn")
S, T = 3, 7
SIZES = {"S": S, "O": 3}


def logs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities pi, A and B; A is not symmetric."""
    pi, move, emit = noise(S, seed=seed), noise(S, S, seed=seed + 1), noise(S, 3)
    return pi.log_softmax(0), move.log_softmax(1), emit.log_softmax(1)


def observed(time: int = T, seed: int = 0) -> Tensor:
    make_ = torch.Generator().manual_seed(seed)
    return torch.randint(0, 3, (1, time), generator=make_)


def paths(o: Tensor, pi: Tensor, A: Tensor, B: Tensor) -> dict[tuple[int, ...], Tensor]:
    """log p(path, o) of every path of states."""
    found: dict[tuple[int, ...], Tensor] = {}
    for path in product(range(S), repeat=len(o)):
        value = pi[path[0]] + B[path[0], o[0]]
        for t in range(1, len(o)):
            value = value + A[path[t - 1], path[t]] + B[path[t], o[t]]
        found[path] = value
    return found


# ---- The verdicts


def test_every_recurrence_of_the_hmm_is_a_scan() -> None:
    (forward,) = verdicts(HMM.HMMForward).values()
    assert (forward.structure, forward.semiring) == ("dense", "log")
    assert "scan" in forward.strategies
    backward = verdicts(HMM.HMMBackward)["r"]
    assert (backward.structure, backward.semiring) == ("dense", "log")
    assert backward.recurrence.direction == "backward"
    viterbi = verdicts(HMM.Viterbi)
    assert (viterbi["best"].structure, viterbi["best"].semiring) == (
        "dense",
        "max_plus",
    )
    assert (viterbi["path"].structure, viterbi["path"].monoid) == ("monoid", "table")


def test_the_noisy_rnn_is_sequential() -> None:
    (found,) = verdicts(RNN.DrivenRNN).values()
    assert found.verdict == "sequential"
    assert "relu" in found.reasons[0].message


# ---- 1: oracles


def test_1_the_scan_is_the_sequential_forward_algorithm() -> None:
    o, (pi, A, B) = observed(19), logs()
    alpha = pi + B[:, o[0, 0]]
    expected = [alpha]
    for t in range(1, 19):
        alpha = (alpha[:, None] + A).logsumexp(0) + B[:, o[0, t]]
        expected.append(alpha)
    for name, module in strategies(HMM.HMMForward, SIZES):
        same(module(o, pi, A, B)[0][0], torch.stack(expected), name)


def test_1_the_likelihood_is_a_sum_over_all_paths() -> None:
    o, (pi, A, B) = observed(), logs()
    _, likelihood = make(HMM.HMMForward, **SIZES)(o, pi, A, B)
    every = torch.stack(list(paths(o[0], pi, A, B).values()))
    same(likelihood[0, -1], every.logsumexp(0), within=1e-13)


@pytest.mark.parametrize("seed", range(4))
def test_1_viterbi_is_the_best_of_all_paths(seed: int) -> None:
    o, (pi, A, B) = observed(seed=seed), logs(seed)
    every = paths(o[0], pi, A, B)
    best = max(every, key=lambda p: float(every[p]))
    for name, module in strategies(HMM.Viterbi, SIZES):
        path, score = module(o, pi, A, B)
        assert tuple(path[0].tolist()) == best, name
        same(score[0, -1].max(), every[best], within=1e-13)


def test_1_posteriors_are_shares_of_the_paths() -> None:
    module = make(HMM.HMM, **SIZES)
    o = observed()
    gamma, loss = module(o)
    pi, A, B = (
        getattr(module, n).detach().log_softmax(-1) for n in ("start", "move", "emit")
    )
    every = paths(o[0], pi, A, B)
    total = torch.stack(list(every.values())).logsumexp(0)
    expected = torch.zeros(T, S, dtype=torch.float64)
    for path, value in every.items():
        expected[range(T), path] += (value - total).exp()
    same(gamma[0].detach(), expected)
    same(loss, -total / T)


# ---- 2, 3, 4: near misses

PROBABILITIES = """
layer Plain(S = 3, O = 3):
    input o: int
    input pi: [S] per call
    input A: [S as J, S] per call
    input B: [S, O] per call
    state p: [S] = 1 / S
    p = dot[J](p[t-1].(S -> J), where(t == 0, pi, A)) * B[O = o]
    output p
"""


def test_2_near_miss_probabilities_underflow() -> None:
    o, (pi, A, B) = observed(2000), logs()
    plain = make(seqdsl.loads(PROBABILITIES).Plain, **SIZES)
    assert (plain(o, pi.exp(), A.exp(), B.exp())[0, -1] == 0).all()
    assert make(HMM.HMMForward, **SIZES)(o, pi, A, B)[0].isfinite().all()


def test_3_forbidden_transitions_give_no_nan() -> None:
    o, (pi, _, B) = observed(), logs()
    allowed = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=torch.float64)
    A = (allowed / allowed.sum(1, keepdim=True)).log().requires_grad_()
    for name, module in strategies(HMM.HMMForward, SIZES):
        alpha, likelihood = module(o, pi, A, B)
        (gradient,) = torch.autograd.grad(likelihood[0, -1], A)
        assert not alpha.isnan().any() and not gradient.isnan().any(), name
        assert (gradient[allowed == 0] == 0).all(), name
    path, _ = make(HMM.Viterbi, **SIZES)(o, pi, A.detach(), B)
    assert (path[0, 1:] >= path[0, :-1]).all()


def test_4_the_order_of_the_indices_matters() -> None:
    o, (pi, A, B) = observed(), logs()
    module = make(HMM.HMMForward, **SIZES)
    right, swapped = (module(o, pi, m, B)[0] for m in (A, A.mT.contiguous()))
    assert (right - swapped)[:, 1:].abs().max() > 1e-2


def test_4_prefix_and_suffix_scans_agree_with_the_order_kept() -> None:
    """alpha + beta is log p(o) at every step, wherever the two products meet."""
    o, (pi, A, B) = observed(11), logs()
    beta = make(HMM.HMMBackward, **SIZES)(o, A, B)
    alpha, likelihood = make(HMM.HMMForward, **SIZES)(o, pi, A, B)
    same((alpha + beta).logsumexp(2), likelihood[:, -1:].expand(1, 11))
    wrong = make(HMM.HMMBackward, **SIZES)(o, A.mT.contiguous(), B)
    assert ((alpha + wrong).logsumexp(2) - likelihood[:, -1:]).abs().max() > 1e-2


def test_5_gradients_are_expected_counts() -> None:
    o, (pi, A, B) = observed(), logs()
    counts = torch.zeros(S, S, dtype=torch.float64)
    emitted = torch.zeros(S, 3, dtype=torch.float64)
    every = paths(o[0], pi, A, B)
    total = torch.stack(list(every.values())).logsumexp(0)
    for path, value in every.items():
        weight = (value - total).exp()
        for t in range(T):
            emitted[path[t], o[0, t]] += weight
            if t:
                counts[path[t - 1], path[t]] += weight
    leaves = [A.clone().requires_grad_(), B.clone().requires_grad_()]
    for name, module in strategies(HMM.HMMForward, SIZES):
        _, likelihood = module(o, pi, *leaves)
        gradients = torch.autograd.grad(likelihood[0, -1], leaves)
        same(gradients[0], counts, name)
        same(gradients[1], emitted, name)


def test_filtering_streams_and_smoothing_says_why_it_does_not() -> None:
    o, (pi, A, B) = observed(), logs()
    module = make(HMM.HMMForward, **SIZES)
    state, outputs = module.initial_state(1, dtype=pi.dtype), list[Tensor]()
    for t in range(T):
        (alpha, _), state = module.step(o[:, t], pi, A, B, state=state)
        outputs.append(alpha)
    same(torch.stack(outputs, 1), module(o, pi, A, B)[0])
    smoother = make(HMM.HMMBackward, **SIZES)
    with pytest.raises(seqdsl.UnsupportedError):
        smoother.step(o[:, 0], A, B, state={})


# ---- 6: the RNN


def test_the_published_chains() -> None:
    for states in range(2, 6):
        move, emit = chain(states)
        same(move.sum(1), torch.ones(states).double())
        same(emit.sum(1), torch.ones(states).double())
        assert move.min() >= 0
    with pytest.raises(ValueError, match="2 to 5"):
        chain(6)


def test_the_cell_without_bias_streams() -> None:
    module = make(RNN.DrivenRNN, X=4, H=5)
    assert all("bias" not in name for name, _ in module.named_parameters())
    x = noise(2, 6, 4)
    same(stepped(module, x)[0], module(x)[0])


@pytest.mark.parametrize("time", [1, 6])
def test_emissions_are_hard_with_soft_gradients(time: int) -> None:
    module = make(RNN.Emitter, X=4, H=5)
    symbols, _ = module(batch=3, time=time)
    assert set(symbols.flatten().tolist()) == {0.0, 1.0}
    same(symbols.sum(2), torch.ones(3, time).double())
    names = ["logits.h_x.weight", "logits.logits.weight"]
    weights: Any = [dict(module.named_parameters())[n] for n in names]
    weigh = noise(3, time, 3)
    for gradient in torch.autograd.grad((symbols * weigh).sum(), weights):  # pyright: ignore
        assert gradient.abs().max() > 0  # pyright: ignore


def settled(module: Any, scale: float) -> Tensor:
    """Distances between the last states of 20 starts that differ."""
    quiet = make(RNN.DrivenRNN, X=module.X, H=module.H)
    inner = {k.removeprefix("logits."): v for k, v in module.state_dict().items()}
    quiet.load_state_dict(inner)
    state = quiet.initial_state(20)
    state["h"] = noise(20, module.H).abs()
    drive = scale * noise(20, 300, module.X)
    _, h = quiet(drive, state=state)
    return torch.pdist(h[:, -1].detach())


def test_the_distance_of_samples() -> None:
    """0 between equal samples, larger for other chains, with a gradient to every entry."""
    hot = torch.nn.functional.one_hot
    a, b = (hot(sample(*chain(2), 40, 10, s), 3).double().flatten(1) for s in (0, 1))
    other = hot(sample(*chain(4), 40, 10, 1), 3).double().flatten(1)
    assert abs(float(sinkhorn(a, a.clone()))) < 1e-9
    assert 0 < sinkhorn(a, b) < sinkhorn(a, other)
    assert torch.equal(sample(*chain(3), 5, 9, 7), sample(*chain(3), 5, 9, 7))


def test_the_distance_of_samples_is_that_of_the_best_matching() -> None:
    """With little blur; a bound from below, as potentials give one."""
    for seed in range(4):
        a, b = noise(30, 12, seed=7 * seed), noise(30, 12, seed=1 + 7 * seed) + 0.5
        cost = torch.cdist(a, b).square() / 2
        matched: Any = assign(cost.numpy())
        best = float(cost[matched].mean())
        assert 0.98 * best < float(sinkhorn(a, b)) <= best


@pytest.mark.slow
def test_6_tiny_training_emits_like_the_chain() -> None:
    """S = 2, T = 30: shares within 0.05, changes within 20 %; no noise, one point."""
    move, emit = chain(2)
    module = make(RNN.Emitter, X=8, H=32).float()
    step = iter(range(1_000_000))

    def loss() -> Tensor:
        seed = next(step)
        target = sample(move, emit, 512, 30, seed)
        hot = torch.nn.functional.one_hot(target, 3).float()
        drawn, _ = module(batch=512, time=30)
        return sinkhorn(drawn.flatten(1), hot.flatten(1))

    train(module, 300, loss, 5e-3, betas=(0.9, 0.9), clip=0.9)
    drawn, _ = module(batch=2000, time=30)
    shares, changes = statistics(drawn.argmax(2))
    wanted, wanted_changes = statistics(sample(move, emit, 2000, 30, 10**6))
    assert (shares - wanted).abs().max() < 0.05, (shares, wanted)
    assert abs(changes / wanted_changes - 1) < 0.2, (changes, wanted_changes)
    module.double()
    assert settled(module, 0.0).max() < 1e-6
    assert settled(module, 1.0).max() > 1e-2
