"""The corpus of passing specs: what its `#!` comments say about running a layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seqdsl.ir.sizes import Scalar
from seqdsl.syntax import ast

_LINE = re.compile(r"#!\s*(\w+)(?:\s+(\w+))?\s*:\s*(.*)")
_DEFAULT_RANGE = (0, 2)


@dataclass(frozen=True)
class Directives:
    """What the `#!` comments of one file say.

    `options` and `ranges` are by layer; the key "" holds for every layer of the file.
    A range is half-open and its ends are whole numbers or names of options.
    """

    options: Mapping[str, Mapping[str, Scalar]]
    ranges: Mapping[str, Mapping[str, tuple[str, str]]]
    externs: tuple[str, ...]

    def options_for(self, layer: ast.LayerDecl) -> dict[str, Scalar]:
        """Small values for the options of `layer` that the file names."""
        known = {o.name for o in layer.options} | {b.id for b in layer.brackets}
        given = {**self.options.get("", {}), **self.options.get(layer.name, {})}
        return {name: value for name, value in given.items() if name in known}

    def range_for(
        self, layer: str, name: str, options: Mapping[str, Scalar]
    ) -> tuple[int, int]:
        """From where to where (exclusive) the int input `name` of `layer` is drawn."""
        given = {**self.ranges.get("", {}), **self.ranges.get(layer, {})}
        if name not in given:
            return _DEFAULT_RANGE
        low, high = (_end(text, options) for text in given[name])
        return low, high


def read_directives(text: str) -> Directives:
    """The `#!` comments of a spec.

    Raises `ValueError` for a comment of that form which says something else.
    """
    options: dict[str, dict[str, Scalar]] = {}
    ranges: dict[str, dict[str, tuple[str, str]]] = {}
    externs: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#!"):
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            raise ValueError(f"not a directive: {line}")
        kind, layer, rest = match.group(1), match.group(2) or "", match.group(3)
        entries = [part.strip() for part in rest.split(",") if part.strip()]
        match kind:
            case "options":
                pairs = (_pair(e) for e in entries)
                found = {name: _scalar(value) for name, value in pairs}
                options.setdefault(layer, {}).update(found)
            case "ranges":
                for name, value in map(_pair, entries):
                    low, _, high = value.partition("..")
                    ranges.setdefault(layer, {})[name] = (low, high)
            case "externs":
                externs += entries
            case _:
                raise ValueError(f"unknown directive: {line}")
    return Directives(options, ranges, tuple(externs))


def passing_specs(folder: Path) -> tuple[Path, ...]:
    """The specs of a folder in the order of their names."""
    return tuple(sorted(folder.glob("*.seq")))


def _pair(entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not equals:
        raise ValueError(f"not of the form name=value: {entry}")
    return name.strip(), value.strip()


def _scalar(text: str) -> Scalar:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"') and text.endswith('"'):
        return text[1:-1]
    return float(text) if "." in text or "e" in text else int(text)


def _end(text: str, options: Mapping[str, Scalar]) -> int:
    value = options[text] if text in options else int(text)
    if not isinstance(value, int):
        raise TypeError(f"{text} is not a whole number")
    return value
