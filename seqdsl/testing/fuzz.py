"""`python -m seqdsl.testing.fuzz --examples N --seed S`: random specs until one breaks.

`--all` tries the whole suite on each, every strategy among it. Specs come in slices of
`--slice` with seeds of their own, so that a failure is found again by running its slice
alone: the command is printed with the smallest spec that breaks. Ends with status 1 then.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from hypothesis import strategies as st

from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import elaborate_text
from seqdsl.testing.cases import Case
from seqdsl.testing.check import Failure, check_property, chosen, search
from seqdsl.testing.layers import Build, compiled, subject
from seqdsl.testing.properties import Property
from seqdsl.testing.specs import Drawn, random_specs

DEFAULT: tuple[str, ...] = (
    "forward_equals_reference",
    "gradients_equal_reference",
    "pieces_equal_whole",
    "steps_equal_forward",
    "segments_equal_reference",
    "segments_in_pieces",
    "refuses_to_stream",
)
"""What is checked of every random spec: what the others mostly follow from."""

Example = tuple[Drawn, tuple[Case, ...]]


def fuzz(
    examples: int,
    seed: int,
    names: Sequence[str] = DEFAULT,
    build: Build = compiled,
    random: bool = False,
    after: Callable[[], None] = lambda: None,
) -> Failure | str | None:
    """The failure with the smallest of `examples` random specs, or None.

    A text where a spec does not even elaborate. Each property is tried in one case.
    `after` is called when a spec is done with.
    """
    rows = chosen(names)
    values = st.tuples(
        random_specs(random=random), st.tuples(*(row.cases for row in rows))
    )

    def attempt(example: Example) -> Failure | str | None:
        found = _attempt(example, rows, build)
        after()
        return found

    return search(values, attempt, examples, seed)


def _attempt(
    example: Example, rows: Sequence[Property], build: Build
) -> Failure | str | None:
    drawn, cases = example
    try:
        model = elaborate_text(drawn.text)
    except SpecError as error:
        return f"{error}\n{drawn.text}"
    made = subject(model, {}, build=build, text=drawn.text)
    for row, case in zip(rows, cases, strict=True):
        outcome = check_property(row, made, case=case)
        if outcome.failure is not None:
            return outcome.failure
    return None


@dataclass(frozen=True)
class Report:
    """What came of a run: how many specs, and what broke in the slice of which seed."""

    specs: int
    seconds: float
    properties: tuple[str, ...]
    broken: str | None = None
    command: str | None = None

    def __str__(self) -> str:
        if self.broken is None:
            return f"{self.specs} specs, nothing broke"
        return f"{self.broken}\n  slice   {self.command}"


def run(
    examples: int, seed: int, size: int, names: Sequence[str], show: bool
) -> Report:
    """`examples` specs in slices of `size`, of seeds `seed`, `seed + 1`, …"""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console, start, done = Console(stderr=True), time.monotonic(), 0
    columns = *Progress.get_default_columns()[:2], MofNCompleteColumn()
    columns = *columns, TimeRemainingColumn()
    hidden = not (show and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("specs", total=examples)
        while done < examples:
            count = min(size, examples - done)
            found = fuzz(count, seed, names, after=lambda: bar.advance(task))
            if found is not None:
                chosen = "".join(f" --property {n}" for n in names)
                given = f"--seed {seed} --examples {count} --slice {size}{chosen}"
                command = f"python -m seqdsl.testing.fuzz {given}"
                taken = time.monotonic() - start
                return Report(done, taken, tuple(names), str(found), command)
            done, seed = done + count, seed + 1
            bar.update(task, completed=done)
    return Report(done, time.monotonic() - start, tuple(names))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="seqdsl.testing.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first slice")
    parser.add_argument("--slice", type=int, default=100, help="specs of one seed")
    parser.add_argument("--property", action="append", dest="names")
    parser.add_argument("--all", action="store_true", help="the whole suite")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    names = [row.name for row in chosen(None)] if given.all else given.names or DEFAULT
    found = run(given.examples, given.seed, given.slice, names, not given.json)
    print(json.dumps(asdict(found)) if given.json else found)
    return 0 if found.broken is None else 1


if __name__ == "__main__":
    sys.exit(main())
