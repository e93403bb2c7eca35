"""Tuning: what is left of a space, what is found fastest, and that it is kept."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is there for Linux only")

import torch
import triton
from test_triton_binaries import without_interpreter

from seqdsl.backends.triton import tune
from seqdsl.backends.triton.launch.delta import delta_products
from seqdsl.backends.triton.launch.outer import decayed_products
from seqdsl.backends.triton.launch.tiles import TUNED, Key, Tiles, key_of, tiles_of

KEYS = [
    key_of(family, kind, direction, K, 2 * K)
    for family, direction in tune.SPACE
    for kind in ("scalar", "channel")
    for K in (16, 64, 200)
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_tiles_that_are_taken_untuned_are_in_the_space(key: Key) -> None:
    found = tune.matching(key, {})
    tiles = tiles_of(*key)
    assert tiles in found
    assert all(t.rows <= key[3] and t.columns <= key[4] for t in found)
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

    want, key = call(), key_of(family, "scalar", "forward", 16, 16)
    seen = set[int]()
    for tiles in tune.matching(key, {}):
        if tiles.chunk not in seen:
            seen.add(tiles.chunk)
            TUNED[key] = tiles
            try:
                torch.testing.assert_close(call(), want, atol=1e-5, rtol=1e-5)
            finally:
                del TUNED[key]
    assert len(seen) == 2


def test_the_fastest_is_kept(tmp_path: Path) -> None:
    key = key_of("outer", "scalar", "forward", 64, 64)
    choices, cache = tune.matching(key, {}), tmp_path / "tuned" / "sm_90.json"
    times = {t: 1.0 + abs(i - 3) for i, t in enumerate(choices)}
    timed = list[Tiles]()

    def timer(_: object) -> float:
        timed.append(tiles_of(*key))
        return times[timed[-1]]

    try:
        for _ in range(2):  # the second time the file knows
            assert tune.tune(key, lambda: None, choices, cache, timer) == choices[3]
            assert tiles_of(*key) == choices[3]
            assert timed == choices
            del TUNED[key]
    finally:
        TUNED.pop(key, None)
    assert tune.load(cache) == {key: choices[3]}


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
