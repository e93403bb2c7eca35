"""Everything that a spec may consist of, found without parsing it."""

from __future__ import annotations

import re
from pathlib import Path

from seqdsl.source import Source
from seqdsl.syntax.read import read

_IMPORT = re.compile(r"\bimport\s+(\w+(?:\s*\.\s*\w+)*)")


def closure(source: Source, root: Path | None) -> tuple[str, ...]:
    """Names, places and texts of a file and of the files that it may import from `root`.

    More may be listed than is imported, as what looks like an import in a comment; the
    standard library is not. A file that is not there is listed without a text.
    """
    found: dict[str, str] = {}
    waiting = [source]
    while waiting:
        this = waiting.pop()
        found[this.name] = this.text
        for path in _IMPORT.findall(this.text):
            parts = re.split(r"\s*\.\s*", path)
            if parts[0] == "std" or root is None:
                continue
            place = root.joinpath(*parts).with_suffix(".seq")
            if str(place) not in found:
                found[str(place)] = ""
                waiting += _read(place, found)
    return tuple(part for item in found.items() for part in item)


def _read(place: Path, found: dict[str, str]) -> list[Source]:
    """The file at `place`, if there is one; links are noted by where they lead."""
    try:
        real = place.resolve()
        found[f"{place} is"] = str(real)
        return [read(real, str(place))]
    except OSError:
        return []
