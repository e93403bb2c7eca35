"""Adjoint models are models: the torch backend runs them, and they have adjoints."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch

from seqdsl.backends.reference import interpret
from seqdsl.differentiate.adjoint import adjoint
from seqdsl.elaborate import elaborate_text, load_file
from seqdsl.ir import nodes as ir
from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.layers import subject, subjects
from seqdsl.testing.properties.adjoints import (
    Compiled,
    Pair,
    adjoint_equals_autograd,
    slopes,
    upstream_for,
)
from seqdsl.testing.properties.compare import same
from seqdsl.testing.subject import Caller, Subject, Tensors

ROOT = Path(__file__).parents[2]
CASES = (
    Case(seed=1, batch=2, time=4),
    Case(seed=2, batch=2, time=5, runs=((2, 3), (1, 4))),
)


def of(place: str) -> Subject:
    path, layer = place.split(":")
    return next(subjects(load_file(ROOT / path), layer))


COMPILED = (
    "stdlib/mingru.seq:MinGRU",
    "stdlib/gru.seq:GRU",
    "stdlib/gla.seq:GLA",
    "stdlib/gated_deltanet.seq:GatedDeltaNet",
    "stdlib/lru.seq:LRU",
    "stdlib/mlstm.seq:MLSTMBlock",
    "stdlib/attention.seq:MHA",
    "stdlib/moe.seq:MoE",
    "stdlib/language_model.seq:LanguageModel",
    "tests/language/ok/axes_grid.seq:LinearGrid",
    "tests/language/ok/axes_depth.seq:SecondOrder",
    "tests/language/ok/axes_depth_time.seq:StackedRNN",
    "tests/language/ok/axes_halting.seq:AdaptiveTime",
)


@pytest.mark.parametrize("place", COMPILED)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_torch_backend_runs_adjoints(place: str, case: Case) -> None:
    adjoint_equals_autograd(of(place), case, Compiled)


TWICE = (
    "stdlib/mingru.seq:MinGRU",
    "stdlib/gru.seq:GRU",
    "stdlib/gated_deltanet.seq:GatedDeltaNet",
    "stdlib/lru.seq:LRU",
    "tests/language/ok/canonical_attend.seq:Attend",
    "tests/language/ok/axes_depth.seq:SecondOrder",
    "stdlib/path.seq:PaTH",
    "tests/language/ok/transition_erase_products.seq:DeltaSteps",
    "tests/language/ok/attention_in_recurrence.seq:SelfAttention",
)


@pytest.mark.parametrize("place", TWICE)
def test_adjoints_have_adjoints(place: str) -> None:
    first = of(place)
    backward = adjoint(first.model, states=False).backward
    names = {o.name for o in backward.options}
    options = {n: v for n, v in first.options.items() if n in names}
    adjoint_equals_autograd(subject(backward, options), CASES[0])


STATES = (
    ("stdlib/mingru.seq:MinGRU", "h"),
    ("stdlib/gru.seq:GRU", "h"),
    ("stdlib/gla.seq:GLA", "S"),
    ("stdlib/gated_deltanet.seq:GatedDeltaNet", "S"),
    ("stdlib/lru.seq:LRU", "h"),
)


@pytest.mark.parametrize(("place", "state"), STATES)
def test_gradients_of_initial_and_final_states(place: str, state: str) -> None:
    layer, case = of(place), CASES[0]
    inputs, params = inputs_for(layer, case), layer.params(1)
    caller = Caller(layer, layer.module, params)
    first = dict(cast(Tensors, caller.initial_state(case.batch)))
    generator = case.generator(3)
    start = torch.randn(
        first[state].shape, generator=generator, dtype=first[state].dtype
    )
    first[state] = start.requires_grad_()
    leaves = {n: v.requires_grad_() for n, v in inputs.items()}
    outputs, after = caller.piece(inputs, first)
    found = adjoint(layer.model)
    name = found.first[state]
    outputs[found.last[state]] = cast(Tensors, after)[state]
    upstream = upstream_for(outputs, case)
    others = {s: n for s, n in found.first.items() if s != state}
    assert not others
    given = {**{n: v.detach() for n, v in inputs.items()}, name: start.detach()}
    ours, gradients = Pair(layer, case, found, params).both(given, upstream)
    same({n: ours[n] for n in outputs}, outputs, "the forward pass")
    wanted = slopes(outputs, upstream, {**leaves, name: start})
    same({n: gradients[n] for n in wanted}, wanted, "the adjoint")


READS = """
layer Reads(D = 2, N = 3):
    input x: [D]
    input at: int per batch
    a = tanh(x)
    state s: [D] = 0.5
    s = 0.5 * s[t-2] + a[t+1] + a[t = 0] * x
    repeat n in N:
        state h: [D] = 0
        state o: [D] = 1
        h = 0.5 * h[n-1] + 0.3 * h[t-1] + x
        o = o[n-1] + h[n-1] * tanh(h) + a[t = at - 1] * h[n-2]
    output s
    output o[n = N]
"""


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_reads_of_every_kind(backend: str) -> None:
    text = READS
    layer = subject(elaborate_text(text), text=text)
    case = Case(seed=3, batch=2, time=3)
    ranged = Subject(layer.model, {}, layer.make, {"at": (1, 4)})
    if backend == "torch":
        adjoint_equals_autograd(ranged, case, Compiled)
    else:
        adjoint_equals_autograd(ranged, case)


@pytest.mark.parametrize(
    "place",
    [
        "tests/language/ok/state_noise.seq:NoisyState",
        "tests/language/ok/training_modes.seq:Dropped",
        "stdlib/hmm_rnn.seq:Emitter",
    ],
)
def test_what_was_drawn_is_drawn_again(place: str) -> None:
    layer, case = of(place), CASES[0]
    inputs, params = inputs_for(layer, case), layer.params(1)
    leaves = {n: v.requires_grad_() for n, v in inputs.items()}

    def run(model: ir.Model, given: Tensors) -> Tensors:
        return interpret(
            model,
            options=layer.options,
            params=params,
            inputs=given,
            training=True,
            seed=11,
            batch=case.batch,
            time=case.time,
        )

    outputs = run(layer.model, inputs)
    upstream = upstream_for(outputs, case)
    found = adjoint(layer.model, states=False)
    with torch.no_grad():
        kept = run(found.forward, inputs)
        given = {n: v for n, v in inputs.items() if n in found.backward.input}
        given |= {n: kept[o] for n, o in found.saved.items()}
        given |= {n: upstream[o] for o, n in found.upstream.items()}
        back = run(found.backward, given)
    wanted = slopes(outputs, upstream, leaves)
    same({n: back[found.gradients[n]] for n in wanted}, wanted, "the adjoint")
