"""Run the properties on a layer and say what broke, in the smallest case found."""

from __future__ import annotations

import copy
import shlex
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from torch import nn

from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Scalar
from seqdsl.testing.cases import Case
from seqdsl.testing.layers import stand_ins, subject
from seqdsl.testing.properties import PROPERTIES, Property
from seqdsl.testing.properties.compare import Broken
from seqdsl.testing.subject import Externs, Subject

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Failure:
    """A property that does not hold of a subject, with the smallest case found."""

    row: Property
    subject: Subject
    case: Case
    reason: str

    @property
    def command(self) -> str:
        """A command that runs this case again."""
        parts = [
            "seqdsl",
            "test",
            self.subject.file,
            "--layer",
            self.subject.model.name,
        ]
        for name, value in self.subject.options.items():
            parts += ["--set", f"{name}={_shown(value)}"]
        parts += ["--property", self.row.name, "--case", str(self.case)]
        return shlex.join(parts)

    def __str__(self) -> str:
        options = ", ".join(f"{n}={_shown(v)}" for n, v in self.subject.options.items())
        lines = [
            f"{self.row.name}: {self.row.meaning}",
            f"  layer   {self.subject.model.name} ({options}) in {self.subject.file}",
            f"  case    {self.case}",
            f"  broken  {self.reason}",
            f"  again   {self.command}",
        ]
        if self.subject.text:
            lines += ["  spec", *(f"    {t}" for t in self.subject.text.splitlines())]
        return "\n".join(lines)


@dataclass(frozen=True)
class Outcome:
    """What came of one property on one subject: fine, excused, or a failure."""

    row: Property
    subject: Subject
    excuse: str | None = None
    failure: Failure | None = None


def _shown(value: Scalar) -> str:
    return value if isinstance(value, str) else f"{Lit(value)}"


def check_subject(
    subject: Subject,
    *,
    examples: int = 20,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Iterator[Outcome]:
    """Every property of `PROPERTIES` (or those named) on `subject`, one after another.

    Raises `KeyError` for a name that is no property.
    """
    for row in chosen(names):
        yield check_property(row, subject, examples=examples, seed=seed)


def chosen(names: Sequence[str] | None) -> tuple[Property, ...]:
    """The rows of `PROPERTIES` of those names; all without any."""
    if names is None:
        return PROPERTIES
    table = {row.name: row for row in PROPERTIES}
    return tuple(table[name] for name in names)


def check_model(
    model: ir.Model,
    options: Mapping[str, Scalar] | None = None,
    *,
    examples: int = 20,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> tuple[Outcome, ...]:
    """Every property of a layer as the torch backend compiles it.

    Raises `AssertionError` with all failures, `SpecError` for options that do not fit.
    """
    made = subject(model, options, externs=stand_ins(model))
    return _all(made, examples, seed, names)


def check_module(
    module: nn.Module,
    model: ir.Model,
    *,
    options: Mapping[str, Scalar] | None = None,
    externs: Externs | None = None,
    examples: int = 20,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> tuple[Outcome, ...]:
    """Every property of a module that is meant to compute `model`.

    `model` is `spec.GLA.elaborate().model` for a module made by `spec.GLA`. Options not
    given are read off the module. The module itself is left as it is. Raises as
    `check_model` does.
    """
    own = [o.name for o in model.options if hasattr(module, o.name)]
    given = {**{n: getattr(module, n) for n in own}, **(options or {})}
    made = replace(
        subject(model, given, externs=externs or stand_ins(model)),
        make=lambda: copy.deepcopy(module).double(),
    )
    return _all(made, examples, seed, names)


def _all(
    made: Subject, examples: int, seed: int, names: Sequence[str] | None
) -> tuple[Outcome, ...]:
    found = tuple(check_subject(made, examples=examples, seed=seed, names=names))
    failures = [str(o.failure) for o in found if o.failure is not None]
    if failures:
        raise AssertionError("\n\n".join(failures))
    return found


def check_property(
    row: Property,
    subject: Subject,
    *,
    examples: int = 20,
    seed: int = 0,
    case: Case | None = None,
) -> Outcome:
    """One property in random cases, or in the one given."""
    # Whatever a layer raises when it is called rightly is a failure to report.
    try:
        subject.module.eval()
        excuse = row.excused(subject)
    except UnsupportedError as error:
        # the target says that it cannot host the layer, so there is nothing to test
        return Outcome(row, subject, f"it is not compiled: {error}")
    except Exception as error:  # noqa: BLE001
        reason = f"making the layer: {_explained(error)}"
        return Outcome(row, subject, failure=Failure(row, subject, Case(), reason))
    if excuse is not None:
        return Outcome(row, subject, excuse)
    if case is not None:
        return Outcome(row, subject, failure=_tried(row, subject, case))
    count = max(1, -(-examples // row.cost))
    found = _search(row, subject, count, seed)
    return Outcome(row, subject, failure=found)


def _tried(row: Property, subject: Subject, case: Case) -> Failure | None:
    """The failure of one case. Any exception is one: no case here is a wrong call."""
    try:
        row.check(subject, case)
    except Exception as error:  # noqa: BLE001
        return Failure(row, subject, case, _explained(error))
    return None


def _explained(error: Exception) -> str:
    if isinstance(error, Broken):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _search(row: Property, subject: Subject, count: int, seed: int) -> Failure | None:
    """The smallest failure among `count` random cases."""
    return search(
        row.cases.drawn(), lambda case: _tried(row, subject, case), count, seed
    )


UNHEALTHY = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
)
"""What hypothesis may not complain of: modules are slow to run, specs are long."""


_QUIET = settings(
    deadline=None,
    database=None,
    derandomize=False,
    report_multiple_bugs=False,
    suppress_health_check=UNHEALTHY,
    phases=[Phase.generate, Phase.shrink],
    print_blob=False,
)


class _Found(Exception):
    """Tells hypothesis that a case fails."""


def search(
    values: st.SearchStrategy[_T],
    attempt: Callable[[_T], _R | None],
    count: int,
    seed: int,
) -> _R | None:
    """What `attempt` makes of the smallest of `count` random values for which it is
    not None; None where there is no such value.
    """
    last: list[_R] = []

    @hypothesis.seed(seed)
    @settings(_QUIET, max_examples=count)
    @hypothesis.given(values)
    def run(value: _T) -> None:
        found = attempt(value)
        if found is not None:
            last[:] = [found]
            raise _Found

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run()
    except _Found:
        return last[0]
    finally:
        torch.set_num_threads(threads)
    return None
