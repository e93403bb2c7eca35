"""What the property kit chooses for a layer: sizes, index ranges, properties."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from seqdsl import testing
from seqdsl.cli import app
from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.bind import bind_sizes
from seqdsl.testing.cases import Case, cases, inputs_for, runs, splits
from seqdsl.testing.layers import replayed, subject
from seqdsl.testing.ranges import int_range
from seqdsl.testing.sizes import option_sets
from seqdsl.testing.traits import traits

HEADS = """
layer Heads(D, heads, K = D/heads, W = 64):
    input x: [D]
    input token: int
    input steps: int per call
    y = x.(D -> [heads, K]) + embed(token, W, [heads, K])
    repeat n in steps:
        state h: [heads, K] = y
        h = tanh(h[n-1])
    output h[n = last]
"""


def test_sizes_fit_together() -> None:
    model = elaborate_text(HEADS)
    found = option_sets(lambda options: model, {}, 8)
    assert found[0] == {"D": 4, "heads": 2, "W": 4}
    assert len({tuple(options.items()) for options in found}) == 8
    for options in found:
        assert bind_sizes(model, options).dims["K"] * int(options["heads"]) == int(
            options["D"]
        )
    (only,) = option_sets(lambda options: model, {"D": 9, "heads": 9}, 1)
    assert only["D"] == 9


def test_options_that_cannot_fit_are_the_users_mistake() -> None:
    model = elaborate_text(HEADS)
    with pytest.raises(SpecError):
        option_sets(lambda options: model, {"D": 7, "heads": 2}, 1)


def test_ints_are_drawn_where_they_index() -> None:
    model = elaborate_text(HEADS)
    bound = bind_sizes(model, {"D": 4, "heads": 2, "W": 3})
    assert int_range(model, bound, "token") == (0, 3)
    assert int_range(model, bound, "steps") == (0, 4)


def test_ints_are_followed_into_sub_layers_and_equations() -> None:
    text = """
layer Inner(V):
    input token: int
    output embed(token, V, 2)
layer Outer(V):
    input a: int
    input b: int
    c = where(a > 0, a, b)
    output Inner(c, V = V) + a
"""
    model = elaborate_text(text)
    bound = bind_sizes(model, {"V": 3})
    assert [int_range(model, bound, n) for n in "ab"] == [(0, 3), (0, 3)]


@pytest.mark.parametrize(
    ("body", "fact"),
    [
        ("output x[t+1]", "ahead"),
        ("output x + x[t = last]", "ahead"),
        ("output sum[s](x[s])", "ahead"),
        ("output max[t](x)", "whole_sequence"),
        ("output mean[s](x[s])", "whole_sequence"),
        ("output x - mean(x)", "mixes_rows"),
        ("output where(x > 0, x, 0)", "jumps"),
        ("output stopgrad(x)", "stops"),
        ("output dropout(x, 0.5)", "draws"),
    ],
)
def test_traits(body: str, fact: str) -> None:
    plain = traits(elaborate_text("layer L(D):\n    input x: [D]\n    output x[t-1]\n"))
    found = traits(elaborate_text(f"layer L(D):\n    input x: [D]\n    {body}\n"))
    if fact == "ahead":
        assert plain.must_stream and not found.must_stream
    else:
        assert getattr(found, fact) and not getattr(plain, fact)


@given(st.data())
def test_pieces_and_segments_cover_a_sequence(data: st.DataObject) -> None:
    time = data.draw(st.integers(0, 9))
    cuts = data.draw(splits(time))
    assert sum(cuts) == time and min(cuts) >= 0
    if time:
        lengths = data.draw(runs(time))
        assert sum(lengths) == time and min(lengths) >= 1
    case = data.draw(cases(segments=True, pieces=True))
    ids = case.segments()
    assert list(ids.shape) == [case.batch, case.time]
    edges = (ids[:, 1:] != ids[:, :-1]).sum(1) + 1
    assert torch.equal(edges, torch.tensor([len(row) for row in case.runs]))


def test_inputs_have_the_declared_form() -> None:
    text = """
layer L(D = 2):
    input x: [D]
    input c: [D] per batch
    input w: [D] per call
    input flag: bool
    input z: complex [D]
    output x + c + w + real(z) * flag
"""
    made = subject(elaborate_text(text))
    found = inputs_for(made, Case(batch=2, time=3, values="large"))
    shapes = {n: list(v.shape) for n, v in found.items()}
    assert shapes == {
        "x": [2, 3, 2],
        "c": [2, 2],
        "w": [2],
        "flag": [2, 3],
        "z": [2, 3, 2],
    }
    assert found["flag"].dtype == torch.bool and found["z"].is_complex()
    assert bool(found["x"].isfinite().all())


def test_the_interpreter_as_a_module_has_the_properties() -> None:
    text = """
layer L(D = 2):
    input x: [D]
    state h: [D] = 0.5
    h = sigmoid(linear(h[t-1], D)) * x + x[t-1]
    output mean[s <= t](h[s])
"""
    made = subject(elaborate_text(text), build=replayed)
    names = ["pieces_equal_whole", "segments_in_pieces", "steps_equal_forward"]
    outcomes = list(testing.check_subject(made, examples=5, names=names))
    assert [o.failure or o.excuse for o in outcomes] == [None] * 3


# ---- The command


SPEC = """
layer Mean(D):
    input x: [D]
    state m: [D] = 0
    m = 0.9 * m[t-1] + 0.1 * x
    output m
"""


def _run(folder: Path, *args: str) -> tuple[int, str]:
    file = folder / "mean.seq"
    file.write_text(SPEC, "utf-8")
    result = CliRunner().invoke(app, ["test", str(file), *args])
    return result.exit_code, result.output


def test_command(tmp_path: Path) -> None:
    row = ["--property", "steps_equal_forward"]
    code, text = _run(tmp_path, *row, "--set", "D=3", "--examples", "2", "--json")
    assert code == 0
    (found,) = json.loads(text)["properties"]
    assert found["property"] == "steps_equal_forward" and found["holds"]
    assert found["options"] == {"D": 3}
    code, text = _run(tmp_path, *row, "--case", "batch=2 time=3")
    assert code == 0 and "1 properties, 0 failed" in text


@pytest.mark.parametrize(
    "args",
    [
        ("--property", "color"),
        ("--case", "color=1"),
        ("--examples", "0"),
        ("--layer", "Men"),
        ("--set", "D=0.5"),
    ],
)
def test_command_called_wrongly(args: tuple[str, ...], tmp_path: Path) -> None:
    assert _run(tmp_path, *args)[0] == 2
