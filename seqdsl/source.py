"""Text of a spec and spans into it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Source:
    """One file's name and text; spans point into it."""

    name: str
    text: str = field(repr=False)

    @cached_property
    def line_starts(self) -> tuple[int, ...]:
        """Offset at which each line begins."""
        starts = [0]
        starts.extend(i + 1 for i, char in enumerate(self.text) if char == "\n")
        return tuple(starts)

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both counted from 1."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """Text of line `number` (from 1) without its line break."""
        start = self.line_starts[number - 1]
        end = (
            self.line_starts[number]
            if number < len(self.line_starts)
            else len(self.text)
        )
        return self.text[start:end].rstrip("\r\n")


@dataclass(frozen=True)
class Span:
    """A half-open range `[start, end)` of a source's text."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        """First line, from 1."""
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        """First column, from 1."""
        return self.source.position(self.start)[1]

    @property
    def end_line(self) -> int:
        """Last line, from 1."""
        return self.source.position(max(self.start, self.end - 1))[0]

    @property
    def end_column(self) -> int:
        """Column just past the last character, from 1."""
        return self.source.position(max(self.start, self.end - 1))[1] + 1

    @property
    def text(self) -> str:
        """The characters covered."""
        return self.source.text[self.start : self.end]

    def join(self, other: Span) -> Span:
        """The smallest span that covers both; `self` where they differ in source."""
        if other.source is not self.source:
            return self
        return Span(self.source, min(self.start, other.start), max(self.end, other.end))


BUILTIN = Source("<seqdsl>", "")
NOWHERE = Span(BUILTIN, 0, 0)
