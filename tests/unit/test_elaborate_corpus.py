"""Every passing spec: elaborates without findings, can be planned, says how to be run."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from elaborating import CORPUS, keys
from hypothesis import given
from hypothesis import strategies as st

from seqdsl.elaborate import elaborate, load_file, load_text
from seqdsl.elaborate.calls import BUILTINS
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.text import model_text
from seqdsl.schedule.make import plan
from seqdsl.syntax import ast
from seqdsl.syntax.format import format_spec
from seqdsl.testing.corpus import Directives, passing_specs, read_directives

SPECS = passing_specs(CORPUS)
LAYERS = [(path, decl) for path in SPECS for decl in load_file(path).spec.layers]


def name_of(value: object) -> str:
    """What a test case is called."""
    match value:
        case Path():
            return value.stem
        case ast.LayerDecl(name=name):
            return name
        case _:
            return ""


def made(path: Path, decl: ast.LayerDecl) -> tuple[ir.Model, Directives]:
    """The model of a layer under the options that its file names."""
    directives = read_directives(path.read_text("utf-8"))
    given = directives.options_for(decl)
    return elaborate(load_file(path), decl.name, given).model, directives


@pytest.mark.parametrize(("path", "decl"), LAYERS, ids=name_of)
def test_layer_has_no_findings(path: Path, decl: ast.LayerDecl) -> None:
    given = read_directives(path.read_text("utf-8")).options_for(decl)
    found = elaborate(load_file(path), decl.name, given)
    assert not found.warnings, "\n".join(w.short for w in found.warnings)
    assert found.model.name == decl.name


@pytest.mark.parametrize(("path", "decl"), LAYERS, ids=name_of)
def test_options_of_the_file_are_enough(path: Path, decl: ast.LayerDecl) -> None:
    model, directives = made(path, decl)
    options = directives.options_for(decl)
    bound = bind_sizes(model, options)
    assert all(1 <= extent <= 64 for extent in bound.dims.values())
    for value in model.inputs:
        if value.type.dtype == "int":
            low, high = directives.range_for(decl.name, value.name, bound.options)
            assert low < high


@pytest.mark.parametrize(("path", "decl"), LAYERS, ids=name_of)
def test_layer_has_an_order_of_steps(path: Path, decl: ast.LayerDecl) -> None:
    model, _ = made(path, decl)
    assert plan(model).model.outputs


@pytest.mark.parametrize("path", SPECS, ids=name_of)
def test_file_says_what_it_shows(path: Path) -> None:
    text = path.read_text("utf-8")
    assert re.match(r"# [A-Z]", text)
    program = load_file(path)
    directives = read_directives(text)
    layers = {d.name for d in program.spec.layers}
    options = {o.name for d in program.spec.layers for o in d.options}
    statements = [s for d in program.spec.layers for s in d.body]
    inputs = {s.name for s in statements if isinstance(s, ast.InputStmt)}
    externs = {
        d.name for d in program.spec.declarations if isinstance(d, ast.ExternDecl)
    }
    assert {*directives.options, *directives.ranges} <= {"", *layers}
    assert {n for given in directives.options.values() for n in given} <= options
    assert {n for given in directives.ranges.values() for n in given} <= inputs
    assert set(directives.externs) == externs


def test_every_operator_stands_in_some_spec() -> None:
    text = "\n".join(path.read_text("utf-8") for path in SPECS)
    missing = [b for b in BUILTINS if not re.search(rf"\b{b}[(\[]", text)]
    assert not missing


@pytest.mark.parametrize("path", SPECS, ids=name_of)
def test_formatting_changes_no_model(path: Path) -> None:
    spec = load_file(path).spec
    again = load_text(format_spec(spec), folder=path.parent)
    for decl in spec.layers:
        model, directives = made(path, decl)
        given = directives.options_for(decl)
        same = elaborate(again, decl.name, given).model
        assert model_text(same) == model_text(model)


def shuffled(text: str, rng: random.Random) -> str:
    """The same file with the lines of every layer's body in another order.

    Blocks stay behind the line that opens them, and inputs and outputs among themselves:
    their order is part of the layer's signature.
    """
    parts = re.split(r"(?m)^(?=layer )", text)
    return parts[0] + "".join(_shuffled_layer(p, rng) for p in parts[1:])


def _shuffled_layer(text: str, rng: random.Random) -> str:
    body, _, tail = text.partition("\n\n") if "\n\n" in text else (text, "", "")
    first, *lines = [line for line in body.split("\n") if line.strip()]
    blocks: list[list[str]] = []
    for line in lines:
        if line.startswith(("     ", "    )", "    ]")) and blocks:
            blocks[-1].append(line)
        else:
            blocks.append([line])
    fixed = [b for b in blocks if b[0].split()[0] in ("input", "output")]
    free = [b for b in blocks if b not in fixed and not b[0].lstrip().startswith("#")]
    rng.shuffle(free)
    for block in free:
        if not any(line.startswith((" " * 9, "    )", "    ]")) for line in block):
            inner = [line for line in block[1:] if not line.lstrip().startswith("#")]
            rng.shuffle(inner)
            block[1:] = inner
    for block in fixed:
        place = rng.randrange(len(free) + 1)
        later = [i for i, b in enumerate(free) if b in fixed]
        free.insert(max([place, *(i + 1 for i in later)]), block)
    out = "\n".join(line for block in free for line in block)
    return f"{first}\n{out}\n\n{tail}"


ORDERED = SPECS


@given(st.sampled_from(ORDERED), st.randoms(use_true_random=False))
def test_order_of_lines_does_not_matter(path: Path, rng: random.Random) -> None:
    text = path.read_text("utf-8")
    program = load_text(shuffled(text, rng), folder=path.parent)
    for decl in load_file(path).spec.layers:
        before, directives = made(path, decl)
        given = directives.options_for(decl)
        after = elaborate(program, decl.name, given).model
        assert keys(after) == keys(before)
        assert [o.name for o in after.outputs] == [o.name for o in before.outputs]
        assert {i.name: i.type for i in after.inputs} == {
            i.name: i.type for i in before.inputs
        }
        written = {e.name: e.expr.type for e in before.equations if e.written}
        again = {e.name: e.expr.type for e in after.equations if e.written}
        assert again == written
        bound, same = bind_sizes(before, given), bind_sizes(after, given)
        assert dict(same.dims) == dict(bound.dims)
