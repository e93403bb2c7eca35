"""The gallery of the library, and that a new layer is one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqdsl.cli import app

ROOT = Path(__file__).parents[2]

FRESH = """\
# Fresh: a leaky sum whose leak reads the data.
# Nobody 2026, "A layer that a test adds".

layer Fresh(D = 64):
    input x: [D]
    a = sigmoid(linear(x, D))
    state h: [D] = 0
    h = a * h[t-1] + x
    output h
"""


def test_a_page_is_what_the_compiler_says(tmp_path: Path) -> None:
    parity = tmp_path / "parity.json"
    rows = [{"layer": "std.path:PaTH", "oracle": "somebody 1.0", "output": 2e-7}]
    parity.write_text(json.dumps(rows))
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps([{"layer": "std.path:PaTH", "forward": "3 ms"}]))
    arguments = ["gallery", "std.path", "-o", str(tmp_path), "--parity", str(parity)]
    result = CliRunner().invoke(app, [*arguments, "--bench", str(bench)])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "path.md").read_text("utf-8")
    assert (ROOT / "stdlib" / "path.seq").read_text("utf-8") in page
    assert "u over t: scannable, scalar plus low rank 1" in page
    assert "| somebody 1.0 | 2e-07 |" in page and "| 3 ms |" in page
    assert (tmp_path / "path-PaTH.svg").read_text("utf-8").startswith("<svg")
    index = (tmp_path / "README.md").read_text("utf-8")
    assert "[PaTH](path.md)" in index and "Yang et al. 2025 | 2e-07 (1) |" in index
    assert "\n1. no kernel for a loop of PaTH: u (values along a copy of time)" in index


def test_measured_parity_is_of_layers_that_exist() -> None:
    rows = json.loads((ROOT / "docs" / "parity.json").read_text("utf-8"))
    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).output)
    assert {row["layer"] for row in rows} <= {entry["name"] for entry in listed}
    assert all(row["output"] < 1e-5 and row["gradient"] < 1e-4 for row in rows)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout whose library has one file more; all else is this one."""
    for name in ("tests", "backends", "grammar", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "seqdsl").mkdir()
    for entry in (ROOT / "seqdsl").iterdir():
        if entry.name not in ("stdlib", "__pycache__"):
            (tmp_path / "seqdsl" / entry.name).symlink_to(entry)
    library = tmp_path / "seqdsl" / "stdlib"
    library.mkdir()
    for entry in (ROOT / "stdlib").iterdir():
        if entry.name != "__pycache__":
            (library / entry.name).symlink_to(entry)
    (tmp_path / "stdlib").symlink_to(library)
    (library / "fresh.seq").write_text(FRESH, "utf-8")
    (tmp_path / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    return tmp_path


def run(tree: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        check=False,
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_layer_is_one_file(tree: Path) -> None:
    line = run(tree, "seqdsl", "list", "std.fresh")
    assert line.split()[:4] == ["std.fresh:Fresh", "scannable:", "diagonal", "4,160"]
    assert line.rstrip().endswith("[Nobody 2026]")
    run(tree, "seqdsl", "gallery", "std.fresh", "-o", "pages")
    assert "class Fresh(nn.Module)" in (tree / "pages" / "fresh.md").read_text("utf-8")
    tests = ["unit/test_stdlib.py", "properties/test_corpus.py"]
    tests = [f"tests/{name}" for name in (*tests, "unit/test_torch_golden.py")]
    options = ["-q", "-p", "no:cacheprovider", "-k", "fresh", "--rootdir", str(tree)]
    found = run(tree, "pytest", *options, *tests)
    assert "4 passed" in found, found


def test_a_new_layer_is_measured_and_shown(tree: Path) -> None:
    sizes = ["--batch", "1", "--time", "4", "--rounds", "1", "-o", "measured"]
    run(tree, "seqdsl", "bench", "std.fresh", *sizes)
    (rows,) = (tree / "measured").glob("*.json")
    bench = ["--bench", str(rows)]
    run(tree, "seqdsl", "gallery", "std.fresh", "-o", "pages", *bench)
    page = (tree / "pages" / "fresh.md").read_text("utf-8")
    assert "class Fresh(nn.Module)" in page and "forward_ms" in page
    assert "| torch loop |" in page
