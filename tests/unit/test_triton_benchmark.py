"""The benchmark for a GPU, run without one: in Triton's interpreter at toy sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is there for Linux only")
pytest.importorskip("matplotlib", reason="it draws the plot")

from benchmarks.gpu import main


def test_benchmark_runs_from_end_to_end(tmp_path: Path) -> None:
    assert main(["simple_gla", "hgrn", "-o", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert [row["operation"] for row in result["rows"]] == ["simple_gla", "hgrn"]
    for row in result["rows"]:
        assert row["checked"]["fine"]
        assert all(ms["seqdsl"] > 0 for ms in row["ms"].values())
        assert all("bandwidth limit" in ms for ms in row["ms"].values())
    assert "torch.compile" in result["rows"][0]["ms"]["with backward"]
    table = (tmp_path / "gpu.md").read_text("utf-8")
    assert "| simple_gla | 1, 20, 1, 16, 16 |" in table and "mean nothing" in table
    assert (tmp_path / "gpu.svg").read_text("utf-8").lstrip().startswith("<?xml")
