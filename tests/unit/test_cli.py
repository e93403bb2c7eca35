"""The command line: what it prints, what it writes, how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from typer.models import OptionInfo
from typer.testing import CliRunner

import seqdsl as api
from seqdsl.cli import app
from seqdsl.elaborate.program import std_names

MINGRU = """\
layer MinGRU(D, H = D):
    input x: [D]
    state h: [H] = 0
    z = sigmoid(linear(x, H))
    h = (1 - z) * h[t-1] + z * linear(x, H)
    output h
"""
GRU = """\
layer Cell(D):
    input x: [D]
    state h: [D] = 0
    h = tanh(linear(x, D) + linear(h[t-1], D))
    output h
"""
WRONG = "layer L(D):\n    input x: [D]\n    output x + y\n    output z = w\n"


@dataclass(frozen=True)
class Run:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


def seqdsl(*arguments: str) -> Run:
    """Run a command in this process."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Run(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder with three specs."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("mingru", MINGRU), ("gru", GRU), ("wrong", WRONG)):
        Path(f"{name}.seq").write_text(text)
    Path("both.seq").write_text(f"{GRU}\n{MINGRU}")
    return tmp_path


# ---- check


def test_check_says_the_verdict_of_each_recurrence() -> None:
    run = seqdsl("check", "both.seq")
    assert run.code == 0
    first, second = run.out.splitlines()
    assert first.startswith("both.seq: Cell: h over t: sequential")
    assert second.startswith("both.seq: MinGRU: h over t: scannable, diagonal")


def test_check_of_one_layer_leaves_the_others_out() -> None:
    assert len(seqdsl("check", "both.seq:MinGRU").out.splitlines()) == 1


def test_check_reports_all_mistakes_and_goes_on() -> None:
    run = seqdsl("check", "wrong.seq", "mingru.seq")
    assert run.code == 1
    assert run.err.count("E0101") == 4  # each has a header and a `more` line
    assert "wrong.seq:3:16" in run.err and "wrong.seq:4:16" in run.err
    assert run.out.startswith("mingru.seq: MinGRU")


def test_short_is_one_line_a_finding() -> None:
    run = seqdsl("check", "--short", "wrong.seq")
    assert [line.split(": ")[0] for line in run.err.splitlines()] == [
        "wrong.seq:3:16",
        "wrong.seq:4:16",
    ]


def test_check_json() -> None:
    run = seqdsl("check", "--json", "wrong.seq", "gru.seq", "nowhere.seq")
    assert run.code == 2
    wrong, gru, nowhere = run.json["files"]
    assert [d["code"] for d in wrong["diagnostics"]] == ["E0101", "E0101"]
    assert (wrong["ok"], gru["ok"]) == (False, True)
    (recurrence,) = gru["layers"][0]["recurrences"]
    assert recurrence["verdict"] == "sequential"
    assert recurrence["reasons"][0]["line"] == 4
    assert nowhere["error"] == "No such file or directory"


# ---- explain


def test_explain_shows_the_reason_in_the_users_line() -> None:
    run = seqdsl("explain", "gru.seq")
    assert run.code == 0
    assert "h = tanh(linear(x, D) + linear(h[t-1], D))" in run.out
    assert "^^^^" in run.out


def test_explain_json_has_the_keys_that_are_promised() -> None:
    found = seqdsl("explain", "--json", "mingru.seq").json
    assert found["layer"] == "MinGRU"
    (recurrence,) = found["recurrences"]
    expected = {
        "states": ["h"],
        "axis": "t",
        "direction": "forward",
        "verdict": "scannable",
        "structure": "diagonal",
        "rank": None,
        "semiring": "real",
        "invariant": False,
        "chosen": "scan",
        "reasons": [],
    }
    assert {key: recurrence[key] for key in expected} == expected
    assert set(recurrence["strategies"]) >= {"loop", "scan"}


def test_explain_of_a_code_prints_its_page() -> None:
    run = seqdsl("explain", "e0201")
    assert run.out.startswith("# E0201: ")
    assert seqdsl("explain", "--json", "E0201").json["page"] == run.out
    assert seqdsl("explain", "E9999").code == 2


# ---- show, compile, viz


@pytest.mark.parametrize(
    ("stage", "part"),
    [
        ("ast", "StateStmt(name = 'h')"),
        ("ir", "h: float [H] over batch t = (1 - z) * h[t-1]"),
        ("verdict", '"structure": "diagonal"'),
        ("schedule", "h = scan forward in real: 1 - z then z *"),
        ("adjoint", "d_h_prev: float [H] over batch t = (1 - z) * d_h"),
        ("torch", "class MinGRU("),
    ],
)
def test_show_prints_a_stage(stage: str, part: str) -> None:
    run = seqdsl("show", "mingru.seq", "--stage", stage)
    assert run.code == 0
    assert part in run.out


@pytest.mark.parametrize("stage", ["tpu", "nonsense"])
def test_a_stage_that_does_not_exist_is_a_wrong_call(stage: str) -> None:
    run = seqdsl("show", "mingru.seq", "--stage", stage)
    assert (run.code, run.out) == (2, "")
    assert stage in run.err


def test_compile_writes_a_module_that_stands_alone(folder: Path) -> None:
    run = seqdsl("compile", "mingru.seq", "--set", "D=4", "-o", "m.py", "--json")
    assert run.code == 0
    assert run.json == {"files": ["m.py"], "diagnostics": []}
    script = (
        "import sys, torch, m\n"
        "y = m.MinGRU(D=4)(torch.randn(2, 3, 4))\n"
        "assert y.shape == (2, 3, 4)\n"
        "assert not any(name.startswith('seqdsl') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)


def test_compile_writes_nothing_when_it_fails(folder: Path) -> None:
    before = sorted(folder.iterdir())
    assert seqdsl("compile", "wrong.seq", "-o", "m.py").code == 1
    assert seqdsl("compile", "mingru.seq", "--target", "mlir", "-o", "m.py").code == 2
    nowhere = seqdsl("compile", "mingru.seq", "-o", "no/such/folder/m.py")
    assert nowhere.code == 2
    assert "no/such/folder/m.py: No such file" in nowhere.err
    assert sorted(folder.iterdir()) == before


def test_compile_keeps_an_old_file_when_it_fails() -> None:
    Path("m.py").write_text("old")
    assert seqdsl("compile", "wrong.seq", "-o", "m.py").code == 1
    assert Path("m.py").read_text() == "old"


@pytest.mark.parametrize("option", ["D", "=4", "D=", "1=2", "Q=4", "H=0", "H=1.5"])
def test_a_wrong_option_is_a_wrong_call(option: str) -> None:
    arguments = ("--set", option, "--set", "D=4")
    assert seqdsl("compile", "mingru.seq", *arguments).code == 2


def test_options_that_show_a_value_have_names_of_their_own() -> None:
    """Some versions of typer make a name of the word for the value: `--CASE`."""
    commands = [c.callback for c in app.registered_commands if c.callback is not None]
    shown = [
        (command.__name__, name)
        for command in commands
        for name, hint in get_type_hints(command, include_extras=True).items()
        for said in getattr(hint, "__metadata__", ())
        if isinstance(said, OptionInfo) and said.metavar and said.default is ...
    ]  # of an annotation the first name stands where the default would
    assert len(commands) > 5 and not shown


def test_viz_draws_every_value() -> None:
    assert seqdsl("viz", "mingru.seq", "-o", "m.svg").code == 0
    from xml.etree import ElementTree

    root = ElementTree.parse("m.svg").getroot()
    texts = {element.text for element in root.iter() if element.text}
    assert {"x", "z", "h", "output h", "[t-1]"} <= texts


# ---- test


def test_test_says_which_properties_hold() -> None:
    arguments = ("test", "gru.seq", "--property", "steps_equal_forward")
    run = seqdsl(*arguments, "--examples", "2")
    assert run.code == 0
    assert run.out.startswith("steps_equal_forward  ok\n")
    (row,) = seqdsl(*arguments, "--examples", "2", "--json").json["properties"]
    assert row["holds"] is True


@pytest.mark.parametrize(
    "arguments",
    [("--property", "none"), ("--case", "a=b"), ("--target", "none"), ("--set", "Q=1")],
)
def test_test_refuses_a_wrong_call(arguments: tuple[str, str]) -> None:
    assert seqdsl("test", "gru.seq", *arguments).code == 2


# ---- fmt, list, new


def test_fmt_check_changes_nothing_and_fmt_does() -> None:
    ugly = MINGRU.replace(" = sig", "=sig")
    Path("ugly.seq").write_text(ugly)
    run = seqdsl("fmt", "--check", "ugly.seq", "mingru.seq")
    assert (run.code, run.out) == (1, "would reformat ugly.seq\n")
    assert Path("ugly.seq").read_text() == ugly
    assert seqdsl("fmt", "ugly.seq").out == "reformatted ugly.seq\n"
    assert Path("ugly.seq").read_text() == MINGRU
    assert seqdsl("fmt", "--check", "ugly.seq").code == 0


def test_fmt_leaves_a_file_with_mistakes_alone() -> None:
    Path("bad.seq").write_text("layer L(D)\n    output 1\n")
    run = seqdsl("fmt", "bad.seq", "mingru.seq")
    assert run.code == 1
    assert "E0020" in run.err
    assert Path("bad.seq").read_text() == "layer L(D)\n    output 1\n"


def test_list_finds_by_name_summary_and_citation() -> None:
    found = seqdsl("list", "std.gla:*", "--json").json
    assert [entry["name"] for entry in found] == ["std.gla:GLA"]
    assert found[0]["verdict"] == "scannable: diagonal"
    assert found[0]["citation"] == "Yang et al. 2023"
    assert seqdsl("list", "Yang et al. 2023").out.startswith("std.gla:GLA ")
    assert "std.gla:GLA" in seqdsl("list", "decay per key channel").out
    assert seqdsl("list", "no such model").code == 2


def test_list_counts_parameters() -> None:
    (entry,) = seqdsl("list", "std.ema:EMA", "--json").json
    assert (entry["parameters"], entry["sizes"]) == (64, {})
    for pattern, layer in (("std.mamba:*", "mamba"), ("std.language*", None)):
        (entry,) = seqdsl("list", pattern, "--json").json
        std = api.std
        made = std.mamba.Mamba() if layer else std.language_model.LanguageModel()
        assert entry["parameters"] == sum(p.numel() for p in made.parameters())
    (entry,) = seqdsl("list", "std.parts:GeGLU", "--json").json
    assert entry["sizes"] == {"D": 16}


def test_all_of_the_library_is_listed_in_full() -> None:
    everything = seqdsl("list", "--json").json
    assert {e["name"].split(":")[0] for e in everything} == {
        f"std.{name}" for name in std_names()
    }
    assert all(entry["summary"] and entry["verdict"] for entry in everything)
    # parts and shells are no one's paper
    cited = [entry for entry in everything if entry["citation"]]
    assert len(cited) > 0.8 * len(everything)


def test_every_file_that_list_names_can_be_checked() -> None:
    for name in std_names():
        run = seqdsl("check", f"std.{name}")
        assert (run.code, run.err) == (0, ""), name


def test_new_makes_a_spec_whose_test_passes(folder: Path) -> None:
    assert seqdsl("new", "my_cell").code == 0
    assert seqdsl("check", "my_cell.seq").code == 0
    assert seqdsl("fmt", "--check", "my_cell.seq").code == 0
    command = [sys.executable, "-m", "pytest", "-q", "test_my_cell.py"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    text = Path("my_cell.seq").read_text()
    assert seqdsl("new", "my_cell").code == 2
    assert Path("my_cell.seq").read_text() == text
    assert seqdsl("new", "../elsewhere").code == 2


# ---- the call


@pytest.mark.parametrize("command", ["check", "explain", "show", "compile", "fmt"])
def test_a_file_that_is_not_there_is_a_wrong_call(command: str) -> None:
    run = seqdsl(command, "nowhere.seq")
    assert run.code == 2
    assert "nowhere.seq" in run.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "mingru.seq", "--layer", "MinGru"),
        ("explain", "mingru.seq:MinGru"),
        ("check", "mingru.seq:MinGru"),
    ],
)
def test_an_unknown_layer_is_a_wrong_call(arguments: tuple[str, ...]) -> None:
    run = seqdsl(*arguments)
    assert run.code == 2
    assert "did you mean MinGRU?" in run.err


def test_the_layer_is_the_last_one_unless_named() -> None:
    assert seqdsl("explain", "--json", "both.seq").json["layer"] == "MinGRU"
    chosen = seqdsl("explain", "--json", "both.seq", "--layer", "Cell").json
    assert chosen["layer"] == "Cell"
    assert seqdsl("explain", "--json", "both.seq:Cell").json["layer"] == "Cell"


def test_an_unknown_part_of_the_library_is_a_wrong_call() -> None:
    run = seqdsl("check", "std.min_gru")
    assert run.code == 2
    assert "did you mean `mingru`?" in run.err


def test_an_empty_file_has_nothing_to_explain() -> None:
    Path("empty.seq").write_text("")
    assert seqdsl("check", "empty.seq").code == 0
    run = seqdsl("explain", "empty.seq", "--json")
    assert run.code == 2
    assert run.json["error"] == "empty.seq has no layer"


def test_output_survives_a_narrow_encoding_and_a_closed_pipe(folder: Path) -> None:
    Path("wide.seq").write_text(
        "layer L(D):\n    input 状: [D]\n    output 態\n", "utf-8"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "seqdsl", "check", "wide.seq"]
    run = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "\\u614b" in run.stderr
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "seqdsl", "show", "gru.seq", "--stage", "ast"]
    closed = subprocess.run(
        command, cwd=folder, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert closed.stderr == b""


def test_check_starts_with_little_work(folder: Path) -> None:
    script = (
        "from effort import calls\n"
        "def run():\n"
        "    from seqdsl.cli import app\n"
        "    try: app(['check', 'gru.seq'])\n"
        "    except SystemExit: pass\n"
        "print(calls(run))\n"
    )
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    # Start of the interpreter left out; a core makes some five million calls a second.
    assert int(run.stdout.splitlines()[-1]) < 600_000


def test_a_file_without_layers_is_named(folder: Path) -> None:
    (folder / "notes.seq").write_text("# nothing yet\n")
    result = seqdsl("check", "notes.seq")
    assert (result.code, result.out) == (0, "notes.seq: no layer\n")


def test_fmt_goes_on_after_a_file_that_is_not_there(folder: Path) -> None:
    (folder / "wide.seq").write_text("layer A(D):\n    input   x: [D]\n    output x\n")
    result = seqdsl("fmt", "missing.seq", "wide.seq")
    assert result.code == 2
    assert "input x: [D]" in (folder / "wide.seq").read_text()
