"""The `seqdsl` command: arguments in, text and exit codes out.

Exit codes: 0 fine, 1 the spec is wrong, 2 the call is wrong. What a command does is in
`seqdsl/commands/`, imported when it runs, so that `check` starts quickly.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from seqdsl.commands import outcome

app = typer.Typer(
    name="seqdsl",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A declarative language and compiler for sequence models.",
)

File = Annotated[str, typer.Argument(metavar="FILE", help="gla.seq, or std.gla:GLA")]
Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="gla.seq, std.gla")]
LayerName = Annotated[str | None, typer.Option("--layer", help="default: the last one")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable output")]
Short = Annotated[bool, typer.Option("--short", help="one line a diagnostic")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="an option of the layer: --set D=64"),
]
Target = Annotated[str, typer.Option(help="torch, mlir or triton")]
Strategy = Annotated[
    str, typer.Option(help="auto, loop, scan, chunk:64, convolve or newton")
]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="OUT")]
Stage = Annotated[
    str,
    typer.Option(
        help="ast, ir, verdict, schedule, adjoint, torch, mlir or triton",
    ),
]


@app.command()
def check(files: Files, json: Json = False, short: Short = False) -> None:
    """Find mistakes; one line a recurrence: its verdict."""
    from seqdsl.commands.inspect import check

    style = outcome.style(json, short)
    raise typer.Exit(outcome.guard(lambda: check(files, style), style))


@app.command()
def explain(
    what: Annotated[str, typer.Argument(metavar="FILE|CODE")],
    layer: LayerName = None,
    sets: Sets = None,
    json: Json = False,
    out: Out = None,
) -> None:
    """Why a verdict is what it is; or a diagnostic's page. With -o, as Markdown."""
    from seqdsl.commands.inspect import explain

    style = outcome.style(json)
    request = outcome.Request(what, layer, tuple(sets or ()))
    raise typer.Exit(outcome.guard(lambda: explain(request, json, out), style))


@app.command()
def show(
    file: File,
    stage: Stage = "ir",
    layer: LayerName = None,
    sets: Sets = None,
    strategy: Strategy = "auto",
) -> None:
    """Any stage of the compiler, as text."""
    from seqdsl.commands.produce import show

    request = outcome.Request(file, layer, tuple(sets or ()), strategy)
    raise typer.Exit(outcome.guard(lambda: show(request, stage)))


@app.command(name="compile")
def compile_(
    file: File,
    layer: LayerName = None,
    sets: Sets = None,
    target: Target = "torch",
    strategy: Strategy = "auto",
    out: Out = None,
    json: Json = False,
    costs: Annotated[
        bool, typer.Option("--report", help="print what kernels cost on a GPU instead")
    ] = False,
    arch: Annotated[
        str, typer.Option(help="of --report: sm_80, sm_90, gfx942")
    ] = "sm_90",
    shape: Annotated[str, typer.Option(help="of --report: BATCHxTIME")] = "1x4096",
) -> None:
    """Write a standalone module (printed without -o)."""
    style = outcome.style(json)
    request = outcome.Request(file, layer, tuple(sets or ()), strategy)

    def run() -> int:
        if costs:
            from seqdsl.commands.costs import report

            return report(request, target, arch, shape, json)
        from seqdsl.commands.produce import compile_

        return compile_(request, target, out, json)

    raise typer.Exit(outcome.guard(run, style))


@app.command(name="test")
def test_(
    file: File,
    layer: LayerName = None,
    sets: Sets = None,
    target: Target = "torch",
    strategy: Strategy = "auto",
    seed: Annotated[int, typer.Option(help="of the random examples")] = 0,
    examples: Annotated[int, typer.Option(help="a property, at most")] = 20,
    names: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="NAME", help="only this; may be repeated"),
    ] = None,
    case: Annotated[
        str | None,
        typer.Option("--case", metavar="CASE", help="one case, as a failure prints it"),
    ] = None,
    json: Json = False,
) -> None:
    """Check a layer's properties against its meaning."""

    def run() -> int:
        from seqdsl.commands.properties import test

        chosen = tuple(names or ())
        return test(request, target, seed, examples, chosen, case, json)

    request = outcome.Request(file, layer, tuple(sets or ()), strategy)
    raise typer.Exit(outcome.guard(run, outcome.style(json)))


@app.command()
def bench(
    files: Files,
    layer: LayerName = None,
    sets: Sets = None,
    batch: Annotated[int, typer.Option(help="sequences")] = 2,
    time: Annotated[int, typer.Option(help="steps of each")] = 1024,
    rounds: Annotated[int, typer.Option(help="the median of how many")] = 5,
    clock: Annotated[str, typer.Option(help="wall, or cpu on a busy machine")] = "wall",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="table, JSON, plot"),
    ] = None,
    json: Json = False,
) -> None:
    """Time and memory of every way to run a layer, beside peers."""

    def run() -> int:
        from seqdsl.bench.layer import Setting
        from seqdsl.commands.bench import bench

        setting = Setting(batch, time, rounds, clock)
        return bench(files, layer, tuple(sets or ()), setting, out, json)

    raise typer.Exit(outcome.guard(run, outcome.style(json)))


@app.command()
def viz(
    file: File,
    out: Out = None,
    layer: LayerName = None,
    sets: Sets = None,
) -> None:
    """Draw states and the flow of values, as SVG."""
    from seqdsl.commands.produce import viz

    request = outcome.Request(file, layer, tuple(sets or ()))
    raise typer.Exit(outcome.guard(lambda: viz(request, out)))


@app.command()
def fmt(
    files: Files,
    check: Annotated[bool, typer.Option("--check", help="change nothing")] = False,
    json: Json = False,
) -> None:
    """Rewrite specs in the standard format."""
    from seqdsl.commands.files import fmt

    style = outcome.style(json)
    raise typer.Exit(outcome.guard(lambda: fmt(files, check, json), style))


@app.command(name="list")
def list_(
    pattern: Annotated[str, typer.Argument(help="part of a name or summary")] = "",
    json: Json = False,
) -> None:
    """The standard library, one line a layer."""
    from seqdsl.commands.library import list_

    raise typer.Exit(outcome.guard(lambda: list_(pattern, json)))


@app.command()
def gallery(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR")],
    pattern: Annotated[str, typer.Argument(help="part of a name or summary")] = "",
    parity: Annotated[
        Path | None,
        typer.Option(
            "--parity", metavar="FILE", help="errors against published code, as JSON"
        ),
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option("--bench", metavar="FILE", help="rows of a benchmark, as JSON"),
    ] = None,
) -> None:
    """Pages about the standard library: spec, verdict, picture, module, parity."""
    from seqdsl.commands.gallery import gallery

    code = outcome.guard(lambda: gallery(pattern, out, parity, bench))
    raise typer.Exit(code)


@app.command()
def new(name: Annotated[str, typer.Argument(help="my_layer: no suffix")]) -> None:
    """A starter spec with its test, in the current folder."""
    from seqdsl.commands.files import new

    raise typer.Exit(outcome.guard(lambda: new(name)))


@app.command(name="cache")
def cache_(
    clear: Annotated[bool, typer.Option("--clear", help="remove them all")] = False,
    json: Json = False,
) -> None:
    """Where compiled kernels are kept, and how much that is."""
    from seqdsl.commands.kept import cache_

    raise typer.Exit(outcome.guard(lambda: cache_(clear, json)))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print it")] = False,
) -> None:
    if version:
        from seqdsl import __version__

        print(f"seqdsl {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line on `sys.argv`; the console script's entry point."""
    for stream in (sys.stdout, sys.stderr):
        # text of a spec may hold what an old terminal's encoding cannot
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except BrokenPipeError:
        # the reader of a pipe has left; nothing more may be written on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(outcome.OK)
