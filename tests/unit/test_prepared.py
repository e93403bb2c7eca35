"""What was made of a layer is kept between processes, and never taken for another."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import seqdsl
from seqdsl import prepared as module
from seqdsl.native import load
from seqdsl.runtime import cache

SPEC = """\
import scale: scaled
layer Sum(D):
    input x: [D]
    state h: [D] = 0
    h = h[t-1] + scaled(x)
    output h
"""
SCALE = "def scaled(x: [D]):\n    {} * x\n"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what is kept, empty at first."""
    monkeypatch.setenv("SEQDSL_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def spec(tmp_path: Path, kept: Path) -> Path:
    """A file that imports another."""
    (tmp_path / "sum.seq").write_text(SPEC)
    (tmp_path / "scale.seq").write_text(SCALE.format(2))
    return tmp_path / "sum.seq"


def total(layer: Any) -> float:
    """The sum of three ones, as the layer adds them up."""
    return float(layer(D=1, target="torch")(torch.ones(1, 3, 1))[0, -1, 0])


def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing may be parsed or elaborated."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("made again")

    for name in ("elaborate", "load_text", "load_std"):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(module.driver, "load", refuse)


def test_nothing_is_parsed_again(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = seqdsl.load(spec).Sum
    expected = total(first), first(D=1, target="torch").verdicts
    nothing_is_made(monkeypatch)
    again = seqdsl.load(spec)
    assert again.layers == ("Sum",)
    module_ = again.Sum(D=1, target="torch")
    assert (total(again.Sum), module_.verdicts) == expected


def test_the_standard_library_is_kept_too(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(2, 5, 3)
    layer = seqdsl.std.ema.EMA(D=3)
    nothing_is_made(monkeypatch)
    again = seqdsl.std.ema.EMA(D=3)
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(x), layer(x))
    with pytest.raises(AssertionError, match="made again"):
        seqdsl.std.ema.EMA(D=4)


def test_a_change_of_an_imported_file_is_seen(spec: Path) -> None:
    assert total(seqdsl.load(spec).Sum) == 6
    (spec.parent / "scale.seq").write_text(SCALE.format(5))
    assert total(seqdsl.load(spec).Sum) == 15
    (spec.parent / "scale.seq").write_text(SCALE.format(2))
    assert total(seqdsl.load(spec).Sum) == 6


def test_a_file_that_is_gone_is_missed(spec: Path) -> None:
    assert total(seqdsl.load(spec).Sum) == 6
    (spec.parent / "scale.seq").unlink()
    with pytest.raises(seqdsl.SpecError, match="E0102"):
        seqdsl.load(spec)


def test_a_file_that_changes_while_it_is_open_is_read_as_it_is_then(
    spec: Path, kept: Path
) -> None:
    opened = seqdsl.load(spec)
    (spec.parent / "scale.seq").write_text(SCALE.format(5))
    before = total(seqdsl.load(spec).Sum)
    assert total(opened.Sum) in (6, before)
    assert total(seqdsl.load(spec).Sum) == 15


@pytest.mark.parametrize("damage", [b"", b"what nobody pickled"])
def test_what_is_damaged_is_made_again(spec: Path, kept: Path, damage: bytes) -> None:
    assert total(seqdsl.load(spec).Sum) == 6
    for path in kept.iterdir():
        cache.store(path.name, damage)
    assert total(seqdsl.load(spec).Sum) == 6


def test_mistakes_are_found_every_time(kept: Path) -> None:
    wrong = "layer Wrong(D):\n    input x: [D]\n    output y\n"
    for _ in range(2):
        with pytest.raises(seqdsl.SpecError) as found:
            seqdsl.loads(wrong).Wrong(D=2)
        assert found.value.diagnostics[0].code == "E0101"
    assert not list(kept.glob("layer-*"))


def test_without_torch_mlir_layers_run_in_torch_and_say_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "available", lambda: False)
    monkeypatch.setattr(load, "_warned", [])
    with pytest.warns(RuntimeWarning, match="torch-mlir is not installed"):
        layer = seqdsl.std.mingru.MinGRU(D=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seqdsl.std.gru.GRU(D=4, H=4)
    plain = seqdsl.std.mingru.MinGRU(D=4, target="torch", strategy="loop")
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(layer(x), plain(x))
    y, state = layer.step(x[:, 0], layer.initial_state(2))
    torch.testing.assert_close(y, plain(x)[:, 0])
    assert state["h"].shape == (2, 4)
    with pytest.raises(seqdsl.UnsupportedError, match="needs torch-mlir"):
        seqdsl.std.mingru.MinGRU(D=4, target="mlir")
