"""`python -m seqdsl.testing.fuzz --examples N --seed S`: random specs until one breaks.

Ends with status 1 and the smallest spec found where a property fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

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
) -> Failure | str | None:
    """The failure with the smallest of `examples` random specs, or None.

    A text where a spec does not even elaborate. Each property is tried in one case.
    """
    rows = chosen(names)
    values = st.tuples(
        random_specs(random=random), st.tuples(*(row.cases for row in rows))
    )
    return search(values, lambda v: _attempt(v, rows, build), examples, seed)


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


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="seqdsl.testing.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--property", action="append", dest="names")
    given = parser.parse_args()
    found = fuzz(given.examples, given.seed, given.names or DEFAULT)
    print(found if found is not None else f"{given.examples} specs, nothing broke")
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main())
