"""`seqdsl bench`: what is measured, what is written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from seqdsl.bench.layer import Setting, workload
from seqdsl.bench.measure import median_times, peak_bytes, with_backward
from seqdsl.cli import app
from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import load_text

QUICK = ("--batch", "1", "--time", "8", "--rounds", "1")


def ways(text: str) -> dict[str, dict[str, object]]:
    return {row["way"]: row for row in json.loads(text)}


def test_every_legal_strategy_is_measured_with_a_peer() -> None:
    ran = CliRunner().invoke(app, ["bench", "std.gru:GRU", *QUICK, "--json"])
    assert ran.exit_code == 0, ran.output
    found = ways(ran.stdout)
    assert {"torch loop", "torch.nn.GRU"} <= found.keys()
    loop = found["torch loop"]
    for key in ("first_ms", "forward_ms", "backward_ms", "step_ms", "peak_mb"):
        value = loop[key]
        assert isinstance(value, float) and value > 0, key


def test_ways_of_which_the_first_gives_no_numbers_are_not_called_equal(
    tmp_path: Path,
) -> None:
    spec = tmp_path / "none.seq"
    spec.write_text(
        "layer None_():\n    input x: []\n    state h: [] = 0\n"
        "    h = 0.5 * h[t-1] + log(-1 - x)\n    output h\n"
    )
    ran = CliRunner().invoke(app, ["bench", str(spec), *QUICK])
    assert ran.exit_code != 0
    assert "nothing to compare" in ran.output


def test_files_are_written_and_feed_the_gallery(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = CliRunner().invoke(app, ["bench", "std.ema", *QUICK, "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    assert {p.name for p in out.iterdir()} == {"bench.md", "bench.json", "bench.png"}
    assert "| torch scan" in (out / "bench.md").read_text()
    command = ["gallery", "ema", "-o", str(tmp_path), "--bench", f"{out}/bench.json"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    assert "torch scan" in (tmp_path / "ema.md").read_text()


def test_a_layer_without_gradients_or_streaming_has_empty_cells(tmp_path: Path) -> None:
    spec = tmp_path / "count.seq"
    spec.write_text(
        "layer Count():\n    input x: int\n    state n: int = 0\n"
        "    n = n[t+1] + x\n    output n\n"
    )
    ran = CliRunner().invoke(app, ["bench", str(spec), *QUICK, "--json"])
    assert ran.exit_code == 0, ran.output
    for row in json.loads(ran.stdout):
        assert row["backward_ms"] is None and row["step_ms"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--time", "0"), "--time is 1 or more"),
        (("--clock", "sun"), "--clock is wall or cpu"),
        (("--set", "Q=1"), "Q"),
        (("--layer", "GRV"), "did you mean GRU"),
    ],
)
def test_wrong_calls_say_so(arguments: tuple[str, ...], said: str) -> None:
    ran = CliRunner().invoke(app, ["bench", "std.gru", *arguments])
    assert ran.exit_code == 2
    assert said in ran.output


def test_options_without_a_default_get_sizes_that_fit() -> None:
    text = "layer L(D, heads, K = D/heads):\n    input x: [D]\n    output linear(x, [heads, K])\n"
    program = load_text(text)
    work = workload(program, "L", {"D": 12}, Setting(batch=1, time=4))
    assert 12 % int(work.options["heads"]) == 0
    with pytest.raises(SpecError):
        workload(program, "L", {"D": 12, "heads": 5}, Setting())


def test_medians_and_memory() -> None:
    ticks = iter(range(100))
    times = median_times({"a": lambda: None, "b": lambda: None}, 3, lambda: next(ticks))
    assert times == {"a": 1e3, "b": 1e3}
    assert peak_bytes(lambda: torch.ones(1000)) == 4000
    assert peak_bytes(lambda: (torch.ones(1000).sum(), torch.ones(10))) < 5000


def test_backward_needs_something_to_differentiate() -> None:
    whole = torch.ones(3, dtype=torch.long)
    assert with_backward(torch.neg, [whole], []) is None
    run = with_backward(torch.neg, [torch.ones(3)], [])
    assert run is not None
    (gradient,) = run()  # pyright: ignore
    torch.testing.assert_close(gradient, -torch.ones(3))


def test_a_layer_that_diverges_is_measured_all_the_same(tmp_path: Path) -> None:
    spec = tmp_path / "wild.seq"
    spec.write_text(
        "layer Wild():\n    input x: []\n    state h: [] = 1\n"
        "    h = 1e30 * h[t-1] + x\n    output h - h[t-1]\n"
    )
    ran = CliRunner().invoke(app, ["bench", str(spec), *QUICK, "--json"])
    assert ran.exit_code == 0, ran.output
    assert all(row["refused"] is None for row in json.loads(ran.stdout))
