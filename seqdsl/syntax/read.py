"""Files to `Source`."""

from __future__ import annotations

from pathlib import Path

from seqdsl.source import Source


def read(path: Path, name: str | None = None) -> Source:
    """The text of a file, as it is on disk; bytes that are not UTF-8 become U+FFFD.

    `parse` reports those, so that a damaged file fails like any other wrong spec.
    """
    return Source(name or str(path), path.read_bytes().decode("utf-8", "replace"))
