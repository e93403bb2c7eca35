"""`python -m seqdsl.testing.fuzz --examples N --seed S`: random specs until one breaks.

`--all` tries the whole suite on each, every strategy among it; `--target mlir` has all loops
along time as native kernels that can be, `--target auto` those that it takes. Specs come in slices of
`--slice` with seeds of their own, so that a run can be split or go on by `--seed`, and a
failure is found again by running its slice alone: the command is printed with the
smallest spec that breaks. Ends with status 1 then. What the specs had in them is counted;
`--log FILE` gets a line of JSON after each slice.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

from hypothesis import strategies as st
from torch import nn

from seqdsl.diagnostics import SpecError, UnsupportedError
from seqdsl.elaborate import elaborate_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar
from seqdsl.native.artifact import native_artifact
from seqdsl.testing.cases import VALUES, Case, Sizes
from seqdsl.testing.check import Failure, check_property, chosen, search
from seqdsl.testing.layers import Build, compiled, subject
from seqdsl.testing.met import met
from seqdsl.testing.properties import Property
from seqdsl.testing.specs import Drawn, random_specs
from seqdsl.testing.subject import Externs, Subject

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

SHORT = Sizes(most=4, rows=2, pieces=True, segments=True, values=VALUES)
LONGER = Sizes(most=13, rows=2, pieces=True, segments=True)
"""The two cases in which a spec is tried: the second for properties of many steps.

Properties of one spec share their cases, so that what several ask for is run once.
"""

Example = tuple[Drawn, Case, Case]


class _Ways(TypedDict):
    build: Build
    wanted: Callable[[ir.Model], bool]


def in_kernels(model: ir.Model) -> bool:
    """Whether native kernels run a loop along time of `model`."""
    try:
        return bool(native_artifact(model).regions)
    except UnsupportedError:
        return False


def _kernels(
    model: ir.Model, options: Mapping[str, Scalar], externs: Externs
) -> nn.Module:
    """A module whose loops are kernels, and its steps too: its own parameters do not learn."""
    made = compiled(model, options, externs, strategy="loop", target="auto")
    return made.requires_grad_(False)


TARGETS: Mapping[str, _Ways] = {
    "torch": {"build": compiled, "wanted": lambda model: True},
    "auto": {"build": partial(compiled, target="auto"), "wanted": in_kernels},
    "mlir": {"build": _kernels, "wanted": in_kernels},
}
"""How a module is made for a target, and of which specs."""


def fuzz(
    examples: int,
    seed: int,
    names: Sequence[str] = DEFAULT,
    build: Build = compiled,
    random: bool = False,
    after: Callable[[Subject], None] = lambda subject: None,
    wanted: Callable[[ir.Model], bool] = lambda model: True,
) -> Failure | str | None:
    """The failure with the smallest of `examples` random specs, or None.

    A text where a spec does not even elaborate. Each property is tried in one case.
    Those that are not `wanted` are passed over; `after` is called with each layer that
    passes.
    """
    rows = chosen(names)
    values = st.tuples(random_specs(random=random), SHORT.drawn(), LONGER.drawn())

    def attempt(example: Example) -> Failure | str | None:
        drawn, *cases = example
        try:
            model = elaborate_text(drawn.text)
        except SpecError as error:
            return f"{error}\n{drawn.text}"
        if not wanted(model):
            return None
        made = subject(model, {}, build=build, text=drawn.text)
        found = _failure(made, rows, *cases)
        if found is None:
            after(made)
        return found

    return search(values, attempt, examples, seed)


def _failure(
    made: Subject, rows: Sequence[Property], short: Case, longer: Case
) -> Failure | None:
    for row in rows:
        many = row.cases.most >= LONGER.most
        case = row.cases.fit(longer if many else short)
        outcome = check_property(row, made, case=case)
        if outcome.failure is not None:
            return outcome.failure
    return None


@dataclass(frozen=True)
class Report:
    """What came of a run: how many specs, with what in them, and what broke."""

    specs: int
    seconds: float
    properties: tuple[str, ...]
    met: Mapping[str, Mapping[str, int]]
    broken: str | None = None
    command: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.specs} specs in {self.seconds:.0f} s of processor time"]
        for kind, counts in self.met.items():
            listed = ", ".join(f"{name} {n}" for name, n in counts.items())
            lines.append(f"  {kind}: {listed}")
        if self.broken is None:
            return "\n".join([*lines, "nothing broke"])
        return "\n".join([*lines, self.broken, f"  slice   {self.command}"])


class Tally:
    """Counts what the specs of a run have in them."""

    def __init__(self) -> None:
        self.specs = 0
        self.counts: dict[str, Counter[str]] = {}

    def add(self, subject: Subject) -> None:
        """Count one layer, each thing in it once."""
        self.specs += 1
        for kind, names in met(subject).items():
            self.counts.setdefault(kind, Counter()).update(names)

    def sorted(self) -> dict[str, dict[str, int]]:
        """Counts by kind, the largest first."""
        return {k: dict(c.most_common()) for k, c in self.counts.items()}


def run(
    examples: int,
    seed: int,
    size: int,
    names: Sequence[str],
    show: bool,
    log: Path | None = None,
    target: str = "torch",
) -> Report:
    """`examples` specs in slices of `size`, of seeds `seed`, `seed + 1`, …"""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console, start, tally = Console(stderr=True), time.process_time(), Tally()
    columns = *Progress.get_default_columns()[:2], MofNCompleteColumn()
    columns = *columns, TimeRemainingColumn()
    hidden = not (show and console.is_terminal)

    def report(broken: str | None = None, command: str | None = None) -> Report:
        taken = time.process_time() - start
        return Report(tally.specs, taken, tuple(names), tally.sorted(), broken, command)

    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("specs", total=examples)

        def after(subject: Subject) -> None:
            tally.add(subject)
            bar.advance(task)

        for done in range(0, examples, size):
            count, slice_ = min(size, examples - done), seed + done // size
            found = fuzz(count, slice_, names, after=after, **TARGETS[target])
            if log is not None:
                _note(log, slice_, count, found)
            if found is not None:
                command = _command(slice_, count, size, names, target)
                return report(str(found), command)
            bar.update(task, completed=done + count)
    return report()


def _note(log: Path, seed: int, count: int, found: object) -> None:
    line = {"seed": seed, "specs": count, "broken": found and str(found)}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _command(
    seed: int, count: int, size: int, names: Sequence[str], target: str
) -> str:
    whole = tuple(names) == tuple(row.name for row in chosen(None))
    listed = " --all" if whole else "".join(f" --property {n}" for n in names)
    made = "" if target == "torch" else f" --target {target}"
    given = f"--seed {seed} --examples {count} --slice {size}{listed}{made}"
    return f"python -m seqdsl.testing.fuzz {given}"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="seqdsl.testing.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first slice")
    parser.add_argument("--slice", type=int, default=100, help="specs of one seed")
    parser.add_argument("--property", action="append", dest="names")
    parser.add_argument("--all", action="store_true", help="the whole suite")
    parser.add_argument("--target", choices=tuple(TARGETS), default="torch")
    parser.add_argument("--log", type=Path, help="file to add a line to for each slice")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    names = [row.name for row in chosen(None)] if given.all else given.names or DEFAULT
    show = not given.json
    found = run(
        given.examples, given.seed, given.slice, names, show, given.log, given.target
    )
    print(json.dumps(asdict(found)) if given.json else found)
    return 0 if found.broken is None else 1


if __name__ == "__main__":
    sys.exit(main())
