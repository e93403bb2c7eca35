"""How every command ends: what is printed, and the exit code."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from seqdsl import driver, report
from seqdsl.diagnostics import CallError, Diagnostic, SpecError, UnsupportedError
from seqdsl.elaborate import Elaborated, elaborate
from seqdsl.ir.sizes import Scalar
from seqdsl.report import Style
from seqdsl.terminal import visible

OK = 0
WRONG_SPEC = 1
WRONG_CALL = 2


@dataclass(frozen=True)
class Request:
    """Which layer of which file, under which options."""

    file: str
    layer: str | None = None
    sets: tuple[str, ...] = ()
    strategy: str = "auto"

    @property
    def given(self) -> Mapping[str, Scalar]:
        """The options given with `--set`; raises `CallError` for other text."""
        return dict(map(assignment, self.sets))


def assignment(text: str) -> tuple[str, Scalar]:
    """`D=64` as name and value; raises `CallError` where it is something else."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name.isidentifier() or not value:
        raise CallError(f"--set takes NAME=VALUE, such as --set D=64, not `{text}`")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value.strip('"')


def style(json: bool, short: bool = False) -> Style:
    """How diagnostics are to be shown."""
    return "json" if json else "short" if short else "full"


def guard(run: Callable[[], int], style: Style = "full") -> int:
    """The exit code of `run`, with what it raises reported in the user's terms."""
    try:
        return run()
    except SpecError as error:
        if style == "json":
            print_json({"diagnostics": [report.to_json(d) for d in error.diagnostics]})
        else:
            report.show(error.diagnostics, style)
        return code_of(error.diagnostics)
    except (CallError, UnsupportedError) as error:
        return _refuse(str(error), style)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return _refuse(f"{where}{error.strerror or error}", style)


def _refuse(message: str, style: Style) -> int:
    if style == "json":
        print_json({"diagnostics": [], "error": message})
    else:
        print(f"seqdsl: {visible(message)}", file=sys.stderr)
    return WRONG_CALL


def code_of(diagnostics: tuple[Diagnostic, ...]) -> int:
    """The exit code for findings: E05xx blame the options given, not the spec."""
    errors = [d for d in diagnostics if d.is_error]
    if not errors:
        return OK
    blame_call = all(d.code.startswith("E05") for d in errors)
    return WRONG_CALL if blame_call else WRONG_SPEC


def print_json(value: object) -> None:
    """`value` on standard output; infinities become strings, as JSON has none."""
    print(json.dumps(value, indent=2, allow_nan=False))


def choose_layer(layers: tuple[str, ...], wanted: str | None, file: str) -> str:
    """The layer that was asked for, or the last; raises `CallError` without one."""
    if not layers:
        raise CallError(f"{file} has no layer")
    if wanted is None:
        return layers[-1]
    if wanted not in layers:
        close = get_close_matches(wanted, layers, 1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(layers)}"
        raise CallError(f"{file} has no layer {wanted}; {hint}")
    return wanted


def elaborate_request(request: Request) -> Elaborated:
    """The model of the layer that a command was asked about."""
    program, named = driver.load(request.file)
    layer = choose_layer(program.layers, request.layer or named, request.file)
    return elaborate(program, layer, request.given)


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all; raises `OSError`."""
    if path.is_symlink() or path.exists() and not path.is_file():
        # a link keeps its target, and a device such as /dev/null is written to
        path.write_text(text, "utf-8")
        return
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mode = path.stat().st_mode if path.exists() else 0o666 & ~_umask()
        os.chmod(name, mode & 0o7777)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
