"""Every canonical spec trains: it learns on a batch what other parameters of it give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_corpus import PLACES, Place
from torch import Tensor, nn

from seqdsl.elaborate import load_file
from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.layers import subjects

CANONICAL = [p for p in PLACES if p.path.stem.startswith("canonical_")]
STEPS = 80


def _outputs(found: Any) -> tuple[Tensor, ...]:
    return (found,) if isinstance(found, Tensor) else tuple(found)


def _drawn(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for param in module.parameters():
        nn.init.normal_(param, std=0.5, generator=generator)


def test_all_are_there() -> None:
    assert len({p.path for p in CANONICAL}) == 10


@pytest.mark.parametrize("place", CANONICAL, ids=lambda p: f"{p.path.stem}:{p.layer}")
def test_trains(place: Place) -> None:
    subject = next(iter(subjects(load_file(place.path), place.layer, count=1)))
    module = subject.make().double().train()
    given = tuple(inputs_for(subject, Case(seed=3, batch=2, time=5)).values())
    _drawn(module, 1)
    goals = [y.detach() for y in _outputs(module(*given))]
    _drawn(module, 2)
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    optimizer: Any = torch.optim.Adam(module.parameters(), lr=0.03)
    losses: list[float] = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        pairs = zip(_outputs(module(*given)), goals, strict=True)
        loss = torch.stack([(y - goal).square().mean() for y, goal in pairs]).sum()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    still = [n for n, p in module.named_parameters() if torch.equal(p, before[n])]
    assert not still
