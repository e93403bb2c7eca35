"""`test`: the properties of a user's own layer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

from seqdsl import driver
from seqdsl.commands.outcome import (
    OK,
    WRONG_SPEC,
    Request,
    choose_layer,
    print_json,
)
from seqdsl.diagnostics import CallError
from seqdsl.testing.cases import Case, parse_case
from seqdsl.testing.check import Outcome, check_property, chosen
from seqdsl.testing.layers import compiled, subjects
from seqdsl.testing.properties import Property
from seqdsl.testing.subject import Subject


def test(
    request: Request,
    target: str,
    seed: int,
    examples: int,
    names: tuple[str, ...],
    case: str | None,
    json: bool,
) -> int:
    """Check the properties of one layer; those named, in one case where it is given."""
    driver.require_target(target)
    if examples < 1:
        raise CallError(f"--examples is 1 or more, not {examples}")
    rows, only = _rows(names), _case(case)
    program, named = driver.load(request.file)
    layer = choose_layer(program.layers, request.layer or named, request.file)
    build = partial(compiled, strategy=request.strategy, target=target)
    found = subjects(
        program, layer, given=request.given, build=build, file=request.file
    )
    outcomes = [
        outcome
        for subject in found
        for outcome in _run(subject, rows, seed, examples, only, json)
    ]
    if json:
        print_json({"layer": layer, "properties": [_json(o) for o in outcomes]})
    else:
        _report(outcomes)
    return WRONG_SPEC if any(o.failure for o in outcomes) else OK


def _rows(names: tuple[str, ...]) -> tuple[Property, ...]:
    try:
        return chosen(names or None)
    except KeyError as error:
        known = ", ".join(row.name for row in chosen(None))
        raise CallError(f"no property {error}; there are {known}") from None


def _case(text: str | None) -> Case | None:
    try:
        return None if text is None else parse_case(text)
    except ValueError as error:
        raise CallError(f"--case: {error}") from None


def _run(
    subject: Subject,
    rows: tuple[Property, ...],
    seed: int,
    examples: int,
    case: Case | None,
    json: bool,
) -> Iterator[Outcome]:
    """One outcome a property, with a bar on a terminal meanwhile."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, disable=json or not console.is_terminal
    ) as progress:
        task = progress.add_task(subject.model.name, total=len(rows))
        for row in rows:
            progress.update(task, description=row.name)
            yield check_property(row, subject, examples=examples, seed=seed, case=case)
            progress.advance(task)


def _report(outcomes: list[Outcome]) -> None:
    width = max((len(o.row.name) for o in outcomes), default=0)
    for outcome in outcomes:
        said = "FAILED" if outcome.failure else outcome.excuse or "ok"
        if outcome.excuse:
            said = f"skipped: {said}"
        print(f"{outcome.row.name:<{width}}  {said}")
    for outcome in outcomes:
        if outcome.failure:
            print(f"\n{outcome.failure}")
    failed = sum(o.failure is not None for o in outcomes)
    print(f"\n{len(outcomes)} properties, {failed} failed")
    sys.stdout.flush()


def _json(outcome: Outcome) -> dict[str, object]:
    failure = outcome.failure
    return {
        "property": outcome.row.name,
        "meaning": outcome.row.meaning,
        "holds": failure is None,
        "skipped": outcome.excuse,
        "options": dict(outcome.subject.options),
        "case": None if failure is None else str(failure.case),
        "reason": None if failure is None else failure.reason,
        "command": None if failure is None else failure.command,
    }
