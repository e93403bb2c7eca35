"""No verdict promises too much: random recurrences against the interpreter.

`python -m seqdsl.testing.soundness --examples 100000 --seed 0` grows recurrences,
analyzes them and compares every update that is called affine (or an element of a
monoid) with its normal form on random values in float64; of monoids it also checks that
combine is associative and does what two steps do, and of steps that commute that they may
be permuted. It prints how often each operator,
structure and semiring occurred, and exits with 1 where a verdict is wrong.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import torch

from seqdsl.analysis import Analyzed, Verdict, analyze
from seqdsl.analysis.verdict import monoid_name
from seqdsl.diagnostics import SpecError
from seqdsl.differentiate.broadcast import shaped
from seqdsl.elaborate import elaborate_text
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.ops import ALONGS, MAPS, REDUCTIONS
from seqdsl.ir.types import Type
from seqdsl.ir.walk import subtree
from seqdsl.testing.commuting import check_commutes
from seqdsl.testing.monoids import Steps, Values
from seqdsl.testing.normal_forms import check_normal_forms, run_on_noise
from seqdsl.testing.recurrences import HEADER, OPTIONS, recurrence

BATCH = 6
"""Recurrences in one layer: they share the cost of a run."""

STRUCTURES = (
    "identity real",
    "scalar real",
    "diagonal real",
    "low_rank real",
    "scalar_plus_low_rank real",
    "diagonal_plus_low_rank real",
    "dense real",
    *(f"identity {s}" for s in ("log", "max_plus", "min_plus", "boolean")),
    *(f"diagonal {s}" for s in ("log", "max_plus", "min_plus", "max_min", "boolean")),
    *(f"dense {s}" for s in ("log", "max_plus", "min_plus")),
    "monoid clamp",
    "monoid table",
    "monoid fraction",
    "monoid scaled",
    "monoid largest",
    "none",
    "sequential",
)
OPERATORS = (
    *MAPS,
    *REDUCTIONS,
    *ALONGS,
    *["rename", "split", "merge", "roll", "gather"],
)


@dataclass
class Report:
    """What was tried: counts by structure and operator, and the wrong verdicts."""

    examples: int = 0
    refused: int = 0
    compared: int = 0
    permuted: int = 0
    structures: Counter[str] = field(default_factory=Counter[str])
    operators: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])

    def add(self, other: Report) -> None:
        """Takes up another one."""
        self.examples += other.examples
        self.refused += other.refused
        self.compared += other.compared
        self.permuted += other.permuted
        self.structures += other.structures
        self.operators += other.operators
        self.wrong += other.wrong

    def text(self) -> str:
        """What the command prints."""
        missing = [s for s in STRUCTURES if not self.structures[s]]
        missing += [o for o in OPERATORS if not self.operators[o]]
        lines = [
            (
                f"{self.examples} recurrences, {self.compared} normal forms compared, "
                f"{self.permuted} orders of steps permuted, {self.refused} ill-typed"
            ),
            "structures: " + _counts(self.structures),
            "operators:  " + _counts(self.operators),
            f"never met:  {', '.join(missing) or 'nothing'}",
            *self.wrong,
            f"{len(self.wrong)} wrong",
        ]
        return "\n".join(lines)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counter.most_common())


def check(examples: int, seed: int, workers: int = 1) -> Report:
    """Tries `examples` random recurrences; the same for the same seed."""
    batches = range((examples + BATCH - 1) // BATCH)
    run = partial(_batch, seed)
    report = Report()
    if workers == 1:
        for number in batches:
            report.add(run(number))
        return report
    with ProcessPoolExecutor(workers, initializer=_alone) as pool:
        for found in pool.map(run, batches, chunksize=50):
            report.add(found)
    return report


def _alone() -> None:
    torch.set_num_threads(1)


def _batch(seed: int, number: int) -> Report:
    """Several recurrences in one layer; one by one where something is the matter."""
    random = Random(f"{seed} {number}")
    made = [recurrence(random, i) for i in range(BATCH)]
    try:
        return _layer(made, number)
    except (SpecError, AssertionError):
        report = Report()
        for one in made:
            report.add(_single(one, number))
        return report


def _single(made: tuple[str, tuple[str, ...]], number: int) -> Report:
    try:
        return _layer([made], number)
    except SpecError:
        return Report(examples=1, refused=1)
    except AssertionError as error:
        text = "\n    ".join((str(error).splitlines()[0], *made[1]))
        # Chance and rounding spoil one run, not all of them.
        failed = sum(not _holds(made, number + i) for i in range(1, 4))
        return Report(examples=1, wrong=[text] if failed > 1 else [])


def _holds(made: tuple[str, tuple[str, ...]], number: int) -> bool:
    try:
        _layer([made], number)
    except AssertionError:
        return False
    return True


def _layer(made: Sequence[tuple[str, tuple[str, ...]]], seed: int) -> Report:
    lines = [line for _, body in made for line in body]
    lines += [f"output {name}" for name, _ in made]
    model = elaborate_text(HEADER + "".join(f"    {line}\n" for line in lines))
    analyzed = analyze(model)
    compared = check_normal_forms(analyzed, OPTIONS, seed)
    permuted = check_commutes(analyzed, OPTIONS, seed)
    for verdict in analyzed.verdicts:
        if isinstance(verdict.monoid, ir.Monoid):
            _check_scan(analyzed, verdict, seed)
        elif verdict.monoid is not None:
            _check_laws(analyzed, verdict, seed)
    return Report(
        examples=len(made),
        compared=compared,
        permuted=permuted,
        structures=Counter(_structure(v) for v in analyzed.verdicts),
        operators=Counter(_operators(model.equations)),
    )


def _structure(verdict: Verdict) -> str:
    more = monoid_name(verdict.monoid) or verdict.semiring
    return f"{verdict.structure} {more}" if verdict.structure else verdict.verdict


def _operators(equations: Iterable[ir.Equation]) -> Iterable[str]:
    for equation in equations:
        for node in subtree(equation.expr):
            match node:
                case ir.Map(op=op) | ir.Reduce(op=op) | ir.Along(op=op):
                    yield op
                case _:
                    yield type(node).__name__.lower()


def _check_laws(analyzed: Analyzed, verdict: Verdict, seed: int) -> None:
    """Associativity, and that the combined step is one after the other."""
    steps = Steps(analyzed.model, verdict, OPTIONS)
    make = torch.Generator().manual_seed(seed)
    a, b, c = (steps.random(make) for _ in range(3))
    state = steps.random_states(make)
    left = steps.combine(steps.combine(a, b), c)
    right = steps.combine(a, steps.combine(b, c))
    assert _same(left, right), "combine is not associative"
    after = steps.apply(b, steps.apply(a, state))
    assert _same(steps.apply(steps.combine(a, b), state), after), "combine is wrong"


def _check_scan(analyzed: Analyzed, verdict: Verdict, seed: int) -> None:
    """What the combined steps of the layer make of the first states is what its loop does."""
    steps = Steps(analyzed.model, verdict, OPTIONS)
    types = {n: analyzed.model.equation[n].expr.type for n in verdict.recurrence.states}
    outputs = [(s, build.ref(s, t)) for s, t in types.items()]
    leaf = list(zip(verdict.leaf, steps.leaf, strict=True))
    outputs += [(f"#{i}", steady(n, t)) for i, (n, t) in enumerate(leaf)]
    model = replace(
        analyzed.model,
        outputs=tuple(ir.Output(name=n, expr=e) for n, e in outputs),
    )
    values = run_on_noise(model, OPTIONS, torch.Generator().manual_seed(seed))
    states = [[values[s][:, t : t + 1] for s in types] for t in range(3)]
    made = [[values[f"#{i}"][:, t : t + 1] for i in range(len(leaf))] for t in range(3)]
    both = steps.combine(tuple(made[1]), tuple(made[2]))
    after = steps.apply(both, tuple(states[0]))
    assert _same(after, tuple(states[2])), "combined steps are not the loop"


def steady(node: ir.Node, type_: Type) -> ir.Node:
    """`node` with all dims of `type_`, along every step of every sequence."""
    zero = build.map_("mul", build.position("t", axis=True), build.const(0))
    each = build.map_(
        "mul", build.ref("a", Type("float", (), type_.axes)), build.const(0)
    )
    return shaped(build.map_("add", node, build.map_("add", each, zero)), type_.dims)


def _same(a: Values, b: Values) -> bool:
    pairs = zip(a, b, strict=True)
    return all(
        bool((~torch.isfinite(y) | torch.isclose(x.double(), y.double())).all())
        for x, y in pairs
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    report = check(given.examples, given.seed, given.workers)
    print(report.text())
    return 1 if report.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
