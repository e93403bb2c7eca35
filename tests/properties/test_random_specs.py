"""Random specs: they elaborate, they use the whole language, and the torch backend and
kernels compute what the reference does.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import Phase, given, seed, settings

from seqdsl.elaborate import elaborate_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.ops import ALONGS, MAPS, REDUCTIONS
from seqdsl.ir.walk import roots, subtree
from seqdsl.native.load import available
from seqdsl.testing.check import UNHEALTHY
from seqdsl.testing.fuzz import TARGETS, fuzz
from seqdsl.testing.specs import Drawn, random_specs

NODES = frozenset(ir.Node.__args__) - {ir.ExternCall}
"""Every kind of node but the extern call, whose function no spec can give."""


def _used(model: ir.Model) -> Iterator[object]:
    found = [*roots(model)]
    found += [p.init.expr for p in model.params if p.init.expr is not None]
    for root in found:
        for node in subtree(root):
            yield type(node)
            match node:
                case ir.Map(op=op) | ir.Reduce(op=op) | ir.Along(op=op):
                    yield op
                case _:
                    pass
    for instance in model.instances:
        yield from _used(instance.model)


def test_specs_elaborate_and_reach_every_operator() -> None:
    used: Counter[object] = Counter()
    kinds: Counter[str] = Counter()

    @seed(0)
    @settings(
        max_examples=300,
        phases=[Phase.generate],
        suppress_health_check=UNHEALTHY,
    )
    @given(random_specs(random=True, size=10))
    def run(drawn: Drawn) -> None:
        model = elaborate_text(drawn.text)
        used.update(set(_used(model)))
        kinds.update(s.type.dtype for s in model.states)
        kinds["later"] += not drawn.causal
        kinds["halting"] += any(r.condition is not None for r in model.repeats)
        kinds["outputs"] += len(model.outputs) > 1

    run()
    print(sorted((n, str(k)) for k, n in used.items()))
    assert {*MAPS, *REDUCTIONS, *ALONGS} - set(used) == set()
    assert NODES - set(used) == set()
    wanted = {"bool", "int", "float", "complex", "later", "halting", "outputs"}
    assert wanted - set(+kinds) == set()


@pytest.mark.parametrize("start", range(4))
def test_random_specs_run_as_the_reference_says(start: int) -> None:
    found = fuzz(10, start)
    assert found is None, str(found)


@pytest.mark.skipif(not available(), reason="torch-mlir is not installed")
@pytest.mark.parametrize(("target", "start"), [("mlir", 0), ("mlir", 1), ("auto", 2)])
def test_random_specs_run_in_kernels_as_the_reference_says(
    target: str, start: int
) -> None:
    found = fuzz(8, start, **TARGETS[target])
    assert found is None, str(found)


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="torch-mlir is not installed")
@pytest.mark.parametrize("start", range(20))
def test_many_random_specs_in_kernels(start: int) -> None:
    count = int(os.environ.get("SEQDSL_EXAMPLES", "200"))
    found = fuzz(count, 1000 + start, **TARGETS["mlir"])
    assert found is None, str(found)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(20))
def test_many_random_specs(start: int) -> None:
    count = int(os.environ.get("SEQDSL_EXAMPLES", "200"))
    found = fuzz(count, 1000 + start)
    assert found is None, str(found)
