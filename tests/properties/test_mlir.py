"""Layers whose loops along time are MLIR kernels have every property."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from seqdsl.diagnostics import UnsupportedError
from seqdsl.elaborate import load_file
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar
from seqdsl.native.artifact import native_artifact
from seqdsl.native.load import available
from seqdsl.testing.check import check_subject
from seqdsl.testing.corpus import passing_specs
from seqdsl.testing.layers import Externs, compiled, subjects
from seqdsl.testing.subject import Subject

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "tests" / "language" / "ok", ROOT / "stdlib")

PLACES = tuple(
    (path, layer)
    for folder in FOLDERS
    for path in passing_specs(folder)
    for layer in load_file(path).layers
)


def _name(place: tuple[Path, str]) -> str:
    return f"{place[0].stem}:{place[1]}"


def _has_kernels(subject: Subject) -> bool:
    """Whether anything of the layer runs in kernels: what is left was tested in torch."""
    try:
        return bool(native_artifact(subject.model).regions)
    except UnsupportedError:
        return False


def _check(
    place: tuple[Path, str],
    examples: int,
    options: int,
    names: tuple[str, ...] | None = None,
    learns: bool = True,
) -> None:
    path, layer = place
    failures: list[str] = []
    build = partial(compiled, target="auto") if learns else _frozen
    for subject in subjects(load_file(path), layer, count=options, build=build):
        if not _has_kernels(subject):
            continue
        for outcome in check_subject(subject, examples=examples, names=names):
            if outcome.failure is not None:
                failures.append(str(outcome.failure))
    assert not failures, "\n\n".join(failures)


SOME = ("forward_equals_reference", "steps_equal_forward", "pieces_equal_whole")
GRADIENTS = ("segments_equal_reference", "packed_gradients_equal_reference")
WHOLE = ("mingru:MinGRU", "gru:GRU", "gla:GLA")
"""Layers that are tried in every respect also where time is short."""


@pytest.mark.parametrize(
    "place",
    [p for i, p in enumerate(PLACES) if i % 2 == 0 or _name(p) in WHOLE],
    ids=_name,
)
def test_properties(place: tuple[Path, str]) -> None:
    names = None if _name(place) in WHOLE else (*SOME, *GRADIENTS)
    _check(place, examples=1, options=1, names=names)


STEPS = ("steps_equal_forward", "prefill_then_steps", "steps_then_a_piece")


@pytest.mark.parametrize("place", PLACES[::5], ids=_name)
def test_steps_of_layers_that_do_not_learn(place: tuple[Path, str]) -> None:
    """Kernels compute whole steps where no gradient is asked for."""
    _check(place, examples=1, options=1, names=STEPS[:1], learns=False)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=_name)
def test_steps_of_all_layers_that_do_not_learn(place: tuple[Path, str]) -> None:
    _check(place, examples=3, options=2, names=STEPS, learns=False)


def _frozen(
    model: ir.Model, options: Mapping[str, Scalar], externs: Externs
) -> nn.Module:
    return compiled(model, options, externs, target="auto").requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=_name)
def test_properties_at_length(place: tuple[Path, str]) -> None:
    _check(place, examples=60, options=3)
