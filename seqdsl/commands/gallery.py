"""`gallery`: a page for every file of the standard library, made of what the compiler says.

Nothing on a page is written by hand: the spec, what `explain` prints of each layer, the
picture, the generated torch, the errors that the tests against published code found, and
rows of a benchmark where one is given.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqdsl import driver
from seqdsl.commands.inspect import explain
from seqdsl.commands.library import Entry, entries, matching
from seqdsl.commands.outcome import OK, Request, write_atomically
from seqdsl.commands.produce import viz
from seqdsl.diagnostics import UnsupportedError
from seqdsl.elaborate import Elaborated, elaborate, load_std

TARGETS = ("torch", "mlir", "triton")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """What was measured elsewhere, as rows that name their `layer`."""

    parity: Sequence[Row]
    speed: Sequence[Row]


@dataclass(frozen=True)
class Shown:
    """A layer, and for each target its module or the reason why there is none."""

    entry: Entry
    modules: Mapping[str, str]
    reasons: Mapping[str, str]


def gallery(pattern: str, out: Path, parity: Path | None, bench: Path | None) -> int:
    """Write a page for each file with a layer that matches, and an index of all layers.

    Raises `OSError` where a file cannot be read or written, `CallError` where nothing
    matches.
    """
    measured = Measured(_rows(parity), _rows(bench))
    out.mkdir(parents=True, exist_ok=True)
    shown: list[Shown] = []
    for name in matching(pattern):
        layers = [_shown(name, entry) for entry in entries(name)]
        shown += layers
        text = "\n".join(_page(name, layers, out, measured))
        write_atomically(out / f"{name}.md", text + "\n")
        print(f"wrote {out / f'{name}.md'}", flush=True)
    write_atomically(out / "README.md", "\n".join(_index(shown, measured)) + "\n")
    print(f"wrote {out / 'README.md'}")
    return OK


def _rows(path: Path | None) -> Sequence[Row]:
    return [] if path is None else json.loads(path.read_text("utf-8"))


def _shown(file: str, entry: Entry) -> Shown:
    modules: dict[str, str] = {}
    reasons: dict[str, str] = {}
    elaborated = elaborate(load_std(file), _layer(entry))
    for target in TARGETS:
        try:
            modules[target] = _module(elaborated, target)
        except UnsupportedError as error:
            reasons[target] = " ".join(str(error).split())
    return Shown(entry, modules, reasons)


def _module(elaborated: Elaborated, target: str) -> str:
    """The generated module; `UnsupportedError` says why there is none."""
    if target != "mlir":
        text = "\n".join(driver.artifact(elaborated, target, "auto").files.values())
        if target == "triton" and "@triton.jit" not in text:
            raise UnsupportedError("nothing scans or goes by chunks: it would be torch")
        return text
    from seqdsl.native.artifact import native_artifact

    made = native_artifact(elaborated.model)
    if made.refused:
        loops = "; ".join(dict.fromkeys(made.refused))
        raise UnsupportedError(f"no kernel for a loop of {loops}")
    if not made.regions:
        raise UnsupportedError("no loop along time: there is nothing for a kernel")
    return "\n".join(made.host.files.values())


def _layer(entry: Entry) -> str:
    return entry.name.rpartition(":")[2]


# ---- A page


def _page(
    file: str, layers: Sequence[Shown], out: Path, measured: Measured
) -> Iterator[str]:
    source = load_std(file).spec.source.text
    yield f"# std.{file}\n"
    yield f"{_fenced('seq', source)}\n"
    for shown in layers:
        layer = _layer(shown.entry)
        picture = f"{file}-{layer}.svg"
        _said(lambda name=shown.entry.name, to=out / picture: viz(Request(name), to))
        yield f"## {layer}\n"
        yield f"{shown.entry.summary}. {shown.entry.parameters:,} parameters.\n"
        yield f"![states and flow]({picture})\n"
        explained = _said(lambda name=shown.entry.name: explain(Request(name), False))
        yield f"{_fenced('text', explained)}\n"
        yield from _table("Parity", measured.parity, shown.entry.name)
        yield from _table("Speed", measured.speed, shown.entry.name)
        for target, reason in shown.reasons.items():
            yield f"No {target}: {reason}\n"
        if "torch" in shown.modules:
            code = _fenced("python", shown.modules["torch"])
            yield f"<details><summary>generated torch</summary>\n\n{code}\n\n</details>\n"


def _said(command: Callable[[], int]) -> str:
    """What a command prints, to either stream."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        command()
    return said.getvalue()


def _fenced(kind: str, text: str) -> str:
    return f"```{kind}\n{text.rstrip()}\n```"


def _table(title: str, rows: Sequence[Row], layer: str) -> Iterator[str]:
    """The rows about a layer; what they hold are the columns, but for those that hold nothing."""
    own = [row for row in rows if row["layer"] == layer]
    held = (name for row in own for name, cell in row.items() if cell not in (None, {}))
    columns = [name for name in dict.fromkeys(held) if name != "layer"]
    if not own:
        return
    yield f"{title}\n"
    yield _line(columns)
    yield _line(["---"] * len(columns))
    for row in own:
        yield _line([_cell(row.get(name)) for name in columns])
    yield ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        case _:
            return str(value).replace("|", "/")


# ---- The index


def _index(shown: Sequence[Shown], measured: Measured) -> Iterator[str]:
    yield "# The standard library\n"
    yield "Written by `seqdsl gallery`. A number stands for the reason below the table.\n"
    columns = ["layer", "verdict", "parameters", "source", "parity", *TARGETS]
    yield _line(columns)
    yield _line(["---"] * len(columns))
    reasons: dict[str, int] = {}
    for one in shown:
        marks = [_mark(one, target, reasons) for target in TARGETS]
        entry = one.entry
        file, layer = entry.name.removeprefix("std.").split(":")
        yield _line(
            [
                f"[{layer}]({file}.md)",
                entry.verdict,
                f"{entry.parameters:,}",
                entry.citation,
                _parity(measured.parity, entry.name),
                *marks,
            ]
        )
    yield ""
    for reason, number in reasons.items():
        yield f"{number}. {reason}"


def _mark(shown: Shown, target: str, reasons: dict[str, int]) -> str:
    if target in shown.modules:
        return "yes"
    reason = shown.reasons[target]
    return f"{reasons.setdefault(reason, len(reasons) + 1)}"


def _parity(rows: Sequence[Row], layer: str) -> str:
    """The largest error of the outputs against any oracle, and how many there are."""
    errors = [row["output"] for row in rows if row["layer"] == layer]
    return f"{max(errors):.0e} ({len(errors)})" if errors else ""
