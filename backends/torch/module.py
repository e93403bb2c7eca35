"""A torch file as data: nothing is left to decide when it is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TorchClass:
    """One class: `doc` are the lines of its docstring, `methods` those of its body."""

    name: str
    doc: tuple[str, ...]
    methods: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TorchResult:
    """A named tuple for a layer with several outputs."""

    name: str
    doc: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class TorchModule:
    """A file: functions it carries along, result types, classes; the last is the layer.

    `main` names the class of the layer that was compiled.
    """

    title: str
    imports: tuple[str, ...]
    helpers: tuple[str, ...]
    results: tuple[TorchResult, ...]
    classes: tuple[TorchClass, ...]
    main: str


@dataclass(frozen=True)
class Artifact:
    """Generated files by name, and the entry points in them."""

    files: Mapping[str, str]
    main: str
    entry: str

    @property
    def text(self) -> str:
        """The text of the file that holds the entry point."""
        return self.files[self.main]
