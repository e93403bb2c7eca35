"""The Python API: specs, layers, modules, and what happens when they are misused."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import seqdsl
from seqdsl.elaborate import elaborate_text

SPEC = """\
layer Average(D, rate = 0.9):
    input x: [D]
    state m: [D] = 0
    m = rate * m[t-1] + (1 - rate) * x
    output m

layer Heads(D, heads, K = D/heads):
    input x: [D]
    output softmax[K](linear(x, [heads, K]))
"""


def test_a_text_becomes_a_module() -> None:
    layer = seqdsl.loads(SPEC).Average(D=2, rate=0.5)
    y = layer(torch.ones(1, 3, 2))
    torch.testing.assert_close(y[0, :, 0], torch.tensor([0.5, 0.75, 0.875]))
    (verdict,) = layer.verdicts
    assert (verdict.verdict, verdict.structure) == ("scannable", "scalar")


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "average.seq"
    path.write_text(SPEC)
    for given in (path, str(path)):
        assert seqdsl.load(given).layers == ("Average", "Heads")


def test_imports_of_a_text_are_found_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "average.seq").write_text(SPEC)
    text = "import average\n\nlayer Use(D):\n    input x: [D]\n    output Average(x)\n"
    layer = seqdsl.loads(text, folder=tmp_path).Use(D=2)
    assert layer(torch.ones(1, 3, 2)).shape == (1, 3, 2)
    with pytest.raises(seqdsl.SpecError, match="E0102"):
        seqdsl.loads(text)


def test_the_standard_library_is_an_attribute() -> None:
    assert "MinGRU" in dir(seqdsl.std.mingru)
    assert "mingru" in dir(seqdsl.std)
    assert seqdsl.load("std.mingru").layers == seqdsl.std.mingru.layers
    layer = seqdsl.std.mingru.MinGRU(D=3)
    assert layer(torch.zeros(1, 2, 3)).shape[:2] == (1, 2)


def test_names_that_do_not_exist_suggest_one_that_does() -> None:
    with pytest.raises(AttributeError, match="did you mean `Average`?"):
        _ = seqdsl.loads(SPEC).average
    with pytest.raises(AttributeError, match="did you mean `mingru`?"):
        _ = seqdsl.std.min_gru
    with pytest.raises(AttributeError, match="loadz"):
        _ = seqdsl.loadz  # pyright: ignore[reportAttributeAccessIssue]
    assert not hasattr(seqdsl.loads(SPEC), "__wrapped__")


@pytest.mark.parametrize(
    ("layer", "options", "code"),
    [
        ("Average", {}, "E0501"),
        ("Average", {"D": 2, "rat": 1}, "E0502"),
        ("Heads", {"D": 10, "heads": 4}, "E0503"),
        ("Average", {"D": 2.5}, "E0503"),
        ("Average", {"D": 0}, "E0505"),
        ("Average", {"D": "two"}, "E0505"),
        ("Average", {"D": None}, "E0505"),
    ],
)
def test_wrong_options_are_refused(
    layer: str, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(seqdsl.SpecError) as caught:
        getattr(seqdsl.loads(SPEC), layer)(**options)
    assert [d.code for d in caught.value.diagnostics] == [code]


def test_a_wrong_spec_raises_with_every_mistake() -> None:
    text = "layer L(D):\n    input x: [D]\n    output x + y\n    output w = z\n"
    with pytest.raises(seqdsl.SpecError) as caught:
        seqdsl.loads(text).L(D=2)
    assert [d.code for d in caught.value.diagnostics] == ["E0101", "E0101"]
    assert "output x + y\n" in str(caught.value)


def test_what_a_target_cannot_do_is_said() -> None:
    spec = seqdsl.loads(SPEC)
    with pytest.raises(seqdsl.UnsupportedError, match="tpu"):
        spec.Average(D=2, target="tpu")
    text = SPEC.replace("layer Average", "layer Gated").replace(
        "rate * m", "sigmoid(x) * m"
    )
    with pytest.raises(seqdsl.UnsupportedError, match="it has loop, scan"):
        seqdsl.loads(text).Gated(D=2, strategy="convolve")
    with pytest.raises(seqdsl.CallError, match="no strategy `fold`; strategies: auto"):
        spec.Average(D=2, strategy="fold")


def test_a_wrong_tensor_is_a_call_error() -> None:
    layer = seqdsl.loads(SPEC).Average(D=2)
    with pytest.raises(seqdsl.CallError, match=r"`x`.*\[batch, time, 2\]"):
        layer(torch.ones(1, 3, 5))


def test_dtype_is_that_of_the_parameters() -> None:
    layer = seqdsl.loads(SPEC).Heads(D=4, heads=2, dtype=torch.float64)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert layer(torch.ones(1, 1, 4, dtype=torch.float64)).dtype == torch.float64


def test_modules_can_be_copied_and_pickled() -> None:
    layer = seqdsl.loads(SPEC).Heads(D=4, heads=2)
    x = torch.randn(1, 3, 4)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(x), layer(x))
        assert other.verdicts == layer.verdicts


def test_an_extern_op_is_bound_when_the_spec_is_loaded() -> None:
    text = (
        "extern twice(x: [D]) -> [D]\n\n"
        "layer Use(D):\n    input x: [D]\n    output twice(x) + 1\n"
    )

    def twice(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    spec = seqdsl.loads(text, externs={"twice": twice})
    torch.testing.assert_close(
        spec.Use(D=2)(torch.ones(1, 1, 2)), torch.full((1, 1, 2), 3.0)
    )


def test_importing_seqdsl_does_not_import_torch() -> None:
    script = "import seqdsl, sys; seqdsl.loads; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_exists() -> None:
    for name in seqdsl.__all__:
        assert getattr(seqdsl, name) is not None
        assert name in dir(seqdsl)


def test_mistakes_can_be_copied_and_pickled() -> None:
    with pytest.raises(seqdsl.SpecError) as caught:
        seqdsl.loads("layer A(D):\n    input x: [D]\n    output y\n    output z\n").A(
            D=2
        )
    error = caught.value
    for other in (copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert str(other) == str(error)
        assert other.diagnostics == error.diagnostics


def test_a_text_without_layers_has_no_model() -> None:
    with pytest.raises(KeyError, match="no layer"):
        elaborate_text("# nothing\n")
