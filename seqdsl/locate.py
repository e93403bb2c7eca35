"""What a command's FILE means: a path, or a part of the standard library."""

from __future__ import annotations

from pathlib import Path

from seqdsl.diagnostics import CallError
from seqdsl.elaborate import Program, load_file, load_std
from seqdsl.elaborate.program import std_names, std_source, suggest


def locate(name: str) -> tuple[Program, str | None]:
    """The program that `FILE`, `FILE:Layer`, `std.gla` or `std.gla:GLA` names.

    The second value is the layer that was named. Raises `OSError` where the file cannot
    be read, `CallError` for an unknown `std.…`, `SpecError` where the file is wrong.
    """
    path, layer = name, None
    if ":" in name and not Path(name).exists():
        path, _, layer = name.rpartition(":")
    if path.startswith("std.") and not Path(path).exists():
        short = path.removeprefix("std.")
        if std_source(short) is None:
            hint = suggest(short, list(std_names())) or "see `seqdsl list`"
            raise CallError(f"the standard library has no `{short}`; {hint}")
        return load_std(short), layer
    return load_file(Path(path)), layer
