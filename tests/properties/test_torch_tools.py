"""Modules under `torch.compile(fullgraph=True)` and `torch.export`: nothing breaks the graph.

Neither can unroll a loop whose count is a tensor: layers with a repeat that is counted at
run time are not exported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_corpus import PLACES, Place
from torch import nn

from seqdsl.elaborate import load_file
from seqdsl.ir import nodes as ir
from seqdsl.testing.cases import Case, inputs_for
from seqdsl.testing.layers import subjects

FEW = {
    "attention_rows:Path",
    "axes_halting:AdaptiveTime",
    "axes_runtime_count:Adapter",
    "classifier:Classifier",
    "s5:BidirectionalS5",
    "state_dtypes:ComplexState",
}
"""What is tried on every run: complex states, calls, loops that end early."""


def _name(place: Place) -> str:
    return f"{place.path.stem}:{place.layer}"


def _outputs(found: Any) -> tuple[torch.Tensor, ...]:
    return (found,) if isinstance(found, torch.Tensor) else tuple(found)


def _counted(model: ir.Model) -> bool:
    own = any(isinstance(r.count, ir.Base) for r in model.repeats)
    return own or any(_counted(i.model) for i in model.instances)


def _check(path: Path, layer: str) -> None:
    subject = next(iter(subjects(load_file(path), layer, count=1)))
    module = subject.module
    given = tuple(inputs_for(subject, Case(seed=1, batch=2, time=4)).values())
    extra = subject.untold((2, 4))
    if _counted(subject.model):
        with pytest.raises(Exception, match="data-dependent"):
            torch.export.export(module, given, extra)
        return
    expected = _outputs(module(*given, **extra))
    compiler: Callable[..., nn.Module] = vars(torch)["compile"]
    compiled = compiler(module, backend="eager", fullgraph=True)
    exported = torch.export.export(module, given, extra).module()
    for way in (compiled, exported):
        found = _outputs(way(*given, **extra))
        for one, other in zip(found, expected, strict=True):
            if subject.traits.draws:
                one, other = torch.zeros_like(one), torch.zeros_like(other)
            torch.testing.assert_close(one, other, equal_nan=True)


@pytest.mark.parametrize("place", [p for p in PLACES if _name(p) in FEW], ids=_name)
def test_compiles_and_exports(place: Place) -> None:
    _check(place.path, place.layer)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=_name)
def test_all_compile_and_export(place: Place) -> None:
    _check(place.path, place.layer)


def test_the_few_are_there() -> None:
    assert {_name(p) for p in PLACES} >= FEW
