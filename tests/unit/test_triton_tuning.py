"""Tuning: what is left of a space, what is found fastest, and that it is kept."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import seqdsl

pytest.importorskip("triton", reason="Triton is there for Linux only")

import torch
import triton
from test_triton_binaries import without_interpreter

from seqdsl.backends.triton import tune
from seqdsl.backends.triton.launch import tuning
from seqdsl.backends.triton.launch.delta import delta_products
from seqdsl.backends.triton.launch.outer import decayed_products, outer
from seqdsl.backends.triton.launch.tiles import TUNED, Key, Tiles, key_of, tiles_of

FLAT = ("scan", "loop")  # families without keys and values
KEYS = [
    key_of(family, kind, direction, K, 2 * K)
    for family, direction in tuning.SPACE
    for kind in (("scalar",) if family in FLAT else ("scalar", "channel"))
    for K in (16, 64, 200)
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_tiles_that_are_taken_untuned_are_in_the_space(key: Key) -> None:
    found = tuning.matching(key, {})
    tiles = tiles_of(key)
    assert tiles in found
    assert key[0] == "scan" or all(t.rows <= key[3] for t in found)
    assert all(t.columns <= max(key[4], 32) for t in found)
    assert len(tune.configs(key)) == len(found)


@pytest.mark.parametrize("family", ["outer", "delta"])
def test_any_tiles_compute_the_same(family: str) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 70, 1, 16) for _ in range(3))
    k = torch.nn.functional.normalize(k, dim=-1)
    g = -torch.rand(1, 70, 1)

    def call() -> torch.Tensor:
        if family == "outer":
            return decayed_products(q, k, v, g)[0]
        return delta_products(q, k, -k, v, g)[0]

    want, key = call(), key_of(family, "scalar", "forward", 16, 16, 4, 70)
    seen = set[int]()
    for tiles in tuning.matching(key, {}):
        if tiles.chunk not in seen:
            seen.add(tiles.chunk)
            TUNED[key] = tiles
            try:
                torch.testing.assert_close(call(), want, atol=1e-5, rtol=1e-5)
            finally:
                del TUNED[key]
    assert len(seen) == 2


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Tiles]:
    """Tuning at run time as if there were a GPU; the tiles that are timed, in order."""
    timed = list[Tiles]()

    def timer(call: tuning.Call) -> float:
        call()
        (tiles,) = TUNED.values()
        timed.append(tiles)
        if tiles.columns == 64:
            raise RuntimeError("does not fit")
        return (
            abs(tiles.columns - 32) + abs(tiles.warps - 8) + tiles.chunk + tiles.stages
        )

    TUNED.clear()
    monkeypatch.setattr(tuning, "_asked", lambda _: True)  # pyright: ignore
    monkeypatch.setattr(tuning, "milliseconds", timer)
    monkeypatch.setattr(tuning, "kept_at", lambda _: tmp_path / "tuned" / "chip.json")  # pyright: ignore
    return timed


def test_the_first_call_finds_the_fastest_and_keeps_it(
    asked: list[Tiles], tmp_path: Path
) -> None:
    key, best = (
        key_of("outer", "scalar", "forward", 16, 64, 4),
        Tiles(32, 16, 32, 8, 1),
    )
    q, k, v = (torch.randn(1, 5, 1, n) for n in (16, 16, 64))
    want = decayed_products(q, k, v, None, keep=False)[0]
    try:
        TUNED.clear()
        for _ in range(2):
            found = decayed_products(q, k, v, None, keep=False)[0]
            torch.testing.assert_close(found, want)
            assert tiles_of(key) == TUNED[key] == best
        count = len(asked)
        assert count == len(set(asked)) < len(tuning.matching(key, {}))
        TUNED.clear()  # another process: the file knows
        decayed_products(q, k, v, None, keep=False)
        assert TUNED == {key: best} and len(asked) == count
        assert tuning.read_tuned(tmp_path / "tuned" / "chip.json") == {key: best}
    finally:
        TUNED.clear()


def test_loops_are_tuned_by_their_text_and_sizes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = """
layer Cell(H = 2000):
    input x: [H]
    state h: [H] = 0
    h = tanh(x - h[t-1])
    output h
"""
    layer: Any = seqdsl.loads(text).Cell
    mine, loop = layer(target="triton"), layer(target="torch", strategy="loop")
    file: Any = sys.modules[type(mine).__module__]
    timed = list[Any]()

    def timer(call: tuning.Call) -> float:
        call()
        *_, tiles = file.TUNED.values()
        timed.append(tiles)
        return abs(tiles.rows - 1024) + tiles.warps

    monkeypatch.setattr(file, "_asked", lambda _: True)  # pyright: ignore
    monkeypatch.setattr(file, "milliseconds", timer)
    monkeypatch.setattr(file, "kept_at", lambda _: tmp_path / "chip.json")  # pyright: ignore
    for batch, time in ((1, 3), (1, 50), (1, 70), (5, 3)):
        x = torch.randn(batch, time, 2000)
        with torch.no_grad():
            torch.testing.assert_close(mine(x), loop(x), atol=1e-5, rtol=1e-5)
    keys = list(file.TUNED)
    assert [(k.time, k.sequences) for k in keys] == [(64, 1), (256, 1), (64, 16)]
    assert (
        all("H=2000" in k.kernel for k in keys) and len({k.kernel for k in keys}) == 1
    )
    assert {(t.rows, t.warps) for t in file.TUNED.values()} == {(1024, 1)}
    assert len({t.rows for t in timed}) > 3 and len({t.warps for t in timed}) == 5


def test_shapes_in_a_graph_do_not_change(asked: list[Tiles]) -> None:
    """What a trace has seen is not tuned afterwards."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    x = torch.randn(1, 5, 1, 16)
    try:
        TUNED.clear()
        with FakeTensorMode() as mode:
            outer(*[mode.from_tensor(x)] * 3, None, None, 1.0, 0, False)
        decayed_products(x, x, x, keep=False)
        assert not asked and len(TUNED) == 2
    finally:
        TUNED.clear()


def test_a_file_that_cannot_be_read_is_written_anew(tmp_path: Path) -> None:
    cache = tmp_path / "chip.json"
    for text in ("", "{", "[1]", '[{"family": "outer"}]'):
        cache.write_text(text)
        assert tuning.read_tuned(cache) == {}
    key, tiles = key_of("delta", "channel", "backward", 64, 64), Tiles(16, 32, 32, 4, 1)
    tuning.write_tuned(cache, {key: tiles})
    assert tuning.read_tuned(cache) == {key: tiles}
    assert [p.name for p in tmp_path.iterdir()] == ["chip.json"]


PRUNED = """
import torch
from seqdsl.backends.triton import tune
from seqdsl.backends.triton.launch.outer import decayed_products
from seqdsl.backends.triton.launch.tiles import TUNED, Tiles, key_of
key = key_of("outer", "scalar", "forward", 16, 16)
x = torch.zeros(1, 64, 1, 16, dtype=torch.bfloat16)
g = torch.zeros(1, 64, 1)
choices = [Tiles(32, 16, 16, 4, 1), Tiles(32, 16, 16, 1, 1), Tiles(2048, 16, 16, 4, 1)]
for tiles in tune.pruned(key, lambda: decayed_products(x, x, x, g), "sm_90", choices):
    print(tiles.chunk, tiles.warps)
assert not TUNED
"""


def test_what_does_not_fit_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "pruned.py").write_text(PRUNED)
    lines = without_interpreter(str(tmp_path / "pruned.py")).splitlines()
    assert lines == ["32 4", "32 1"]


def test_configs_suit_triton() -> None:
    @triton.jit
    def kernel(x, C: triton.language.constexpr):  # pyright: ignore
        pass

    key = key_of("delta", "channel", "backward", 64, 64)
    tuned = triton.autotune(configs=tune.configs(key), key=["x"])(kernel)
    assert callable(tuned.run)
