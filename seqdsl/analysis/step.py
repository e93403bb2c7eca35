"""A line of a derivation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What a line is, its text, and the line of the spec it comes from."""

    lead: str
    text: str
    line: int | None = None

    def to_json(self) -> dict[str, str | int | None]:
        """The line as `explain --json` prints it."""
        return {"step": self.lead, "text": self.text, "line": self.line}
